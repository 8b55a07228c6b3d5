"""The text's heat map around a tile, computed when it is asked for: which patches of the scene look like the query.

A region three tiles wide is seen by the model's patches (`localise.heatmap`). The colours are scaled by this archive's
own background, not by the region's extremes: what is absent stays clear.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from lrsclip_jax.search.page.scene_views import SceneViews
from lrsclip_jax.search.page.sentences import Refusal

if TYPE_CHECKING:
    from lrsclip_jax.pretrained import Pretrained

Window = tuple[int, int, int, int]
TILES = 3  # that the region is wide
_THUMBNAIL = 128
_SEEN = 1024  # pixels of a window, at most, that are read for the model
_SIDE = 384  # pixels of the longer side of the map
# Of the background's patches: what stays clear, and what is as hot as the colours get.
_COLD, _HOT = 50.0, 99.5
_FLOOR = np.array([255, 214, 64], np.float32)  # amber, where heat begins
_TOP = np.array([214, 10, 46], np.float32)  # red, where it ends


@dataclass(frozen=True)
class HeatMap:
    """A heat map: the window of the scene that it covers, RGBA as PNG, and how hot its hottest patch is, 0 to 1."""

    window: Window
    png: bytes = field(repr=False)
    hottest: float


class HeatMaps:
    """Computes heat maps, one at a time.

    Args:
      model: returns the model.
      views: reads the scenes.
      background: returns images of the archive, uint8 [H, W, 3]: what is usual.
    """

    def __init__(
        self, model: Callable[[], Pretrained], views: SceneViews, background: Callable[[], Sequence[np.ndarray]]
    ):
        self._model, self._views, self._background = model, views, background
        self._lock = threading.Lock()
        self._encode: Callable | None = None
        self._usual: np.ndarray | None = None

    def of(self, scene: str, tile: Window, direction: np.ndarray) -> HeatMap:
        """Returns the heat along a direction around a tile of a scene.

        Args:
          scene: its name.
          tile: r0, r1, c0, c1 in its pixels.
          direction: a query less what is neutral, [E].
        """
        from lrsclip_jax.localise.heatmap import heat

        if self._model().preprocessing.bands:
            raise Refusal(409, "Heat maps are drawn of RGB, and the model of this index reads other bands.")
        row = self._views.row(scene)
        region = region_of(tile, row["height"], row["width"])
        windows = windows_of(region)
        crops = []
        for r0, r1, c0, c1 in windows:
            by = max(1.0, max(r1 - r0, c1 - c0) / _SEEN)
            crops.append(self._views.window(scene, (r0, r1, c0, c1), round((r1 - r0) / by), round((c1 - c0) / by)))
        with self._lock:
            patches = self._encoder()(crops)
            usual = self._usual_patches()
        along = direction.astype(np.float32)
        heats = heat(patches, along[None])[:, 0]
        low, high = np.percentile(usual @ along if len(usual) else heats, (_COLD, _HOT))
        values = np.clip((_mean(heats, windows, region) - low) / max(high - low, 1e-6), 0, 1)
        return HeatMap(region, _png(values), float(values.max()))

    def prepare(self) -> None:
        """Computes what all maps need: seconds that the first one need not wait for."""
        if not self._model().preprocessing.bands:
            with self._lock:
                self._usual_patches()

    def _encoder(self) -> Callable:
        from lrsclip_jax.localise.heatmap import patch_encoder  # imports JAX: the page answers before

        if self._encode is None:
            self._encode = patch_encoder(self._model(), batch_size=1)  # most maps are of one window
        return self._encode

    def _usual_patches(self) -> np.ndarray:
        if self._usual is None:
            images = mosaics(self._background())
            rows = self._encoder()(images) if images else np.zeros((0, 0), np.float32)
            self._usual = rows.reshape(-1, rows.shape[-1]) if len(rows) else rows
        return self._usual


def region_of(tile: Window, height: int, width: int) -> Window:
    """Returns the window around a tile that is shown with it, three tiles wide and within the scene."""
    edges = []
    for start, stop, size in ((*tile[:2], height), (*tile[2:], width)):
        side = min(TILES * (stop - start), size)
        first = min(max((start + stop - side) // 2, 0), size - side)
        edges += [first, first + side]
    return edges[0], edges[1], edges[2], edges[3]


def windows_of(region: Window) -> list[Window]:
    """Returns the squares that cover a region: one, or several overlapping ones where it is no square."""
    side = min(region[1] - region[0], region[3] - region[2])
    rows, columns = (_starts(region[edge], region[edge + 1], side) for edge in (0, 2))
    return [(row, row + side, column, column + side) for row in rows for column in columns]


def mosaics(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns images, nine to one, as wide as a region: what is usual is seen at the scale of a heat map."""
    if not images:
        return []
    small = [cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA) for image in images]
    small += small[: -len(small) % TILES**2] if len(small) >= TILES**2 else small * TILES**2
    lines = [np.concatenate(small[at : at + TILES], axis=1) for at in range(0, len(small) - TILES + 1, TILES)]
    return [np.concatenate(lines[at : at + TILES]) for at in range(0, len(lines) - TILES + 1, TILES)]


def _starts(start: int, stop: int, side: int) -> list[int]:
    return np.linspace(start, stop - side, math.ceil((stop - start) / side)).round().astype(int).tolist()


def _mean(heats: np.ndarray, windows: Sequence[Window], region: Window) -> np.ndarray:
    """The mean heat of windows, float32 [H, W], at `_SIDE` pixels."""
    height, width = region[1] - region[0], region[3] - region[2]
    by = max(height, width) / _SIDE
    total = np.zeros((max(1, round(height / by)), max(1, round(width / by))), np.float32)
    count = np.zeros_like(total)
    for (r0, r1, c0, c1), patches in zip(windows, heats, strict=True):
        rows = slice(round((r0 - region[0]) / by), max(round((r1 - region[0]) / by), 1))
        columns = slice(round((c0 - region[2]) / by), max(round((c1 - region[2]) / by), 1))
        size = total[rows, columns].shape
        total[rows, columns] += cv2.resize(patches.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)
        count[rows, columns] += 1
    return total / np.maximum(count, 1)


def _png(values: np.ndarray) -> bytes:
    """Values from 0 to 1 in colours: clear, amber, red."""
    share = values[..., None]
    colours = _FLOOR + (_TOP - _FLOOR) * share
    opacity = 215 * np.sqrt(np.clip((values - 0.15) / 0.85, 0, 1))
    out = io.BytesIO()
    Image.fromarray(np.dstack([colours, opacity]).round().astype(np.uint8)).save(out, "PNG", compress_level=1)
    return out.getvalue()
