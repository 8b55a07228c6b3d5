"""The stages of a corpus build: each reads records, writes records, and can continue."""
