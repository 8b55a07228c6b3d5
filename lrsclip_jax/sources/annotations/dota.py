"""DOTA's text files of rotated boxes, one an image: x1 y1 x2 y2 x3 y3 x4 y4 class difficult, a line an object."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.annotated import annotated
from lrsclip_jax.sources.annotations.image_files import of_stem
from lrsclip_jax.sources.annotations.outlines import bounds
from lrsclip_jax.sources.item import Fault, Item, Thing
from lrsclip_jax.sources.listing import passed_over
from lrsclip_jax.sources.row_values import clean_name

_HEADER = re.compile(r"\s*[^\W\d][^:]*:")  # a word and a colon, such as "imagesource:GoogleEarth"


def read(path: Path, root: Path, source: str) -> Iterator[Item | Fault]:
    """Reads a folder of label files, or one of them, in the order of their names; images are called as they are.

    The box is the one around the four corners, which stay as the polygon. Lines "name:value" before the first object
    are a header, such as "imagesource:" and "gsd:" of versions 1 and 1.5; version 2 has others, or none. A file with
    its header alone says that its image shows none of the classes; one without a single line says nothing and is a
    fault.
    """
    files = sorted(file for file in path.glob("*.txt") if not passed_over(file.name)) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no .txt files there")
    for file in files:
        where = clean_name(file.name)
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            if not any(map(str.strip, lines)):
                raise InputError("an empty label file")
            image = of_stem(root, file.stem)
        except (InputError, UnicodeDecodeError, OSError) as error:
            reason = str(error) if isinstance(error, InputError) else f"can't be read ({error})"
            yield Fault(where, reason, clean_name(file.stem))
            continue
        yield annotated(image, root, source, _things(lines, where), where)


def _things(lines: list[str], file: str) -> Iterator[Thing | Fault]:
    header = True
    for number, line in enumerate(lines, 1):
        words = line.split()
        header = header and (not words or bool(_HEADER.match(line)))
        if header or not words:
            continue
        try:
            if not 9 <= len(words) <= 10:
                raise ValueError
            values = list(map(float, words[:8]))
        except ValueError:
            reason = f"eight coordinates, a class and a difficulty are expected, got {line!r:.80}"
            yield Fault(f"{file}, line {number}", reason)
            return
        corners = tuple(zip(values[::2], values[1::2], strict=True))
        yield Thing(words[8], bounds(corners), corners)
