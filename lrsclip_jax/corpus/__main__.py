"""The command `lrsclip corpus`: builds corpora of captioned images, and looks at them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from eval.command import add_command, command_line, expanded, path
from eval.lock import alone
from eval.output import check_folder, check_place
from lrsclip_jax.errors import InputError, cli

_COMMANDS = """
  build RECIPE --out=DIR             reads sources, makes captions, filters, counts: DIR/corpus, DIR/statistics.html
  read KIND PATH --out=DIR           one source alone, as records
  statistics CORPUS --out=DIR        a page on any corpus: sources, lengths, words, licences
  export CORPUS --out=FILE.json      in the shape of LRS2M, its keys renamed by --keys; .jsonl: records as JSON lines

A corpus is a folder of Parquet files, or a .jsonl file of the same records. lrsclip prepare DIR/corpus
--out=PREPARED makes it a training set. --help after a command says more.
"""
_BUILD = """
RECIPE is NAME:ARGUMENT of lrsclip_jax/corpus/recipes: boxes, lrs2m, mosaics, ret, rsclip or rsitmd_l; or
FILE.py:ARGUMENT, a Python file with get_config(root), see lrsclip_jax/corpus/recipe_config.py. Ways:
  as-is       captions as they are               rules     captions from boxes, masks and labels, without a model
  merge       long and short texts of two sets   summarise long texts become short ones
  expand      short texts and the image become long ones
  anchor      labels and the image become long ones, and those short ones
  describe    RSCLIP's two prompts

examples:
  lrsclip corpus build lrs2m:DATA --out=corpora/lrs2m --config.seed=1
  lrsclip corpus build my_recipe.py --out=corpora/mine --config.duplicates=exact --config.texts.uses=50
  lrsclip corpus build my_recipe.py --out=corpora/mine --config.clip_score.embeddings=sets/mine \\
      --config.clip_score.top=0.3

Stopped at any moment, the same command continues, and no model is asked twice. Records that can't be used are set
aside with their reason, in .set_aside.jsonl of each stage. With other filters or further subsets the same command makes
the stages that differ again, and keeps the earlier results in DIR/earlier.
"""
_READ = """
kinds, with their own options:
{kinds}

examples:
  lrsclip corpus read captions rsicd.jsonl --out=rsicd --image-root=aid \\
      --keys short=captions label=cls image=cls/filename
  lrsclip corpus read masks labels/ --out=land --image-root=images --names 1=building 2=road --suffix=_mask
  lrsclip corpus read voc xml/ --out=trees --rename Dead="dead tree" Alive="living tree"
  lrsclip corpus read prepared prepared/rsicd --out=rsicd --only=train --extract-to=rsicd/images

Options stand behind KIND and PATH. Those that take pairs, such as 1=building, also take files with one on each line.
"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.corpus") -> None:
    """Does what the command line says."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options, rest = parser(prog, words[:1] == ["read"]).parse_known_args(words)
    if rest and options.run is not _build:
        raise InputError(f"unknown argument {rest[0]}")
    options.overrides = rest
    for client in ("httpx", "httpx2"):  # a line for each request
        logging.getLogger(client).setLevel(logging.WARNING)
    options.run(options)


def parser(prog: str, reading: bool) -> argparse.ArgumentParser:
    """Returns the command line of the program.

    Args:
      prog: the words by which the program was called.
      reading: whether `read` gets its options; they are the arguments of all readers, which take a while to import.
    """
    parse = command_line(
        prog,
        "Makes corpora of captioned images out of published images, labels and texts.",
        _COMMANDS,
        usage="build|read|statistics|export …",
    )
    commands = parse.add_subparsers(prog=prog, metavar="build|read|statistics|export", required=True)

    usage, summary = "RECIPE --out=DIR [--config.KEY=VALUE …] [options]", "builds a corpus by a recipe"
    add = add_command(commands, "build", _build, usage, summary, _BUILD).add_argument
    add("recipe", metavar="RECIPE", type=expanded, help="NAME[:ARG] or FILE.py[:ARG]; ARG is often the sources' folder")
    add("--out", metavar="DIR", required=True, type=path, help="folder of the corpus: new, or to be continued")
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: stages spread over a Ray cluster (RAY_ADDRESS)",
    )

    read = add_command(commands, "read", _read, "KIND PATH --out=DIR [options]", "reads one source as records")
    read.add_argument("kind", metavar="KIND", help="format of the source, see below")
    read.add_argument("path", metavar="PATH", type=expanded, help="of its file or folder")
    read.add_argument("--out", metavar="DIR", required=True, type=path, help="of the records: new, or to be continued")
    if reading:
        from lrsclip_jax.corpus.reading.reading_options import add_options, kinds_help

        read.epilog = _READ.format(kinds=kinds_help())
        add_options(read)

    usage, summary = "CORPUS --out=DIR [options]", "counts a corpus and writes a page on it"
    add = add_command(commands, "statistics", _statistics, usage, summary).add_argument
    add("corpus", metavar="CORPUS", type=path, help="a folder of Parquet files, or a .jsonl file")
    add("--out", metavar="DIR", required=True, type=path, help="folder of statistics.html, .json and table.csv")
    add("--tagger", metavar="spacy:MODEL", help="tells content words by their sentence; a list does without it")

    usage, summary = "CORPUS --out=FILE [options]", "writes a corpus as JSON"
    add = add_command(commands, "export", _export, usage, summary).add_argument
    add("corpus", metavar="CORPUS", type=path, help="a folder of Parquet files, or a .jsonl file")
    add("--out", metavar="FILE", required=True, type=path, help=".json, in the shape of LRS2M, or .jsonl")
    add(
        "--keys",
        metavar="NAME=KEY",
        nargs="+",
        action="extend",
        default=[],
        help="of a .json file: other keys than image, long, short, source, label, licence and split; corpus read lrs2m "
        "takes the same option",
    )
    add("--image-root", metavar="DIR", type=path, help="of a .json file: folder that paths of images are relative to")
    add("--allow-unknown-licences", action="store_true", help="also records whose licence nobody has stated")
    return parse


def _build(options: argparse.Namespace) -> None:
    from lrsclip_jax import config as configs
    from lrsclip_jax.corpus.build import build
    from lrsclip_jax.corpus.recipe_config import RECIPES

    config = configs.load(options.recipe, configs.overrides_of(options.overrides), RECIPES, option="")
    print("\n".join(build(config, options.out, options.engine)))
    print(f"\n{options.out}/corpus, {options.out}/statistics.html")


def _read(options: argparse.Namespace) -> None:
    from lrsclip_jax.corpus.reading import read_source
    from lrsclip_jax.corpus.reading.reading_options import given_options
    from lrsclip_jax.corpus.stages.stage import is_stage, run_stage, said

    given = given_options(options)
    settings = {"kind": options.kind, "path": options.path, **given}
    check_folder(options.out, is_stage)
    with alone(options.out, "lrsclip corpus read"):
        counts = run_stage(options.out, lambda: read_source(options.kind, options.path, **given), iter, settings)
    print(f"{options.out}: {said(counts)}")


def _statistics(options: argparse.Namespace) -> None:
    from lrsclip_jax.corpus.statistics.content_words import load_tagger
    from lrsclip_jax.corpus.statistics.statistics_files import has_statistics, write_statistics

    check_folder(options.out, has_statistics)
    tagger = load_tagger(options.tagger) if options.tagger else None
    print("\n".join(write_statistics(options.corpus, options.out, tagger=tagger)))
    print(f"\n{options.out}/statistics.html")


def _export(options: argparse.Namespace) -> None:
    from lrsclip_jax.corpus.hygiene.licences import check_licences
    from lrsclip_jax.corpus.lrs2m_export import export_lrs2m
    from lrsclip_jax.corpus.reading.reading_options import pairs
    from lrsclip_jax.corpus.records import store

    if options.out.suffix not in (".json", ".jsonl"):
        raise InputError(f"--out={options.out}: a .json or a .jsonl file is expected")
    check_place(options.out)
    if options.out.is_dir() or not options.out.absolute().parent.is_dir():
        missing = "is a folder, a file is expected" if options.out.is_dir() else "is in a folder that is missing"
        raise InputError(f"--out={options.out} {missing}")
    if options.out.suffix == ".jsonl" and (options.keys or options.image_root):
        raise InputError("--keys and --image-root are of .json files: a .jsonl file holds records as they are")
    try:
        keys = pairs(options.keys)
    except InputError as error:
        raise InputError(f"--keys: {error}") from None
    allowed = options.allow_unknown_licences, "--allow-unknown-licences"
    check_licences(store.read(options.corpus, ["licence"]), *allowed)
    records = store.read(options.corpus)
    if options.out.suffix == ".json":
        count = export_lrs2m(records, options.out, keys, options.image_root)
    else:
        count = store.write_lines(options.out, records)
    print(f"{options.out}: {count:,} records")


if __name__ == "__main__":
    cli(main)
