"""The command `lrsclip evaluate`, also `python -m eval.suite`: all that saved embeddings allow, and one report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.command import add_subject, command_line, path, whole_number
from eval.embeddings import find_sets
from eval.errors import InputError, cli, nearest
from eval.leaks import read_leaks
from eval.lock import alone
from eval.output import check_folder
from eval.whole import write_text

_EPILOG = """\
examples:
  lrsclip evaluate embeddings --out=evaluation
      all sets at or below the folder embeddings; then open evaluation/report.html
  lrsclip evaluate ours/rsitmd theirs/rsitmd --out=evaluation --only=retrieval,length
      two sets, two tasks; results of other tasks that evaluation holds already stay in the report
  lrsclip evaluate embeddings --leaks=leaks --out=evaluation
      retrieval and zero-shot twice: on all images, and without those that lrsclip leaks found near training images

tasks, and what a set must hold for each (eval/embeddings.py describes sets; `lrsclip embed` makes them):
  retrieval     images, and long or short texts of them
  length        such texts, cut to n tokens as well (embed --text-lengths=…): R@1 against n
  sentences     such texts, edited by sentences as well (embed --sentences=10): HiMo@K, whether the score rises with
                every sentence; R@1 with the sentences shuffled, and without the first one
  negatives     such texts with one fact changed as well (embed --negatives): how often the text scores above that
  text_lengths  texts that tell how many tokens they have
  zeroshot      images with labels, texts of classes; with several templates both ways to average them
  linear_probe  images with labels; so knn and few_shot. --probes=itra adds RemoteCLIP's protocol
  selo          windows of scenes, and queries with the regions that they speak of (semantic localisation)

Where images carry several splits and one is "test", retrieval, length, sentences, negatives and zeroshot are of
the test images.
Models are told apart by `model` in meta.json; each has its own row and curve.

in --out:
  report.html   one page: measured results next to the published ones, plots, galleries, maps
  results.csv   every number in a row: model, dataset, split, features, task, metric, value
  results/      MODEL/DATASET/TASK.json
  splits/       train, validation and test images of the probes

Started again, it measures what is missing, damaged, or of a changed set, for probes also of another --seed. A set that
can't be read and a task that fails are reported in one line each, and the others are measured.

exit status: 0 all is measured, 2 bad input (all the rest is measured), 1 a defect of the suite (with its traceback)
"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m eval.suite") -> int:
    """Runs the suite as the command line says, prints what came out, and returns the exit status."""
    options = _parse(arguments, prog)
    paths = list(dict.fromkeys(path for root in options.sets for path in find_sets(root)))
    # scikit-learn and OpenCV are loaded here: --help and a wrong path should not wait for them.
    from eval.suite import result_files, suite_page, task_runs
    from eval.suite.tasks import NAMES

    only = [name for name in options.only.split(",") if name]
    for name in only:
        if name not in NAMES:
            raise InputError(f"--only={name}: no task{nearest(name, NAMES)} (known: {', '.join(NAMES)})")
    leaks = read_leaks(options.leaks) if options.leaks else {}
    out: Path = check_folder(options.out, result_files.is_evaluation)
    with alone(out, prog):
        outcome = task_runs.run(paths, out, only, options.seed, options.processes, options.probes == "itra", leaks)
        if outcome.results:
            write_text(out / result_files.TABLE, result_files.csv_of(outcome.results))
            write_text(out / "report.html", suite_page.compose(outcome))
    if outcome.results:
        print(*suite_page.score_lines(outcome.results), sep="\n")
        print(f"{len(outcome.results)} results, {outcome.reused} of them from before: {out}/report.html")
    for line in (*outcome.defects, *(f"note: {line}" for line in outcome.remarks)):
        print(line, file=sys.stderr)
    for line in outcome.failures:
        print(f"error: {line}", file=sys.stderr)
    if not outcome.results and not outcome.failures:
        wanted = options.only or "any task"
        raise InputError(f"no set at or below {', '.join(options.sets)} has what {wanted} needs: --help lists it")
    return 1 if outcome.defects else 2 if outcome.failures else 0


def _parse(arguments: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = command_line(
        prog,
        "Runs every evaluation that the found embedding sets allow, and writes results and a report.",
        _EPILOG,
        usage="SETS … --out=DIR [options]",
    )
    add_subject(parser, "sets", metavar="SETS", help="folders: all embedding sets at or below are evaluated", many=True)
    parser.add_argument("--out", required=True, type=path, metavar="DIR", help="where results and the report go")
    parser.add_argument("--only", default="", metavar="TASK,…", help="measure these tasks alone")
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="of splits, few-shot draws and random images (0)",
    )
    parser.add_argument(
        "--probes",
        choices=("itra",),
        help="also linear_probe and knn as ITRA, RemoteCLIP's code, has them: the last fifth of each class's files is "
        "tested; a linear layer by SGD, its best epoch on the test images; weighted vote",
    )
    parser.add_argument(
        "--leaks",
        type=path,
        metavar="PATH",
        help="folder or file of lrsclip leaks: retrieval and zeroshot also without the images near training images, "
        "next to as many images at random",
    )
    parser.add_argument(
        "--processes",
        type=whole_number(1, 2**12),
        default=os.cpu_count(),
        metavar="N",
        help="tasks at a time (one for each core)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    cli(main)
