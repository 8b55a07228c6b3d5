"""The work of `lrsclip index`: what is new in the sources is surveyed, encoded, and joined with what the index has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lrsclip_jax.data.geotiff import imported
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.data.remote import gdal_options
from lrsclip_jax.errors import InputError
from lrsclip_jax.pretrained import Pretrained
from lrsclip_jax.search import index_parts
from lrsclip_jax.search.assembly import SceneRows
from lrsclip_jax.search.catalogues import Entry, Unreadable, unreadable
from lrsclip_jax.search.encoding import encode
from lrsclip_jax.search.index_parts import Covered, Slice
from lrsclip_jax.search.index_settings import Settings
from lrsclip_jax.search.scene_tiles import TiledScene, tiled
from lrsclip_jax.search.tile_reading import ReadSpan, Span, span_reader, spans_of
from lrsclip_jax.search.tiles_table import INDEXED, SCENES, SET_ASIDE, read_scenes

Parts = Mapping[tuple[str, str], Sequence[tuple[Covered, Slice]]]
Engine = Callable[[Pretrained, Sequence[Span], Settings, Any, Any], dict[str, Unreadable]]


@dataclass(frozen=True)
class Change:
    """What has changed in the sources since an index was made.

    Attributes:
      kept: scenes that are as they were, {name: what the index has of them}.
      todo: scenes that are new, have changed, or could not be read before for a reason that may have passed.
      new, changed, removed: how many there are.
    """

    kept: Mapping[str, SceneRows]
    todo: Sequence[Entry]
    new: int
    changed: int
    removed: int

    @property
    def any(self) -> bool:
        """Whether there is something to do."""
        return bool(self.todo or self.removed)


def compare(out: Path, entries: Sequence[Entry], finished: bool) -> Change:
    """Returns what has changed against the index in `out`, where there is a `finished` one."""
    before: dict[str, SceneRows] = {}
    at = 0
    for row in read_scenes(out / SCENES).to_pylist() if finished else ():
        before[row["scene"]] = SceneRows(row, range(at, at + row["tiles"]))
        at += row["tiles"]
    kept, todo = {}, []
    for entry in entries:
        known = before.get(entry.scene)
        if known and _as_it_was(entry, known.row):
            kept[entry.scene] = known
        else:
            todo.append(entry)
    names = {entry.scene for entry in entries}
    changed = sum(entry.scene in before for entry in todo)
    return Change(kept, todo, len(todo) - changed, changed, sum(name not in names for name in before))


def _as_it_was(entry: Entry, row: Mapping[str, Any]) -> bool:
    if entry.fault or entry.source != row["source"] or entry.fingerprint != row["fingerprint"]:
        return False
    return row["status"] == INDEXED or bool(entry.fingerprint)


def survey_scenes(entries: Sequence[Entry], settings: Settings) -> tuple[list[TiledScene], dict[str, Unreadable]]:
    """Returns the scenes of entries with their tiles, and {scene: fault} of those whose header can't be read."""
    faults = {entry.scene: Unreadable(entry.fault) for entry in entries if entry.fault}

    def surveyed(entry: Entry) -> TiledScene | Unreadable:
        try:
            with imported(entry.scene).Env(**gdal_options()):
                return tiled(entry, settings)
        except (InputError, OSError) as error:
            return unreadable(entry, error)

    readable = [entry for entry in entries if not entry.fault]
    scenes = []
    bar = tqdm(total=len(readable), desc="looking at scenes", unit=" scenes", leave=False, disable=None, delay=1)
    with bar:
        for entry, found in zip(readable, in_threads(surveyed, readable), strict=True):
            bar.update()
            if isinstance(found, TiledScene):
                scenes.append(found)
            else:
                faults[entry.scene] = found
    return scenes, faults


def encode_scenes(
    out: Path,
    scenes: Sequence[TiledScene],
    model: Pretrained,
    settings: Settings,
    plan: Mapping[str, Any],
    engine: Engine,
) -> tuple[Parts, dict[str, Unreadable]]:
    """Makes the parts that are missing of some scenes; returns all, and {scene: fault} of faults that may pass.

    Args:
      out: folder of the index.
      scenes: to be encoded.
      model: embeds tiles.
      settings: of the tiles.
      plan: fields of meta.json that all parts share.
      engine: `here`, or one that spreads spans over machines.
    """
    index_parts.claim(out, plan)
    parts = index_parts.covered(out)
    spans: list[Span] = []
    for scene in scenes:
        done = parts.get((scene.name, scene.entry.fingerprint), ())
        if not any(covered.fault for covered, _ in done):
            spans += spans_of(scene, [(covered.start, covered.stop) for covered, _ in done])
    total = sum(len(scene.windows) for scene in scenes)
    left = sum(span.stop - span.start for span in spans)
    number = index_parts.next_number(out)

    def save(covered: list[Covered], rows: list[dict[str, Any]], embeddings: np.ndarray) -> None:
        nonlocal number
        index_parts.save(out, covered, rows, embeddings, number)
        number += 1

    empty = 0
    with tqdm(desc="tiles", total=total, initial=total - left, unit=" tiles", disable=None, smoothing=0.05) as bar:

        def progress(tiles: int, without_data: int) -> None:
            nonlocal empty
            empty += without_data
            bar.update(tiles)
            bar.set_postfix_str(f"{empty:,} empty" if empty else "", refresh=False)

        passing = engine(model, spans, settings, save, progress) if spans else {}
    return index_parts.covered(out), passing


def here(
    model: Pretrained, spans: Sequence[Span], settings: Settings, save: Any, progress: Any
) -> dict[str, Unreadable]:
    """Encodes spans on this machine; see `encoding.encode`."""
    read = span_reader(settings, model.preprocessing)

    def told(found: ReadSpan) -> None:
        progress(found.span.stop - found.span.start, found.empty)

    return encode(model, spans, read, save, told)


def scene_rows(
    change: Change,
    entries: Iterable[Entry],
    scenes: Sequence[TiledScene],
    parts: Parts,
    faults: Mapping[str, Unreadable],
) -> list[SceneRows]:
    """Returns the scenes of the index to be, in the order of `entries`.

    Args:
      change: what is kept.
      entries: all scenes of the sources.
      scenes: those that were encoded.
      parts: what was made of them.
      faults: of scenes that are set aside though they may be read the next time.
    """
    known = {scene.name: scene for scene in scenes}
    return [change.kept.get(entry.scene) or _encoded(entry, known.get(entry.scene), parts, faults) for entry in entries]


def _encoded(entry: Entry, scene: TiledScene | None, parts: Parts, faults: Mapping[str, Unreadable]) -> SceneRows:
    made = parts.get((entry.scene, entry.fingerprint), ())
    fault = faults.get(entry.scene) or next((Unreadable(of.fault, True) for of, _ in made if of.fault), None)
    row = {
        "scene": entry.scene,
        "source": entry.source,
        "size": entry.size,
        "modified": entry.modified,
        "fingerprint": entry.fingerprint,
        "tiles": 0,
        "empty": 0,
    }
    if scene:
        row |= scene.described()
    if fault or not scene:
        unread = fault or Unreadable("it was not read")
        kept = entry.fingerprint if unread.lasting else ""  # else it is tried again
        return SceneRows({**row, "fingerprint": kept, "status": SET_ASIDE, "reason": unread.reason})
    counts = {"tiles": sum(covered.tiles for covered, _ in made), "empty": sum(covered.empty for covered, _ in made)}
    return SceneRows({**row, **counts, "status": INDEXED}, parts=[slices for _, slices in made])
