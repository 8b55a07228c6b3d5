"""DOTA's text files of rotated boxes, one an image: x1 y1 x2 y2 x3 y3 x4 y4 class difficult, a line an object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.corpus.records.clipping import bounds
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Thing
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.pictures import of_stem
from lrsclip_jax.errors import InputError

_HEADER = ("imagesource:", "gsd:")


def read(path: Path, origin: Origin) -> Iterator[CorpusRecord | SetAside]:
    """Reads a folder of label files, or one of them, in the order of their names; images are called as they are.

    The box is the one around the four corners, which stay as the polygon. A file with its header alone says that its
    image shows none of the classes; one without a single line says nothing, and is set aside.
    """
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no .txt files there")
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            if not any(map(str.strip, lines)):
                raise InputError(f"{file}: an empty label file")
            image = of_stem(origin.root, file.stem)
        except (InputError, UnicodeDecodeError, OSError) as error:
            reason = error if isinstance(error, InputError) else f"{file}: can't be read ({error})"
            yield origin.set_aside(file.stem, str(reason))
            continue
        yield origin.annotated(image, _things(lines, file.name), file.name)


def _things(lines: list[str], file: str) -> Iterator[Thing]:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.lower().startswith(_HEADER):
            continue
        try:
            if not 9 <= len(words) <= 10:
                raise ValueError
            values = list(map(float, words[:8]))
        except ValueError:
            raise InputError(
                f"{file}, line {number}: eight coordinates, a class and a difficulty are expected, got {line!r:.80}"
            ) from None
        corners = tuple(zip(values[::2], values[1::2], strict=True))
        yield Thing(words[8], bounds(corners), corners)
