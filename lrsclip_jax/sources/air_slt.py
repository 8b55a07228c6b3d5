"""Semantic localisation's data as AIR-SLT lays it out: scenes, and anno.json with a caption and polygons a query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from eval.reading import Finite, convert
from lrsclip_jax.data.images import size_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.json_files import JsonLists, json_layout
from lrsclip_jax.sources.listing import images_below, passed_over
from lrsclip_jax.sources.source import Query, Source
from lrsclip_jax.sources.text_encoding import open_text

ANNOTATIONS = "anno.json"


def read_air_slt(folder: str) -> Source:
    """Opens a folder that holds anno.json and the scenes that it names, at any depth.

    anno.json is a list of {"jpg_name": "1.jpg", "caption": …, "points": [[[x, y], …], …]}, x to the right and y down
    (SemanticLocalizationMetrics, test_data). An item is a scene with a query; its id is the name of its file.

    Raises InputError where there is not one anno.json, it is not as described, or a scene is missing, stands in two
    folders, or can't be read.
    """
    root = Path(folder).expanduser().absolute()
    found = [
        path for path in sorted(root.rglob(ANNOTATIONS)) if not any(map(passed_over, path.relative_to(root).parts))
    ]
    if len(found) != 1:
        raise InputError(f"{folder}: {len(found) or 'no'} {ANNOTATIONS} in it, one is expected")
    queries = tuple(_queries(found[0]))
    files: dict[str, list[Path]] = {query.scene: [] for query in queries if query.scene}
    for parts in images_below(root):
        if parts[-1] in files:
            files[parts[-1]].append(root.joinpath(*parts))
    scenes = [_scene(name, paths, root, found[0]) for name, paths in files.items()]

    def stream() -> Iterator[Item | Fault]:
        yield from scenes

    return Source(root.name, stream, queries=queries)


def _scene(name: str, paths: list[Path], root: Path, annotations: Path) -> Item:
    if not paths:
        raise InputError(f"{annotations}: the scene {name!r:.80} is not below {root}")
    if len(paths) > 1:
        raise InputError(f"{annotations}: the scene {name!r:.80} is there twice: {paths[0]} and {paths[1]}")
    width, height = size_of(paths[0])
    return Item(name, root.name, paths[0], width=width, height=height)


def _queries(path: Path) -> Iterator[Query]:
    text = open_text(path)
    lists = JsonLists(path, text)
    rows = lists.rows() if json_layout(path, text) == "list" else iter(())
    query = None
    for place, row in rows:
        query = _query(row, f"{path}, query {place.number}")
        yield query
    if query is None:
        raise InputError(f"{path}: a list of queries is expected")


def _query(row: dict[str, Any] | str, where: str) -> Query:
    if isinstance(row, str):
        raise InputError(f"{where}: {row}")
    try:
        annotation: _Annotation = convert(row, where, _Annotation)
    except InputError as error:
        raise InputError(f"{error}; jpg_name, caption and points [[[x, y], …], …] are expected") from None
    scene, text = annotation["jpg_name"], annotation["caption"].strip()
    points = [[[x, y] for x, y in polygon] for polygon in annotation["points"]]
    if not scene or not text:
        raise InputError(f"{where}: jpg_name and caption are texts that hold something")
    if not points or min(map(len, points)) < 3:
        raise InputError(f"{where}: a polygon has fewer than three points")
    return Query(text, scene, points)


class _Annotation(TypedDict):
    jpg_name: str
    caption: str
    points: list[list[tuple[Finite, Finite]]]
