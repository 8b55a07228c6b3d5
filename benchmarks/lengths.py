"""How long the texts of a benchmark are next to those of LRS2M: `python -m benchmarks.lengths`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.command import command_line
from eval.papers.published_tables import PublishedTable, tables
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.plan import lrs2m_lengths

_DESCRIPTION = """\
Prints mean lengths of a sample next to those of LRSCLIP's Table I (arXiv 2503.19311), in tokens. Within a subset of the
table lengths are log-normal with its mean and a coefficient of variation of 0.25 (long texts) and 0.35 (short ones),
clipped to 8…248. The mean over the rows of the table differs a little from the one that the paper's text states.
"""


def table_i() -> PublishedTable:
    """Returns LRSCLIP's Table I, from the published tables of `eval`."""
    return next(table for table in tables("LRSCLIP") if "corpus" in table.tasks)


def texts(lengths: np.ndarray, end_token: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns one text for each length, int32: a start token (the one before `end_token`), random ids, `end_token`."""
    found = [rng.integers(1, end_token - 1, length, dtype=np.int32) for length in lengths]
    for ids in found:
        ids[0], ids[-1] = end_token - 1, end_token
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row for each kind of text."""
    parser = command_line("python -m benchmarks.lengths", _DESCRIPTION)
    parser.add_argument("--pairs", type=int, default=100_000, help="of the sample; %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        raise InputError("--pairs must be positive")
    subsets, drawn = lrs2m_lengths.subsets(), lrs2m_lengths.drawn_lengths(options.pairs, options.seed)
    columns = (
        "texts",
        "mean tokens",
        "rows of Table I",
        "stated for all",
        "5 % are shorter than",
        "5 % are longer than",
    )
    print(f"| {' | '.join(columns)} |\n|---|" + "---:|" * (len(columns) - 1))
    for kind, lengths in zip(drawn._fields, drawn, strict=True):
        published = sum(part.pairs * getattr(part, kind) for part in subsets) / sum(part.pairs for part in subsets)
        stated = table_i().stated["mean_tokens"][kind]
        low, high = np.percentile(lengths, [5, 95])
        print(f"| {kind} | {lengths.mean():.1f} | {published:.1f} | {stated:.1f} | {low:.0f} | {high:.0f} |")


if __name__ == "__main__":
    cli(main)
