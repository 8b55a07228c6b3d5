"""Corpora of captioned images: read, captioned, cleaned, counted: lrsclip corpus."""
