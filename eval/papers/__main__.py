"""The tables of both papers, measured rows below the published ones: `python -m eval.papers [--table=…]`.

--table=lrsclip:IV   one table; lrsclip:fig9, rsclip, selo:readme, … (all tables by default)
--results=DIR        folder with result files, searched recursively: our rows stand below the published ones
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from eval.errors import cli
from eval.papers.measured import read_results
from eval.papers.tables import arrange, as_text, named_tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables that the arguments name; InputError for a table that is not there."""
    parser = argparse.ArgumentParser("python -m eval.papers", description="Print the tables of both papers.")
    parser.add_argument("--table", default="", help="PAPER or PAPER:TABLE, as lrsclip:IV, rsclip, lrsclip:fig9")
    parser.add_argument("--results", help="folder with result files, searched recursively")
    flags = parser.parse_args(arguments)
    results = read_results(flags.results) if flags.results else []
    print("\n\n".join(as_text(arrange(table, results)) for table in named_tables(flags.table)), end="")


if __name__ == "__main__":
    cli(main)
