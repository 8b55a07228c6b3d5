"""The tables of both papers, with measured rows below them: `python -m eval.papers`."""
