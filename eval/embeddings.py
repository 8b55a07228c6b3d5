"""Embedding sets: folders with unit embeddings and the metadata of each row. Any tool may write them.

    meta.json         model, checkpoint, step, dim, dataset, split, features ("projected" | "encoder"), preprocessing;
                      with scenes also {"scenes": {name: {"height", "width", "file"?}}} and crops? ("reference" |
                      "direct"); stops? ("stripped": short texts lost their last full stop); study?
    images.npy        float32 [I, D], unit rows      image_norms.npy  float32 [I], their lengths before
    images.jsonl      a line an image: id, label?, split?, scene?, window? [r0, r1, c0, c1], look? (2), file?
    texts.npy         float32 [T, D], unit rows      text_norms.npy   float32 [T]
    texts.jsonl       a line a text: text, kind ("long" | "short" | "class" | "query" | "shuffled" | "edited" |
                      "negative"); what it belongs to: `image` (an id), `label`, or `scene`; template?, points?
                      [[[x, y], …], …], tokens?, length?; of an edited text: edit ("first" | "shuffled" |
                      "without_first"), sentences?, whole, of; of a negative: whole

A set may lack its images or its texts. `tokens` is the number of tokens that the text was cut to (a length sweep);
`length` counts a text's own tokens, start and end token included, before any cut. `file` is a path to the picture,
relative to the set or absolute; nothing but a report needs it. meta.json is written last: a folder without one is not
finished. `lrsclip embed` adds the checksums of these files, `.checksums.json`. An evaluation compares them once, before
it measures; whoever edits a file deletes them.

`study` says which row of a published ablation the model is: {"table": "lrsclip:fig10", "heads": {"ratio": "9:1"},
"seed"?: 0}, the table as `lrsclip papers --table` takes it, with a value for each head of its rows. Tables of ablations
hold no other models. SeLo v2 needs windows that v1 leaves out, with `look` 2, and texts of the kind "shuffled": the
words of a query, which `query` repeats, in another order. A text of the kind "edited" is what became of the text
`whole`, of the kind `of`, by sentences (eval/text_sentences.py): the first `sentences` of them, all of them in another
order, or all but the first. A "negative" is the hard negative of the text `whole` of its image: that text with one fact
changed (eval/hard_negatives.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import numpy as np

from eval.checksums import NAME as CHECKSUMS
from eval.checksums import Checksum, check, checksums, of_bytes, read_checksums, write_checksums
from eval.errors import InputError, nearest
from eval.file_names import all_spelled, named
from eval.reading import Finite, Positive, convert, numbered_lines, parse_json, read_array, read_json
from eval.whole import whole, write_text

META = "meta.json"
FEATURES = ("projected", "encoder")
EDITED, NEGATIVE = "edited", "negative"
KINDS = ("long", "short", "class", "query", "shuffled", EDITED, NEGATIVE)
SIDES = {"images": "image", "texts": "text"}

_Length = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]  # tokens of a text
_Edge = Annotated[int, msgspec.Meta(ge=0, le=1 << 31)]  # of a window, in pixels from the corner of its scene
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Scene(TypedDict):
    """A scene of meta.json; sides in pixels."""

    height: Positive
    width: Positive
    file: NotRequired[str | None]


class Meta(TypedDict):
    """The fields of meta.json that this package reads; others are kept as they are."""

    model: str
    dataset: str
    features: str
    split: NotRequired[str | None]
    checkpoint: NotRequired[str | None]
    step: NotRequired[int | str | None]
    dim: NotRequired[Positive | None]
    context_length: NotRequired[_Tokens | None]
    scenes: NotRequired[dict[str, Scene] | None]
    crops: NotRequired[str | None]
    stops: NotRequired[str | None]


class ImageRow(TypedDict):
    """A line of images.jsonl, which may hold other fields, too."""

    id: str
    label: NotRequired[str | None]
    split: NotRequired[str | None]
    scene: NotRequired[str | None]
    window: NotRequired[tuple[_Edge, _Edge, _Edge, _Edge] | None]
    look: NotRequired[int | None]
    file: NotRequired[str | None]


class TextRow(TypedDict):
    """A line of texts.jsonl, which may hold other fields, too."""

    text: str
    kind: str
    image: NotRequired[str | None]
    label: NotRequired[str | None]
    scene: NotRequired[str | None]
    query: NotRequired[str | None]
    template: NotRequired[str | None]
    points: NotRequired[list[list[tuple[Finite, Finite]]] | None]
    tokens: NotRequired[_Tokens | None]
    length: NotRequired[_Length | None]
    edit: NotRequired[str | None]
    sentences: NotRequired[_Tokens | None]
    whole: NotRequired[str | None]
    of: NotRequired[str | None]


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
        """The row of each image id."""
        return {image["id"]: row for row, image in enumerate(self.image_rows)}

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
        path = self.path / named(name) if name else None
        return path if path and os.path.isfile(path) else None  # Path.is_file raises for a name that is too long


def find_sets(root: str | os.PathLike[str]) -> list[Path]:
    """Returns the folders of all finished sets at or below `root`, in order; InputError where there is none."""
    walked = os.walk(root, followlinks=True)
    found = sorted(Path(top) for top, _, files in walked if META in files and {"images.npy", "texts.npy"} & set(files))
    if not found:
        raise InputError(f"{root}: no embedding set there; `lrsclip embed` makes one")
    return found


def open_set(path: str | os.PathLike) -> EmbeddingSet:
    """Opens a set.

    Raises:
      InputError: a file is missing, torn or of another form, a field is of another type (it names the line and the
        field), the files do not fit together, two images have one id, or a length before normalisation is not above 0.
        The rows of the matrices are not read: functions that compute with them check them.
    """
    path = Path(path)
    where = f"{path}/{META}"
    if not (path / META).exists():
        raise InputError(f"{path}: no finished embedding set ({META} is missing)")
    meta: dict[str, Any] = read_json(path / META, dict[str, Any])
    convert(meta, where, Meta)
    _known(meta["features"], FEATURES, where, "features")
    present = [side for side in SIDES if (path / f"{side}.npy").exists()]
    if not present:
        raise InputError(f"{path}: neither images.npy nor texts.npy")
    rows = {side: read_array(path / f"{side}.npy", np.float32, 2) for side in present}
    dims = {side: matrix.shape[1] for side, matrix in rows.items()}
    if len(set(dims.values())) > 1:
        raise InputError(
            f"{path}: images have {dims['images']} dimensions and texts {dims['texts']}: embed both with one model"
        )
    dim = next(iter(dims.values()))
    if meta.get("dim") not in (None, dim):
        raise InputError(f"{path}: {META} says dim {meta['dim']}, {present[0]}.npy has rows of {dim}")
    norms = {side: read_array(path / f"{SIDES[side]}_norms.npy", np.float32, 1) for side in present}
    schemas = {"images": ImageRow, "texts": TextRow}
    of_row = {side: _rows(path / f"{side}.jsonl", schemas[side]) for side in present}
    for side in present:
        counts = {f"{side}.npy": len(rows[side]), f"{SIDES[side]}_norms.npy": len(norms[side])}
        counts[f"{side}.jsonl"] = len(of_row[side])
        if len(set(counts.values())) > 1:
            raise InputError(f"{path}: " + ", ".join(f"{name} has {n} rows" for name, n in counts.items()))
        _check_norms(norms[side], path / f"{SIDES[side]}_norms.npy")
    _check_ids(of_row.get("images", ()), path / "images.jsonl")
    for number, text in enumerate(of_row.get("texts", ()), 1):
        if text["kind"] not in KINDS:
            _known(text["kind"], KINDS, f"{path}/texts.jsonl, line {number}", "kind")
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


def finish_set(path: Path, meta: Mapping[str, Any]) -> None:
    """Writes the checksums of a set's files, for `check_set`, and then meta.json."""
    names = [name for name in _FILES if (path / name).exists()]
    meta = all_spelled(dict(meta))
    found = dict(zip(names, checksums([path / name for name in names]), strict=True))
    write_checksums(path, found | {META: _of_meta(meta)})
    write_meta(path, meta)


def check_set(path: str | os.PathLike[str]) -> None:
    """Reads all of a set, at the speed of the disk, and compares it with the checksums that it may have.

    Raises InputError naming the file that is not what was written.
    """
    remedy = f"embed again or, if you have changed it yourself, delete {os.fspath(path)}/{CHECKSUMS}"
    check(path, _FILES, remedy=remedy)
    expected = read_checksums(path).get(META)
    if expected and expected != _of_meta(read_json(Path(path) / META, dict[str, Any])):
        raise InputError(f"{os.fspath(path)}/{META} is damaged: its content is not what was written: {remedy}")


_FILES = [name for side, one in SIDES.items() for name in (f"{side}.npy", f"{one}_norms.npy", f"{side}.jsonl")]


def _of_meta(meta: Mapping[str, Any]) -> Checksum:
    """The checksum of the fields of meta.json, but for `study`, which is added by hand."""
    fields = {name: value for name, value in meta.items() if name != "study"}
    return of_bytes(json.dumps(fields, sort_keys=True).encode())


def _save(path: Path, array: np.ndarray) -> None:
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, array)


def _rows(path: Path, schema: Any) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        parse_json(line, where, schema)
        rows.append(parse_json(line, where, dict[str, Any]))  # with what the schema does not name
    return rows


def _known(value: str, known: Sequence[str], where: str, name: str) -> None:
    if value not in known:
        raise InputError(f"{where}: {name} is {value!r:.80}{nearest(value, known)} (known: {', '.join(known)})")


def _check_norms(norms: np.ndarray, path: Path) -> None:
    wrong = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(wrong):
        raise InputError(f"{path}: row {wrong[0]} is {norms[wrong[0]]:.4g}, the length of a row is above 0")


def _check_ids(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        if (first := lines.setdefault(row["id"], number)) != number:
            raise InputError(f"{path}: lines {first} and {number} have one id, {row['id']!r:.80}")
