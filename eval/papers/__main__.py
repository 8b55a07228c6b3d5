"""The command `lrsclip papers`, also `python -m eval.papers`: the tables of both papers, with measured rows."""

from __future__ import annotations

from collections.abc import Sequence

from eval.command import add_subject, command_line
from eval.errors import cli
from eval.papers.measured import read_results
from eval.papers.paper_tables import arrange, as_text
from eval.papers.published_tables import named_tables

_EPILOG = """\
examples:
  lrsclip papers                                 all tables, of both papers and of those that they are compared with
  lrsclip papers --table=lrsclip:IV              one of them; lrsclip:fig9, rsclip, selo:readme, …
  lrsclip papers --table=himo-clip:i             long texts about photographs: Urban1k, DOCCI, Long-DCI
  lrsclip papers evaluation/results              with the rows that were measured here
"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m eval.papers") -> None:
    """Prints the tables that the arguments name; InputError for a table that is not there."""
    parser = command_line(prog, "Prints the tables of both papers.", _EPILOG, usage="[RESULTS] [--table=PAPER:TABLE]")
    add_subject(
        parser,
        "results",
        metavar="RESULTS",
        help="folder with result files, searched recursively: their rows stand next to the published ones",
        required=False,
    )
    parser.add_argument("--table", default="", help="PAPER or PAPER:TABLE, as lrsclip:IV, rsclip, lrsclip:fig9")
    flags = parser.parse_args(arguments)
    results = read_results(flags.results) if flags.results else []
    print("\n\n".join(as_text(arrange(table, results)) for table in named_tables(flags.table)), end="")


if __name__ == "__main__":
    cli(main)
