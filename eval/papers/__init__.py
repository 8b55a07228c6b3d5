"""The tables of both papers, with measured rows next to them: `lrsclip papers`."""
