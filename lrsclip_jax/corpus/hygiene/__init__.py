"""Cleaning a corpus: whole images, no duplicates, no test images, varied texts, known licences.

Each module has one stage, from an iterator of records to an iterator of `CorpusRecord | SetAside`, in this order:
`image_checks`, `duplicates`, `leakage`, `caption_checks`, `clip_score`, `balance`, and `licences`, which only checks.
"""
