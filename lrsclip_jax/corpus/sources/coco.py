"""COCO's JSON of objects: images, annotations with boxes and outlines, and categories."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Thing
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.errors import InputError


def read(path: Path, origin: Origin) -> Iterator[CorpusRecord | SetAside]:
    """Yields a record an image, and at the end what annotates none. The file is held whole in memory.

    A box [x, y, w, h] is as annotated. An object keeps its outline where that is one polygon; of one in several parts,
    or run-length encoded, the box alone. Regions marked as crowds are left out, which the provenance says. An image
    with an unknown category, or a malformed annotation, is set aside.
    """
    try:
        document = json.loads(path.read_bytes())
        images, annotations, categories = (document[key] for key in ("images", "annotations", "categories"))
        names = {category["id"]: str(category["name"]) for category in categories}
        of_image: dict[Any, list[dict]] = defaultdict(list)
        for annotation in annotations:
            of_image[annotation["image_id"]].append(annotation)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no COCO JSON with images, annotations and categories ({error!r:.120})") from None
    for number, image in enumerate(images, 1):
        where = f"{path.name}, image {number}"
        try:
            file, key = origin.root / image["file_name"], image["id"]
        except (KeyError, TypeError):
            yield origin.set_aside(where, f"{where}: no file_name or no id")
            continue
        rows = of_image.pop(key, [])
        crowds = sum(bool(row.get("iscrowd")) for row in rows)
        said = (image["width"], image["height"]) if "width" in image and "height" in image else None
        note = f"crowds left out: {crowds}" if crowds else ""
        things = (_thing(row, names, path.name) for row in rows if not row.get("iscrowd"))
        yield origin.annotated(file, things, where, said, note)
    for key, rows in of_image.items():
        for row in rows:
            where = f"{path.name}, annotation {row.get('id')}"
            yield origin.set_aside(where, f"{where}: its image {key!r} is not among the images")


def _thing(row: dict, names: dict[Any, str], file: str) -> Thing:
    where = f"{file}, annotation {row.get('id')}"
    category = row.get("category_id")
    if category not in names:
        known = ", ".join(f"{key} {name}" for key, name in list(names.items())[:20])
        raise InputError(f"{where}: category {category!r} is unknown; known: {known}")
    try:
        x, y, width, height = map(float, row["bbox"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{where}: bbox is {row.get('bbox')!r:.60}, [x, y, width, height] is expected") from None
    return Thing(names[category], (x, y, x + width, y + height), _outline(row.get("segmentation"), where))


def _outline(segmentation: Any, where: str) -> tuple[tuple[float, float], ...]:
    if not isinstance(segmentation, list) or len(segmentation) != 1:
        return ()
    try:
        values = list(map(float, segmentation[0]))
        return tuple(zip(values[::2], values[1::2], strict=True)) if len(values) >= 6 else ()
    except (TypeError, ValueError):
        raise InputError(f"{where}: segmentation is no list of x and y") from None
