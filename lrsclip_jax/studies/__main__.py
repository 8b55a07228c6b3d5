"""The command `lrsclip study`: variants of a recipe times seeds in, one table with intervals and verdicts out."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.command import add_subject, command_line, expanded, path, whole_number
from lrsclip_jax import config as configs
from lrsclip_jax.errors import cli

_EPILOG = """\
examples:
  lrsclip study loss_weights --workdir=studies
      the miniature of Fig. 10: a small model on procedural scenes, two minutes a run on two cores
  lrsclip study loss_weights:DATA --workdir=studies --dry-run --chip=H100-SXM
      the paper's size: commands, pairs and hours; lrsclip_jax/studies/settings.py says what DATA holds
  lrsclip study loss_weights --workdir=studies --config=aid_rsicd:DATA --only=9:1,8:2,1:9 -- --config.epochs=0.5
      the same variants of another recipe, measured on its eval.sources
  lrsclip study my_study.py --workdir=studies --shard=2/8
      the second of eight equal parts, for a job array (launch/study.sh)

studies:
  batch_size (Fig. 7)  subset_size (Fig. 8)  pcm (Table VI)  text_kinds (Table VII)  model_size (Fig. 9)
  first_sentence (Table VIII)  loss_weights (Fig. 10)  initialisation (Table IX)  stretching (KPS)
  rsclip_baselines (RSCLIP's Tables I and II)  turns (images turned with their texts)

in --workdir:
  runs/KEY/            a training, its embedding sets and its scores; studies that need the same one share it
  STUDY/study.html     one page: the table, intervals, verdicts, plots
  STUDY/table.csv      a row for each variant and score; seeds.csv has a row for each seed, results.json all of it
  STUDY/sets/          the embedding sets, each with its row of the study in meta.json, for `lrsclip evaluate`

Started again, it trains and measures what is missing. A run that fails is reported, and the others are finished.

exit status: 0 all is there, 2 bad input, or some runs failed (the others are finished)
"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.studies") -> int:
    """Runs the study that the command line names, and returns the exit status."""
    options, overrides = _parse(sys.argv[1:] if arguments is None else arguments, prog)
    from lrsclip_jax.studies import study, study_file, study_folder, trainings

    study_folder.check_workdir(options.workdir)
    name, loaded = study_file.load(options.study)
    if options.config:
        setting = study.Setting(options.config)
        loaded = dataclasses.replace(loaded, setting=setting)
    plan = trainings.planned(name, loaded, options.study, overrides, options.seeds)
    wanted = {variant.name for variant in study.chosen(loaded, study.names_in(options.only, loaded))}
    cells = [cell for cell in plan.cells if cell.variant.name in wanted]
    first, of = options.shard
    shard = cells[first - 1 :: of]
    if options.dry_run:
        from lrsclip_jax.studies import accounts

        print("\n".join(accounts.lines(plan, shard, options.workdir, options.chip)))
        return 0
    return _run(plan, shard, cells, options.workdir)


def _run(plan, shard, cells, workdir: Path) -> int:
    from eval.whole import write_text
    from lrsclip_jax.studies import outputs, own_sets, page, results, running, study_folder

    running.end_at_sigterm()
    folder = study_folder.claim(plan, workdir)
    failures = running.run(plan, workdir, shard)
    found = results.collected(plan, workdir)
    with running.free(folder):
        own_sets.link_sets(plan, shard, workdir, folder)
        outputs.write_results(found, folder, failures)
        write_text(folder / outputs.PAGE, page.compose(found, cells, failures))
    print("\n".join(page.text_lines(found, cells)))
    print(f"{folder / outputs.PAGE}")
    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    return 2 if failures else 0


def _parse(arguments: Sequence[str], prog: str) -> tuple[argparse.Namespace, list[str]]:
    parser = command_line(
        prog,
        "Trains and measures the variants of a study, and compares them with each other and with the paper.",
        _EPILOG,
        usage="STUDY --workdir=DIR [options] [-- --config.KEY=VALUE …]",
    )
    add_subject(parser, "study", metavar="STUDY", help="NAME[:DATA] or FILE.py[:DATA]")
    parser.add_argument(
        "--workdir", required=True, type=path, metavar="DIR", help="folder of all studies and their runs"
    )
    parser.add_argument(
        "--config",
        metavar="RECIPE",
        type=expanded,
        help="another base recipe; its eval.sources are measured",
    )
    parser.add_argument("--only", default="", metavar="NAME,…", help="run these variants alone")
    parser.add_argument(
        "--seeds", type=whole_number(1, 1000), metavar="N", help="trainings of each variant (the study's own number: 3)"
    )
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="run part I of N alone")
    parser.add_argument("--dry-run", action="store_true", help="print commands, pairs and hours, and start nothing")
    parser.add_argument("--chip", metavar="NAME", help="of --dry-run: hours on one such chip, such as H100-SXM")
    before, after = _split(list(arguments))
    options, rest = parser.parse_known_args(before)
    wrong = [argument for argument in rest if not argument.startswith("--config.")]
    if wrong:
        parser.refuse(options, wrong[0])  # type: ignore[attr-defined]
    return options, configs.overrides_of([*rest, *after])


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before "--", and those behind it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with 1 ≤ I ≤ N, such as 2/8, not {text[:40]}")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    cli(main)
