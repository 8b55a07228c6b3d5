"""What makes a corpus clean: images that are whole and unlike each other and the tests', varied texts, known licences.

Each module has one stage, from an iterator of records to an iterator of `CorpusRecord | SetAside`, in this order of
use: `images`, `duplicates`, `leakage`, `captions`, `clip_score`, `balance`, and `licences`, which only checks.
"""
