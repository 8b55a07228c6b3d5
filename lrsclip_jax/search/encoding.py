"""Spans in, parts of an index out: threads read, the image tower encodes, another thread writes, all at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.embed.set_writer import check_directions
from lrsclip_jax.pretrained import Pretrained
from lrsclip_jax.search.catalogues import Unreadable
from lrsclip_jax.search.index_parts import PART, Covered
from lrsclip_jax.search.tile_reading import ReadSpan, Span

Save = Callable[[list[Covered], list[dict[str, Any]], np.ndarray], None]
Progress = Callable[[ReadSpan], None]


def encode(
    model: Pretrained, spans: Iterable[Span], read: Callable[[Span], ReadSpan], save: Save, progress: Progress
) -> dict[str, Unreadable]:
    """Reads and encodes spans, and saves a part for every `PART` tiles. Finished parts are saved also when it fails.

    Args:
      model: embeds the tiles, in batches that reach across spans.
      spans: of scenes.
      read: reads one; threads call it.
      save: writes what a part covers, its rows and their embeddings; another thread calls it.
      progress: is told of each span that was read.

    Returns:
      {scene: fault} of scenes that could not be read for a reason that may pass.

    Raises:
      InputError: a tile gets a row without direction, or what `save` raises.
    """
    passing: dict[str, Unreadable] = {}
    part = _Part(model.source)
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        try:
            for found, rows in _encoded(model, spans, read, progress):
                if found.fault and not found.fault.lasting:
                    passing[found.span.scene.name] = found.fault
                    continue
                part.add(found, rows)
                if part.tiles >= PART:
                    if written:
                        written.result()
                    written, part = writer.submit(save, *part.content()), _Part(model.source)
        finally:  # also of an interrupt
            if written:
                written.result()
            if part.covered:
                save(*part.content())
    return passing


def _encoded(
    model: Pretrained, spans: Iterable[Span], read: Callable[[Span], ReadSpan], progress: Progress
) -> Iterator[tuple[ReadSpan, list[np.ndarray]]]:
    """Yields each span that was read, in order, with the embeddings of its tiles."""
    waiting: deque[tuple[ReadSpan, int]] = deque()
    rows: deque[np.ndarray] = deque()

    def pixels() -> Iterator[np.ndarray]:
        for found in in_threads(read, spans):
            progress(found)
            tiles, found.pixels = found.pixels, []
            waiting.append((found, len(tiles)))
            yield from tiles

    for batch in model.encoded("image", pixels()):
        rows.extend(batch)
        while waiting and waiting[0][1] <= len(rows):
            found, count = waiting.popleft()
            yield found, [rows.popleft() for _ in range(count)]
    for found, _ in waiting:  # without tiles
        yield found, []


class _Part:
    """A part that is being gathered."""

    def __init__(self, source: str):
        self.covered: list[Covered] = []
        self._source = source
        self._rows: list[dict[str, Any]] = []
        self._embeddings: list[np.ndarray] = []

    @property
    def tiles(self) -> int:
        return len(self._rows)

    def add(self, found: ReadSpan, embeddings: list[np.ndarray]) -> None:
        span = found.span
        if embeddings:
            check_directions(np.array(embeddings), [row["id"] for row in found.rows], self._source)
        self._rows += found.rows
        self._embeddings += embeddings
        last = self.covered[-1] if self.covered else None
        fault = found.fault.reason if found.fault else None
        entry = span.scene.entry
        if last and (last.scene, last.fingerprint, last.stop, last.fault) == (
            entry.scene,
            entry.fingerprint,
            span.start,
            fault,
        ):
            last.stop = span.stop
            last.tiles += len(found.rows)
            last.empty += found.empty
        else:
            self.covered.append(
                Covered(entry.scene, entry.fingerprint, span.start, span.stop, len(found.rows), found.empty, fault)
            )

    def content(self) -> tuple[list[Covered], list[dict[str, Any]], np.ndarray]:
        return self.covered, self._rows, np.array(self._embeddings)
