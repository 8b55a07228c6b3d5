"""RS5M as published: WebDataset tars, or its CSV files beside a folder of images; its captions are short texts.

The tars pub11-train-0000.tar … rs3-val-0031.tar have samples of img_content, img_name and caption; the CSV files
pub11_train_intermediate.csv … the image's name in their first column and the caption in their second
(om-ai-lab/RS5M, dataloader.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lrsclip_jax.corpus.reading.extracting import extract, folder_for
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.rows import caption_records, columns, key_names, table
from lrsclip_jax.corpus.sources.tars import tar_files
from lrsclip_jax.data import formats
from lrsclip_jax.data.formats import TarMember
from lrsclip_jax.data.sources import clean
from lrsclip_jax.errors import InputError

_SPLIT = re.compile(r"(?:pub11|rs3)[-_](train|val)")


def read(path: Path, origin: Origin, extract_to: str | None = None) -> Iterator[CorpusRecord | SetAside]:
    """Reads a CSV file, a tar, a folder of tars or a pattern of them; the images of tars are written to `extract_to`.

    The file's name tells the split, "train" or "val". All is streamed. Raises InputError for a torn tar.
    """
    tars = tar_files(path)
    folder = folder_for(path, extract_to) if tars else None
    for tar in tars:
        for where, row in formats.tars([tar], ["img_name", "caption"]):
            yield _of_sample(where, row, _with_split(origin, tar), folder / tar.stem)
    if not tars:
        names = columns(path)
        if len(names) < 2:
            raise InputError(f"{path}: two columns, the image's name and its caption, are expected")
        image, caption = names[:2]
        keys = key_names({"image": image, "short": caption})
        yield from caption_records(table(path), keys, _with_split(origin, path))


def _of_sample(where: str, row: dict, origin: Origin, folder: Path) -> CorpusRecord | SetAside:
    name, caption, content = (row.get(key) for key in ("img_name", "caption", "img_content"))
    try:
        if not (name and caption and isinstance(content, TarMember)):
            raise InputError(f"{where}: img_content, img_name and caption are expected, found {', '.join(row)}")
        image = extract(content, folder, clean(name))
    except InputError as error:
        return origin.set_aside(where, str(error))
    return CorpusRecord(
        id=origin.id(clean(name)),
        image=str(image),
        source=origin.name,
        short=(clean(caption),),
        split=origin.split,
        licence=origin.licence,
        provenance=(origin.step(where),),
    )


def _with_split(origin: Origin, path: Path) -> Origin:
    named = _SPLIT.search(path.name)
    return replace(origin, split=origin.split or (named and named[1]))
