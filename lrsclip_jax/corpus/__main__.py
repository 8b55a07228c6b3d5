"""The command python -m lrsclip_jax.corpus: builds corpora of captioned images, and looks at them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from lrsclip_jax import config as configs
from lrsclip_jax.corpus.sources.options import add_options, given_options, kinds_help
from lrsclip_jax.errors import InputError, cli

_COMMANDS = """
  build RECIPE.py:ROOT --out=DIR     reads sources, makes captions, filters, counts: DIR/corpus, DIR/statistics.html
  read KIND PATH --out=DIR           one source alone, as records
  statistics CORPUS --out=DIR        a page on any corpus: sources, lengths, words, licences
  export CORPUS --out=FILE.json      in the shape of LRS2M; .jsonl: records as JSON lines

A corpus is a folder of Parquet files, or a .jsonl file of the same records. python -m lrsclip_jax.data.prepare
DIR/corpus --out=PREPARED makes it a training set. --help after a command says more.
"""
_BUILD = """
A recipe is a Python file with get_config(root), see lrsclip_jax/corpus/recipe_config.py and lrsclip_jax/corpus/recipes. Ways:
  as-is       captions as they are               rules     captions from boxes, masks and labels, without a model
  merge       long and short texts of two sets   summarise long texts become short ones
  expand      short texts and the image become long ones
  anchor      labels and the image become long ones, and those short ones
  describe    RSCLIP's two prompts

examples:
  build lrsclip_jax/corpus/recipes/lrs2m.py:DATA --out=corpora/lrs2m --config.seed=1
  build my_recipe.py --out=corpora/mine --config.duplicates=exact --config.texts.uses=50
  build my_recipe.py --out=corpora/mine --config.clip_score.embeddings=sets/mine --config.clip_score.top=0.3

Stopped at any moment, the same command goes on, and no model is asked twice. Records that can't be used are set aside
with their reason, in set_aside.jsonl of each stage. With other filters or further subsets the same command makes again
what differs, and keeps what was there in DIR/earlier.
"""
_READ = """
kinds, with their own options:
{kinds}

examples:
  read captions rsicd.jsonl --out=rsicd --keys short=captions label=cls image=cls/filename --image-root=aid
  read masks labels/ --out=land --image-root=images --names 1=building 2=road --suffix=_mask
  read voc xml/ --out=trees --rename Dead="dead tree" Alive="living tree"
  read prepared prepared/rsicd --out=rsicd --only=train --extract-to=rsicd/images

Options stand behind KIND and PATH. Those that take pairs, such as 1=building, also take files with one on each line.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Does what the command line says."""
    options, rest = parser().parse_known_args(arguments)
    if rest and options.run is not _build:
        raise InputError(f"unknown argument {rest[0]}")
    options.overrides = rest
    for client in ("httpx", "httpx2"):  # a line for each request
        logging.getLogger(client).setLevel(logging.WARNING)
    options.run(options)


def parser() -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = argparse.ArgumentParser(
        prog="python -m lrsclip_jax.corpus",
        description="Makes corpora of captioned images out of published images, labels and texts.",
        epilog=_COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parse.add_subparsers(metavar="build|read|statistics|export", required=True)

    def command(name: str, run, summary: str, epilog: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(run=run)
        return added

    add = command("build", _build, "builds a corpus by a recipe", _BUILD).add_argument
    add("recipe", metavar="RECIPE.py[:ROOT]", help="what to build; ROOT is the folder of its sources")
    add("--out", metavar="DIR", required=True, type=Path, help="folder of the corpus: new, or to be continued")
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: stages spread over a Ray cluster (RAY_ADDRESS)",
    )

    read = command("read", _read, "reads one source as records", _READ.format(kinds=kinds_help()))
    read.usage = "%(prog)s KIND PATH --out=DIR [options]"
    read.add_argument("kind", metavar="KIND", help="format of the source, see below")
    read.add_argument("path", metavar="PATH", help="of its file or folder")
    read.add_argument("--out", metavar="DIR", required=True, type=Path, help="of the records: new, or to be continued")
    add_options(read)

    add = command("statistics", _statistics, "counts a corpus and writes a page on it").add_argument
    add("corpus", metavar="CORPUS", type=Path, help="a folder of Parquet files, or a .jsonl file")
    add("--out", metavar="DIR", required=True, type=Path, help="folder of statistics.html, .json and table.csv")
    add("--tagger", metavar="spacy:MODEL", help="tells content words by their sentence; a list does without it")

    add = command("export", _export, "writes a corpus as JSON").add_argument
    add("corpus", metavar="CORPUS", type=Path, help="a folder of Parquet files, or a .jsonl file")
    add("--out", metavar="FILE", required=True, type=Path, help=".json, in the shape of LRS2M, or .jsonl")
    add("--allow-unknown-licences", action="store_true", help="also records whose licence nobody has stated")
    return parse


def _build(options: argparse.Namespace) -> None:
    from lrsclip_jax.corpus.build import build

    config = configs.load(options.recipe, configs.overrides_of(options.overrides), training=False)
    print("\n".join(build(config, options.out, options.engine)))
    print(f"\n{options.out}/corpus, {options.out}/statistics.html")


def _read(options: argparse.Namespace) -> None:
    from lrsclip_jax.corpus.sources import read_source
    from lrsclip_jax.corpus.stages.stage import run_stage

    given = given_options(options)
    settings = {"kind": options.kind, "path": options.path, **given}
    counts = run_stage(options.out, lambda: read_source(options.kind, options.path, **given), iter, settings)
    print(f"{options.out}: {counts['kept']:,} records, {counts['set aside']:,} set aside")


def _statistics(options: argparse.Namespace) -> None:
    from lrsclip_jax.corpus.statistics.statistics_files import write_statistics
    from lrsclip_jax.corpus.statistics.taggers import load_tagger

    tagger = load_tagger(options.tagger) if options.tagger else None
    print("\n".join(write_statistics(options.corpus, options.out, tagger=tagger)))
    print(f"\n{options.out}/statistics.html")


def _export(options: argparse.Namespace) -> None:
    from lrsclip_jax.corpus.hygiene.licences import check_licences
    from lrsclip_jax.corpus.records import store
    from lrsclip_jax.corpus.sources import export_lrs2m

    if options.out.suffix not in (".json", ".jsonl"):
        raise InputError(f"--out={options.out}: a .json or a .jsonl file is expected")
    check_licences(store.read(options.corpus, ["licence"]), options.allow_unknown_licences)
    write = export_lrs2m if options.out.suffix == ".json" else lambda records, path: store.write_lines(path, records)
    print(f"{options.out}: {write(store.read(options.corpus), options.out):,} records")


if __name__ == "__main__":
    cli(main)
