"""VHM's pre-training list: long captions of MillionAID, CrowdAI, fMoW, CVUSA, CVACT and LoveDA.

`list_pretrain.json` is a list of {"image", "source_dataset", "conversations": [{"from", "value"}, …]}; an image lies in
the folder of its source_dataset (opendatalab/VHM, vhm/train/train.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.rows import Rows, caption_records, json_list, key_names
from lrsclip_jax.errors import InputError


def read(path: Path, origin: Origin, only: str | None = None) -> Iterator[CorpusRecord | SetAside]:
    """Reads the list, streamed: the long text is what "gpt" answers, the source is the source_dataset.

    `only` names the one source_dataset that is wanted.
    """
    names = key_names({"image": "source_dataset/image", "long": "answer", "source": "source_dataset"})
    yield from caption_records(_with_answers(json_list(path), only), names, origin)


def _with_answers(rows: Rows, only: str | None) -> Rows:
    for where, row in rows:
        if isinstance(row, dict):
            if only not in (None, row.get("source_dataset")):
                continue
            try:
                turns = row["conversations"]
                answers = [turn["value"].replace("<image>", "") for turn in turns if turn["from"] == "gpt"]
                yield where, {**row, "answer": answers}
            except (KeyError, TypeError, AttributeError):
                yield where, InputError(f"{where}: 'conversations' with turns of 'from' and 'value' are expected")
        else:
            yield where, row
