"""Urban1k: 1,000 photographs of cities, each with a text of about 100 words (Zhang et al., Long-CLIP, ECCV 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.listing import images_below, passed_over
from lrsclip_jax.sources.published.long_text import folder_of
from lrsclip_jax.sources.row_values import clean, clean_name
from lrsclip_jax.sources.text_encoding import open_text


def read(path: Path, root: Path | None, source: str) -> Iterator[Item | Fault]:
    """Reads the folder that Urban1k.zip unpacks to: caption/17.txt is the text of image/17.jpg.

    The text is the first line of its file, as Long-CLIP and HiMo-CLIP take it (beichenzbc/Long-CLIP,
    eval/retrieval/Urban1k.py). 592.txt begins with an empty line: they embed an empty text for it, here its first
    line that holds something is taken. Images of `root` have the folder's place.

    Raises InputError where a folder is missing. An image without a text, and a text that holds nothing, is a fault.
    """
    folder = folder_of(path, "Urban1k")
    captions = folder / "caption"
    images = folder_of(root or folder, "image", "images")
    if not captions.is_dir():
        raise InputError(f"{path}: no folder 'caption' in it: Urban1k has the folders image and caption")
    texts = {file.stem: file for file in captions.glob("*.txt") if not passed_over(file.name)}
    for stem in sorted(texts, key=_number):
        where = clean_name(f"caption/{texts[stem].name}")
        if line := _first_line(texts[stem]):
            image = images / f"{stem}.jpg"
            yield Item(clean_name(image.name), source, image, long=(line,), where=where)
        else:
            yield Fault(where, "not a single text in it")
    if images.is_dir():
        alone = sorted((parts[-1] for parts in images_below(images) if Path(parts[-1]).stem not in texts), key=_number)
        yield from (Fault(clean_name(f"{images.name}/{name}"), "an image without a text in caption/") for name in alone)


def _first_line(file: Path) -> str:
    with open_text(file).open() as lines:
        return next(filter(None, (clean(line.decode("utf-8", "replace")) for line in lines)), "")


def _number(name: str) -> tuple[int, str]:
    """Sorts 2 before 10."""
    return len(name), name
