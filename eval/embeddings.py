"""Embedding sets: folders with unit embeddings and the metadata of each row. Any tool may write them.

    meta.json         model, checkpoint, step, dim, dataset, split, features ("projected" | "encoder"), preprocessing;
                      with scenes also {"scenes": {name: {"height", "width", "file"?}}}
    images.npy        float32 [I, D], unit rows      image_norms.npy  float32 [I], their lengths before
    images.jsonl      a line an image: id, label?, split?, scene?, window? [r0, r1, c0, c1], file?
    texts.npy         float32 [T, D], unit rows      text_norms.npy   float32 [T]
    texts.jsonl       a line a text: text, kind ("long" | "short" | "class" | "query"); what it belongs to: `image` (an
                      id), `label`, or `scene`; template?, points? [[[x, y], …], …], tokens?, length?

A set may lack its images or its texts. `tokens` is the number of tokens that the text was cut to (a length sweep);
`length` counts a text's own tokens, start and end token included, before any cut. `file` is a path to the picture,
relative to the set or absolute; nothing but a report needs it. meta.json is written last: a folder without one is not
finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eval.errors import InputError
from eval.file_names import all_spelled, named
from eval.whole import whole, write_text

META = "meta.json"
FEATURES = ("projected", "encoder")
KINDS = ("long", "short", "class", "query")
SIDES = {"images": "image", "texts": "text"}


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """An open embedding set; the matrices are memory-mapped.

    Attributes:
      path: its folder.
      meta: what meta.json says.
      images, texts: unit rows, float32 [I, D] and [T, D]; of a side that the set lacks, no rows.
      image_norms, text_norms: lengths of the rows before normalisation, float32 [I] and [T].
      image_rows, text_rows: what each row is of, as images.jsonl and texts.jsonl say.
    """

    path: Path
    meta: Mapping[str, Any]
    images: np.ndarray = field(repr=False)
    texts: np.ndarray = field(repr=False)
    image_norms: np.ndarray = field(repr=False)
    text_norms: np.ndarray = field(repr=False)
    image_rows: Sequence[Mapping[str, Any]] = field(repr=False)
    text_rows: Sequence[Mapping[str, Any]] = field(repr=False)

    @property
    def model(self) -> str:
        """The name of the model that made it."""
        return self.meta["model"]

    @property
    def dataset(self) -> str:
        """The name of the data set that it is of."""
        return self.meta["dataset"]

    @property
    def split(self) -> str | None:
        """The one split of the data set that it holds, or None for all of it."""
        return self.meta.get("split")

    @property
    def features(self) -> str:
        """ "projected", the space where images and texts meet, or "encoder", the image tower's own features."""
        return self.meta["features"]

    @cached_property
    def row_of_id(self) -> Mapping[str, int]:
        """The row of each image id; InputError where two rows have the same."""
        rows: dict[str, int] = {}
        for row, image in enumerate(self.image_rows):
            if rows.setdefault(image["id"], row) != row:
                raise InputError(
                    f"{self.path}/images.jsonl: rows {rows[image['id']]} and {row} have one id, {image['id']!r}"
                )
        return rows

    def text_rows_of(self, kind: str, tokens: int | None = None) -> np.ndarray:
        """Returns the rows of the texts of a kind, int64 [N]: the whole texts, or those cut to `tokens`."""
        chosen = (
            row for row, text in enumerate(self.text_rows) if text["kind"] == kind and text.get("tokens") == tokens
        )
        return np.fromiter(chosen, np.int64)

    def image_of_text(self, texts: Iterable[int]) -> np.ndarray:
        """Returns the row of each text's image, int64 [N]; InputError for a text without its image."""
        found, row_of_id = [], self.row_of_id
        for text in texts:
            image = self.text_rows[text].get("image")
            if image is None or image not in row_of_id:
                what = "names no image" if image is None else f"is of image {image!r}, which the set lacks"
                raise InputError(f"{self.path}/texts.jsonl, line {text + 1}: the text {what}")
            found.append(row_of_id[image])
        return np.asarray(found, np.int64)

    def labels(self) -> list[str] | None:
        """Returns the label of every image, or None where none has one; InputError where some have and some lack it."""
        labels = [image.get("label") for image in self.image_rows]
        known = [label for label in labels if label is not None]
        if not known:
            return None
        if len(known) < len(labels):
            raise InputError(
                f"{self.path}/images.jsonl, line {labels.index(None) + 1}: no label, other images have one"
            )
        return known

    def picture(self, image: int) -> Path | None:
        """Returns the path of an image's picture, or None where the set names none or it is not there."""
        name = self.image_rows[image].get("file")
        path = name and self.path / named(name)
        return path if path and path.is_file() else None


def find_sets(root: str | os.PathLike[str]) -> list[Path]:
    """Returns the folders of all finished sets at or below `root`, in order; InputError where there is none."""
    walked = os.walk(root, followlinks=True)
    found = sorted(Path(top) for top, _, files in walked if META in files and {"images.npy", "texts.npy"} & set(files))
    if not found:
        raise InputError(f"{root}: no embedding set there; `lrsclip embed` makes one")
    return found


def open_set(path: str | os.PathLike) -> EmbeddingSet:
    """Opens a set. InputError names what is missing, torn, or does not fit together; rows themselves are not read."""
    path = Path(path)
    if not (path / META).is_file():
        raise InputError(f"{path}: no finished embedding set ({META} is missing)")
    meta = _json((path / META).read_bytes(), f"{path}/{META}")
    for key in ("model", "dataset", "features"):
        if not isinstance(meta.get(key), str):
            raise InputError(f"{path}/{META}: '{key}' is missing or no text")
    if meta["features"] not in FEATURES:
        raise InputError(f"{path}/{META}: features is {meta['features']!r}, known: {', '.join(FEATURES)}")
    present = [side for side in SIDES if (path / f"{side}.npy").exists()]
    if not present:
        raise InputError(f"{path}: neither images.npy nor texts.npy")
    rows = {side: _matrix(path / f"{side}.npy", 2) for side in present}
    dims = {side: matrix.shape[1] for side, matrix in rows.items()}
    if len(set(dims.values())) > 1:
        raise InputError(
            f"{path}: images have {dims['images']} dimensions and texts {dims['texts']}: embed both with one model"
        )
    dim = next(iter(dims.values()))
    if meta.get("dim", dim) != dim:
        raise InputError(f"{path}: {META} says dim {meta['dim']}, {present[0]}.npy has rows of {dim}")
    norms = {side: _matrix(path / f"{SIDES[side]}_norms.npy", 1) for side in present}
    of_row = {side: _lines(path / f"{side}.jsonl") for side in present}
    for side in present:
        counts = {f"{side}.npy": len(rows[side]), f"{SIDES[side]}_norms.npy": len(norms[side])}
        counts[f"{side}.jsonl"] = len(of_row[side])
        if len(set(counts.values())) > 1:
            raise InputError(f"{path}: " + ", ".join(f"{name} has {n} rows" for name, n in counts.items()))
    _check(of_row.get("images", ()), path / "images.jsonl", "id", None)
    _check(of_row.get("texts", ()), path / "texts.jsonl", "text", KINDS)
    return EmbeddingSet(
        path,
        meta,
        images=rows.get("images", np.zeros((0, dim), np.float32)),
        texts=rows.get("texts", np.zeros((0, dim), np.float32)),
        image_norms=norms.get("images", np.zeros(0, np.float32)),
        text_norms=norms.get("texts", np.zeros(0, np.float32)),
        image_rows=of_row.get("images", []),
        text_rows=of_row.get("texts", []),
    )


def write_set(
    path: str | os.PathLike,
    meta: Mapping[str, Any],
    images: np.ndarray | None = None,
    texts: np.ndarray | None = None,
    image_rows: Iterable[Mapping[str, Any]] = (),
    text_rows: Iterable[Mapping[str, Any]] = (),
) -> Path:
    """Writes a set from matrices in memory and returns its folder; what is there already is an InputError.

    Args:
      path: the folder to make.
      meta: for meta.json; `dim` is added.
      images, texts: rows before normalisation, [I, D] and [T, D], or None.
      image_rows, text_rows: what each row is of.
    """
    path = Path(path)
    if (path / META).exists():
        raise InputError(f"{path} holds an embedding set already")
    path.mkdir(parents=True, exist_ok=True)
    dims = []
    for side, matrix, of_row in (("images", images, image_rows), ("texts", texts, text_rows)):
        if matrix is None:
            continue
        matrix = np.asarray(matrix, np.float32)
        norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
        if not (norms > 0).all() or not np.isfinite(norms).all():
            wrong = int(np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[0])
            raise InputError(f"row {wrong} of {side} is zero or not finite: it has no direction")
        _save(path / f"{side}.npy", (matrix / norms[:, None]).astype(np.float32))
        _save(path / f"{SIDES[side]}_norms.npy", norms.astype(np.float32))
        write_lines(path / f"{side}.jsonl", of_row)
        dims.append(matrix.shape[1])
    write_meta(path, {**meta, "dim": dims[0]})
    return path


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON lines, whole or not at all."""
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(all_spelled(row), ensure_ascii=False) + "\n" for row in rows)


def write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Writes meta.json, whole or not at all: from then on the set is finished."""
    write_text(path / META, json.dumps(all_spelled(meta), indent=1, ensure_ascii=False) + "\n")


def _save(path: Path, array: np.ndarray) -> None:
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, array)


def _matrix(path: Path, dimensions: int) -> np.ndarray:
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: torn, or no .npy array ({error})") from None
    if matrix.ndim != dimensions or matrix.dtype != np.float32:
        wanted = "a matrix" if dimensions == 2 else "a vector"
        raise InputError(f"{path}: {matrix.dtype} of shape {matrix.shape}, expected {wanted} of float32")
    return matrix


def _lines(path: Path) -> list[Mapping[str, Any]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    return [_json(line, f"{path}, line {number}") for number, line in enumerate(data.splitlines(), 1)]


def _json(data: bytes, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, found a {type(value).__name__}")
    return value


def _check(rows: Sequence[Mapping[str, Any]], path: Path, key: str, kinds: Sequence[str] | None) -> None:
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get(key), str):
            raise InputError(f"{path}, line {number}: '{key}' is missing or no text")
        if kinds and row.get("kind") not in kinds:
            raise InputError(f"{path}, line {number}: kind is {row.get('kind')!r}, known: {', '.join(kinds)}")
