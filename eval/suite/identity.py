"""Which data set of the papers a set is of: for retrieval, for classification and for localisation."""

from __future__ import annotations

from eval.embeddings import EmbeddingSet
from eval.facts.identify import identify
from eval.facts.names import Kind, meaning, says_nothing
from eval.papers.published_tables import key

# Of tasks; all others are of classes.
_KINDS: dict[str, Kind] = {
    "retrieval": "captions",
    "length": "captions",
    "sentences": "captions",
    "negatives": "captions",
    "text_lengths": "captions",
    "selo": "scenes",
}


def benchmark(embedding_set: EmbeddingSet, task: str) -> str | None:
    """Returns the data set, as the papers' tables call it, that a task's result is of; None for one of the user's own.

    The set's `dataset` decides. One that says nothing leaves it to the classes.
    """
    return _meaning(embedding_set, _KINDS.get(task, "classes"))


def note_on(embedding_set: EmbeddingSet) -> str:
    """Returns a line for a person where tables have a set under another name than its own, or could; "" otherwise."""
    own, texts = embedding_set.dataset, {text["kind"] for text in embedding_set.text_rows}
    held: dict[Kind, bool] = {
        "scenes": "query" in texts,
        "captions": bool(texts & {"long", "short"}),
        "classes": bool(_labels(embedding_set)),
    }
    of_tables = [_meaning(embedding_set, kind) for kind, there in held.items() if there]
    if other := [name for name in dict.fromkeys(filter(None, of_tables)) if key(name) != key(own)]:
        return f"{embedding_set.path}: {own} is {' and '.join(other)} in the papers' tables"
    if any(of_tables):
        return ""
    note = identify([own], "classes", _labels(embedding_set)).note
    return f"{embedding_set.path}: {note}" if note else ""


def _meaning(embedding_set: EmbeddingSet, kind: Kind) -> str | None:
    own = embedding_set.dataset
    named = meaning(own, kind)
    if named or kind != "classes" or not says_nothing(own):
        return named
    name = identify([own], kind, _labels(embedding_set)).name
    return name if name != own else None


def _labels(embedding_set: EmbeddingSet) -> list[str]:
    return [image["label"] for image in embedding_set.image_rows if image.get("label") is not None]
