"""DOCCI: photographs with texts of 136 words in the mean (Onoe et al., ECCV 2024), and HiMo-CLIP's texts of a fifth of
its test images that grow by a detail at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.json_files import JsonLines, json_lines
from lrsclip_jax.sources.lists import list_stream
from lrsclip_jax.sources.published.long_text import file_in, folder_of
from lrsclip_jax.sources.row_keys import Keys, row_reader
from lrsclip_jax.sources.source import Reading
from lrsclip_jax.sources.text_encoding import open_text

DESCRIPTIONS = "docci_descriptions.jsonlines"
_KEYS = Keys(image="image_file", long="description", split="split")


def read(path: Path, root: Path | None, source: str) -> Iterator[Item | Fault]:
    """Reads docci_descriptions.jsonlines, {"example_id", "split", "image_file", "description"} a line, or its folder.

    Splits are train, test, qual_dev and qual_test; HiMo-CLIP evaluates the whole descriptions of the 5,000 images of
    test in this order (UnicomAI/HiMo-CLIP, eval/retrieval/docci.py). Images lie in the folder images.
    """
    file = file_in(path, DESCRIPTIONS)
    images = folder_of(root or file.parent, "images")
    return list_stream(JsonLines(file, open_text(file)), source, images, Reading(_KEYS))()


def read_growing(path: Path, root: Path | None, source: str) -> Iterator[Item | Fault]:
    """Reads HiMo-Docci: {"img_path", "caption": [the first detail, the first two, …]} a line, 1,000 of them.

    The text is the last and longest one (UnicomAI/HiMo-CLIP, eval/text_mono/himo_docci_data.json). HiMo@K of cut texts
    is made by `lrsclip embed --sentences`.
    """
    reader = row_reader(Keys(image="img_path", long="caption"), folder_of(root or path.parent, "images"), source)
    for where, row in json_lines(path):
        if isinstance(row, Fault):
            yield row
        elif isinstance(row.get("caption"), list) and row["caption"]:
            yield reader.item({**row, "caption": row["caption"][-1]}, where)
        else:
            yield Fault(where, f"'caption' is {row.get('caption')!r:.60}, a list of texts that grow is expected")
