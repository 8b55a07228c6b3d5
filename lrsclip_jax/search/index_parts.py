"""The parts of an index that is being made: Parquet files with tiles, their embeddings, and the spans they cover.

A part is whole or absent, its pages have checksums, and it tells by itself what it covers: parts may be made in any
order, by any machine, and in any number of attempts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eval.reading import convert, parse_json, read_json
from eval.whole import whole, write_text
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.index_settings import FOLDER, check_same
from lrsclip_jax.search.tiles_table import TILE_SCHEMA

PART = 1024  # tiles: what a kill may cost
_PLAN = "plan.json"
_SPANS = b"spans"
_SCHEMA = TILE_SCHEMA.append(pa.field("embedding", pa.binary())).remove_metadata()


class Covered(msgspec.Struct):
    """Tiles `start` to `stop` of a scene as it was at a fingerprint: how many rows a part has of them, and how many
    are left out; or the fault for which the scene is set aside."""

    scene: str
    fingerprint: str
    start: int
    stop: int
    tiles: int = 0
    empty: int = 0
    fault: str | None = None


class Slice(NamedTuple):
    """Rows `start` to `stop` of a part."""

    part: Path
    start: int
    stop: int


def claim(out: Path, plan: Mapping[str, Any]) -> None:
    """Begins parts in `out`, or continues those of the same plan, fields of meta.json; InputError of another plan."""
    path = out / FOLDER / _PLAN
    if path.exists():
        check_same(out, read_json(path, dict[str, Any]), plan)
    write_text(path, json.dumps(plan, indent=1, sort_keys=True))


def save(
    out: Path, covered: Sequence[Covered], rows: Iterable[Mapping[str, Any]], embeddings: np.ndarray, number: int
) -> None:
    """Writes a part, whole or not at all.

    Args:
      out: folder of the index.
      covered: what the part covers, in the order of its rows.
      rows: of tiles.parquet.
      embeddings: of the rows before normalisation, float32 [N, D].
      number: of the part.
    """
    table = pa.Table.from_pylist(
        [{**row, "embedding": raw.tobytes()} for row, raw in zip(rows, embeddings, strict=True)], _SCHEMA
    )
    table = table.replace_schema_metadata({_SPANS: msgspec.json.encode(covered)})
    with whole(out / FOLDER / f"part-{number:08d}.parquet") as partial:
        pq.write_table(table, partial, write_page_checksum=True)


def next_number(out: Path) -> int:
    """Returns the number of the part to be written next."""
    return 1 + max((int(path.stem.removeprefix("part-")) for path in _files(out)), default=-1)


def covered(out: Path) -> dict[tuple[str, str], list[tuple[Covered, Slice]]]:
    """Returns what the parts cover: {(scene, fingerprint): spans in order, each with its rows}.

    Of tiles that two parts cover the first counts. A part that can't be read is removed, as its tiles are made again.
    """
    found: dict[tuple[str, str], list[tuple[Covered, Slice]]] = {}
    for path in _files(out):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                spans: list[Covered] = convert(
                    parse_json(file.schema_arrow.metadata[_SPANS], str(path)), str(path), list[Covered]
                )
                for _ in file.iter_batches(PART):
                    pass
        except (pa.ArrowException, OSError, KeyError, TypeError, InputError):
            path.unlink(missing_ok=True)
            continue
        at = 0
        for span in spans:
            slices = found.setdefault((span.scene, span.fingerprint), [])
            if not any(span.start < other.stop and other.start < span.stop for other, _ in slices):
                slices.append((span, Slice(path, at, at + span.tiles)))
            at += span.tiles
    for slices in found.values():
        slices.sort(key=lambda pair: pair[0].start)
    return found


def read(slices: Iterable[Slice], held: dict[Path, pa.Table]) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yields the rows of slices, as tiles.parquet has them, and their embeddings, float32 [n, D].

    Args:
      slices: of parts.
      held: the part that was read last, for this call and the next: small scenes share one.
    """
    for part, start, stop in slices:
        if start == stop:
            continue
        if part not in held:
            held.clear()
            held[part] = pq.read_table(part, page_checksum_verification=True)
        rows = held[part].slice(start, stop - start)
        raw = b"".join(rows.column("embedding").to_pylist())
        yield (
            rows.select(TILE_SCHEMA.names).replace_schema_metadata(TILE_SCHEMA.metadata),
            np.frombuffer(raw, np.float32).reshape(len(rows), -1),
        )


def remove(out: Path) -> None:
    """Removes all parts."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def _files(out: Path) -> list[Path]:
    return sorted((out / FOLDER).glob("part-*.parquet"))
