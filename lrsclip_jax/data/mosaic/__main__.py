"""The command `lrsclip mosaic`: images with short captions in, mosaics of them with long captions out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from eval.command import command_line, expanded, path, whole_number
from lrsclip_jax.data.mosaic.mosaic_text import MAX_TOKENS
from lrsclip_jax.errors import InputError, cli

EXAMPLES = """\
examples:
  lrsclip mosaic prepared/rsicd --out=prepared/mosaics
  lrsclip mosaic prepared/rsicd --split=test --n=2 --size=224 --count=500 --out=prepared/mosaics
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Makes a prepared set of n×n mosaics out of one split of a prepared set.",
        EXAMPLES,
        usage="PREPARED --out=DIR [options]",
    )
    parse.add_argument("prepared", metavar="PREPARED", type=expanded, help="folder of a prepared set with captions")
    parse.add_argument("--out", required=True, metavar="DIR", type=path, help="folder of the mosaics")
    parse.add_argument("--split", default="train", help="split whose images are tiles (%(default)s)")
    parse.add_argument("--n", type=whole_number(2, 100), default=3, help="tiles in a row (%(default)s)")
    parse.add_argument("--count", type=whole_number(1), help="mosaics (default: every image about once)")
    parse.add_argument(
        "--size", type=whole_number(1, 2**14), default=384, help="side of a mosaic in pixels, at most (%(default)s)"
    )
    parse.add_argument("--seed", type=whole_number(), default=0, help="which mosaics (%(default)s)")
    parse.add_argument(
        "--max-tokens",
        type=whole_number(2, 2**16),
        default=MAX_TOKENS,
        help="longest caption in CLIP tokens (%(default)s)",
    )
    parse.add_argument(
        "--summary",
        action="store_true",
        help="long captions that begin with a summary of the labels, and have a sentence for each tile",
    )
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.data.mosaic") -> None:
    """Writes the mosaics that the command line asks for."""
    flags = parser(prog).parse_args(arguments)
    # TFDS and a tokenizer, for which --help should not wait.
    from lrsclip_jax.data.mosaic.mosaic_writer import check_out, write_mosaics
    from lrsclip_jax.data.prepared.records import RecordReader

    records = RecordReader(flags.prepared, flags.split)
    if records.band_set():
        raise InputError(f"{flags.prepared} holds images of bands, and mosaics are made of RGB images")
    check_out(flags.out)
    count = flags.count or max(1, len(records) // flags.n**2)
    try:
        write_mosaics(records, flags.out, flags.n, count, flags.size, flags.seed, flags.max_tokens, flags.summary)
    except OSError as error:
        raise InputError(f"can't write {flags.out}: {error}") from None
    print(f"{flags.out}: {count:,} mosaics of {flags.n}×{flags.n} tiles, split {flags.split}")


if __name__ == "__main__":
    cli(main)
