"""Statistics of a corpus: its parts, the lengths of texts and their words, as a page and as files."""
