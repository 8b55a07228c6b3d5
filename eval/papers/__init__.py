"""The tables of both papers, with measured rows beside them: `python -m eval.papers`."""
