"""The command that makes mosaics: python -m lrsclip_jax.data.mosaic PREPARED --split=train --n=3 --out=DIR."""

from __future__ import annotations

import argparse
from pathlib import Path

from lrsclip_jax.data.mosaic.mosaic_writer import MAX_TOKENS, write_mosaics
from lrsclip_jax.data.prepared.records import RecordReader
from lrsclip_jax.errors import InputError, cli


def parser() -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = argparse.ArgumentParser(
        prog="python -m lrsclip_jax.data.mosaic",
        allow_abbrev=False,
        description="Makes a prepared set of n×n mosaics out of one split of a prepared set.",
    )
    parse.add_argument("prepared", metavar="PREPARED", help="folder of a prepared set with captions")
    parse.add_argument("--out", required=True, metavar="DIR", type=Path, help="folder of the mosaics")
    parse.add_argument("--split", default="train", help="split whose images are tiles (%(default)s)")
    parse.add_argument("--n", type=int, default=3, help="tiles in a row (%(default)s)")
    parse.add_argument("--count", type=int, help="mosaics (default: every image about once)")
    parse.add_argument("--size", type=int, default=384, help="side of a mosaic in pixels, at most (%(default)s)")
    parse.add_argument("--seed", type=int, default=0, help="which mosaics (%(default)s)")
    parse.add_argument(
        "--max-tokens", type=int, default=MAX_TOKENS, help="longest caption in CLIP tokens (%(default)s)"
    )
    return parse


def main() -> None:
    """The program: writes the mosaics that the command line asks for."""
    flags = parser().parse_args()
    records = RecordReader(flags.prepared, flags.split)
    count = flags.count if flags.count is not None else max(1, len(records) // max(1, flags.n) ** 2)
    if count < 1 or flags.seed < 0:
        raise InputError(f"--count={count} --seed={flags.seed}: expected at least one mosaic and a seed from 0")
    try:
        write_mosaics(records, flags.out, flags.n, count, flags.size, flags.seed, flags.max_tokens)
    except OSError as error:
        raise InputError(f"can't write {flags.out}: {error}") from None
    print(f"{flags.out}: {count:,} mosaics of {flags.n}×{flags.n} tiles, split {flags.split}")


if __name__ == "__main__":
    cli(main)
