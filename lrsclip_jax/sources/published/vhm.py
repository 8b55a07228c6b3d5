"""VHM's pre-training list: long captions of MillionAID, CrowdAI, fMoW, CVUSA, CVACT and LoveDA.

`list_pretrain.json` is a list of {"image", "source_dataset", "conversations": [{"from", "value"}, …]}; an image lies in
the folder of its source_dataset (opendatalab/VHM, vhm/train/train.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.json_files import JsonLists
from lrsclip_jax.sources.lists import list_stream
from lrsclip_jax.sources.row_keys import Keys
from lrsclip_jax.sources.rows import Place, Row
from lrsclip_jax.sources.source import Reading
from lrsclip_jax.sources.text_encoding import TextFile, open_text

_KEYS = Keys(image="source_dataset/image", long="answers", source="source_dataset")


def read(path: Path, root: Path, source: str, only: str | None = None) -> Iterator[Item | Fault]:
    """Reads the list: the long texts are what "gpt" answers, the source of an item is its source_dataset.

    `only` names the one source_dataset that is wanted.
    """
    answers = _Answers(JsonLists(path, open_text(path)), only)
    return list_stream(answers, source, root, Reading(_KEYS))()


@dataclass(frozen=True)
class _Answers:
    """The rows of the list with the answers of their conversations as `answers`."""

    list: JsonLists
    only: str | None

    @property
    def path(self) -> Path:
        return self.list.path

    @property
    def text(self) -> TextFile:
        return self.list.text

    def rows(self, start: Place | None = None, file: BinaryIO | None = None) -> Iterator[Row]:
        for place, row in self.list.rows(start, file):
            if isinstance(row, str):
                yield Row(place, row)
            elif self.only in (None, row.get("source_dataset")):
                yield Row(place, _with_answers(row))

    def where(self, place: Place) -> str:
        return self.list.where(place)


def _with_answers(row: dict[str, Any]) -> dict[str, Any] | str:
    try:
        turns = row["conversations"]
        answers = [turn["value"].replace("<image>", "") for turn in turns if turn["from"] == "gpt"]
    except (KeyError, TypeError, AttributeError):
        return "'conversations' with turns of 'from' and 'value' are expected"
    return {**row, "answers": answers}
