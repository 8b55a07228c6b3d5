"""The map's own picture: the archive's scenes as tiles of a web map.

Far away, where a tile of the index covers fewer pixels of the screen than its thumbnail has, the thumbnails are laid
out: no scene is opened, and lost ones are still seen. Near by, the scenes themselves are read.
"""

from __future__ import annotations

import io
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image

from lrsclip_jax.search.page.scene_views import SceneViews
from lrsclip_jax.search.page.sentences import Refusal

THUMBNAIL = 128  # pixels
_SMALLEST = 6  # pixels of the map that a thumbnail takes at least
_POINT = 16  # pixels of half the side of a photograph, which has a point for a place
_SCENES = 16  # read for one tile of the map
_CACHED = 64 << 20  # bytes of finished tiles
_LIMIT = 85.0511287  # degrees of latitude, where the web map ends


class MapTiles:
    """Draws and remembers tiles.

    Args:
      boxes: west, south, east, north of each tile of the index, float64 [N, 4], NaN without a place; across the date
        line west is the larger.
      finest: which rows are of the finest level, bool [N].
      names, of_tile: the scenes' names, and the number of each row's scene among them, int [N].
      thumbnails: returns the JPEGs of some rows, None where there is none.
      views: reads scenes.
    """

    def __init__(
        self,
        boxes: np.ndarray,
        finest: np.ndarray,
        names: Sequence[str],
        of_tile: np.ndarray,
        thumbnails: Callable[[np.ndarray], list[bytes | None]],
        views: SceneViews,
    ):
        rows = np.flatnonzero(np.isfinite(boxes).all(axis=1) & finest)
        box = boxes[rows]
        crossing = box[:, 0] > box[:, 2]  # drawn at both ends of the map
        box[crossing, 2] += 360
        box = np.concatenate([box, box[crossing] - (360, 0, 360, 0)])
        self._rows = np.concatenate([rows, rows[crossing]])
        left, top = _fractions(box[:, 0], box[:, 3])
        right, bottom = _fractions(box[:, 2], box[:, 1])
        self._edges = np.stack([left, top, right, bottom], axis=1)
        self._names, self._of_tile, self._thumbnails, self._views = names, of_tile, thumbnails, views
        self._done: OrderedDict[tuple, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def png(self, z: int, x: int, y: int, size: int) -> bytes:
        """Returns a tile as PNG, `size` pixels wide, transparent where the archive has nothing."""
        key = (z, x, y, size)
        with self._lock:
            if key in self._done:
                self._done.move_to_end(key)
                return self._done[key]
        drawn, whole = self._drawn(z, x, y, size)
        data = EMPTY if drawn is None else _png(drawn)
        if not whole:  # lost scenes may come back
            return data
        with self._lock:
            if key not in self._done:
                self._bytes += len(data)
            self._done[key] = data
            while self._bytes > _CACHED:
                self._bytes -= len(self._done.popitem(last=False)[1])
        return data

    def _drawn(self, z: int, x: int, y: int, size: int) -> tuple[np.ndarray | None, bool]:
        """The pixels of a tile, and whether all of its scenes could be read."""
        edges = (self._edges * 2.0**z - (x, y, x, y)) * size  # pixels of this tile
        meets = (edges[:, 0] < size) & (edges[:, 2] > 0) & (edges[:, 1] < size) & (edges[:, 3] > 0)
        chosen = np.flatnonzero(meets)
        if not len(chosen):
            return None, True
        edges, rows = edges[chosen], self._rows[chosen]
        wide = float(np.median(np.maximum(edges[:, 2] - edges[:, 0], edges[:, 3] - edges[:, 1])))
        if wide <= THUMBNAIL:
            return self._of_thumbnails(edges, rows, size), True
        scenes = self._of_tile[rows]
        out, whole = np.zeros((size, size, 4), np.uint8), True
        for scene in list(dict.fromkeys(scenes.tolist()))[:_SCENES]:
            try:
                drawn = self._views.map_tile(self._names[scene], z, x, y, size)
            except Refusal:  # lost: what its thumbnails show of it
                whole = False
                drawn = self._of_thumbnails(edges[scenes == scene], rows[scenes == scene], size)
            if drawn is not None:
                free = (out[..., 3] == 0) & (drawn[..., 3] > 0)
                out[free] = drawn[free]
        return out, whole

    def _of_thumbnails(self, edges: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
        out = np.zeros((size, size, 4), np.uint8)
        middle = (edges[:, :2] + edges[:, 2:]) / 2
        step = max(_SMALLEST, float(np.median(edges[:, 2] - edges[:, 0])) / 2)
        _, first = np.unique(np.floor(middle / step).astype(np.int64), axis=0, return_index=True)
        first.sort()
        half = np.where(
            edges[:, 2:] > edges[:, :2], np.maximum((edges[:, 2:] - edges[:, :2]) / 2, _SMALLEST / 2), _POINT
        )
        low, high = np.floor(middle - half).astype(int), np.ceil(middle + half).astype(int)
        for number, jpeg in zip(first.tolist(), self._thumbnails(rows[first]), strict=True):
            thumbnail = _decoded(jpeg)
            if thumbnail is None:
                continue
            (x0, y0), (x1, y1) = low[number].tolist(), high[number].tolist()
            part = _scaled_part(thumbnail, (x0, y0, x1, y1), size)
            if part is not None:
                (left, top, right, bottom), pixels = part
                out[top:bottom, left:right, :3] = pixels
                out[top:bottom, left:right, 3] = 255
        return out


def _scaled_part(
    image: np.ndarray, box: tuple[int, int, int, int], size: int
) -> tuple[tuple[int, int, int, int], np.ndarray] | None:
    """What of an image, drawn into `box`, is seen on a tile: where, and its pixels."""
    x0, y0, x1, y1 = box
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, size), min(y1, size)
    if left >= right or top >= bottom:
        return None
    scale = np.array([[image.shape[1] / (x1 - x0), 0, 0], [0, image.shape[0] / (y1 - y0), 0]])
    scale[:, 2] = ((left - x0 + 0.5) * scale[0, 0] - 0.5, (top - y0 + 0.5) * scale[1, 1] - 0.5)
    if scale[0, 0] > 2:  # shrinking by much: average first
        image = cv2.resize(image, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        return (left, top, right, bottom), image[top - y0 : bottom - y0, left - x0 : right - x0]
    pixels = cv2.warpAffine(
        image,
        scale,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return (left, top, right, bottom), pixels


def _fractions(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees to the web map's square, 0 … 1 from west and from north."""
    lat = np.radians(np.clip(lat, -_LIMIT, _LIMIT))
    return (lon + 180) / 360, (1 - np.arcsinh(np.tan(lat)) / math.pi) / 2


def _decoded(jpeg: bytes | None) -> np.ndarray | None:
    if not jpeg:
        return None
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


EMPTY = _png(np.zeros((1, 1, 4), np.uint8))
