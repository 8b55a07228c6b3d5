"""What stands behind the page: an open index, its scenes and its model, and how they are asked."""

from __future__ import annotations

import io
from collections.abc import Sequence

import anyio
import numpy as np
from PIL import Image

from lrsclip_jax.search.hits import Hits
from lrsclip_jax.search.index import Index
from lrsclip_jax.search.page import archive
from lrsclip_jax.search.page.asking import Search, filters_of
from lrsclip_jax.search.page.dropped import Shelf
from lrsclip_jax.search.page.heat import HeatMap, HeatMaps
from lrsclip_jax.search.page.map_tiles import MapTiles
from lrsclip_jax.search.page.readiness import Readiness
from lrsclip_jax.search.page.scene_views import SceneViews
from lrsclip_jax.search.page.sentences import Refusal

_BACKGROUND = 36  # tiles whose patches say what is usual


class Service:
    """Everything that requests share.

    Args:
      index: of the archive.
    """

    def __init__(self, index: Index):
        self.index = index
        settings = index.meta["index"]
        boxes = archive.footprint_boxes(index)
        levels = index.tiles.take(np.arange(len(index)), ["level"]).column(0).to_numpy()
        self.facts = archive.facts(index, boxes)
        bands = settings.get("bands")
        reduction = _reductions(index, levels == 0, settings["tile"])
        self.views = SceneViews(index.scenes, tuple(bands) if bands else None, reduction)
        self.tiles = MapTiles(boxes, levels == 0, *index.tiles.scenes, self.thumbnails, self.views)
        self.shelf = Shelf()
        self.heat = HeatMaps(lambda: index.model, self.views, self._usual_images)
        self.readiness = Readiness(
            {"Loading the model": lambda: index.model, "Preparing the search": index.warm},
            lambda: self.heat.prepare() if len(index) else None,
        )
        # Threads at a time: searches and decoding, heat maps, views of scenes.
        self.asking, self.heating, self.viewing = (anyio.CapacityLimiter(count) for count in (4, 1, 6))

    def search(self, asked: Search) -> Hits:
        """Returns the hits of a search; Refusal or InputError where it asks for nothing or for what is not there."""
        if not asked.asks:
            raise Refusal(400, "Say what to look for: text, image or like.")
        return self.index.search(
            text=asked.text,
            image=[self.shelf.get(key).pixels for key in asked.image],
            negative=asked.negative,
            more=asked.like,
            less=asked.unlike,
            **filters_of(asked),
        )

    def heat_map(self, key: str, asked: Search) -> HeatMap:
        """Returns the heat map of a search around a tile: of its texts where it has some, else of its examples."""
        (row,) = self.index.tiles.rows_of([key])
        parts = {"text": asked.text} if asked.text else {"image": asked.image, "like": asked.like}
        direction = self.search(Search.model_validate({**parts, "top": 1})).contrast
        if direction is None:
            raise Refusal(400, "A heat map needs a text, an image or an example.")
        names, of_tile = self.index.tiles.scenes
        r0, r1, c0, c1 = self.index.tiles.windows[row].tolist()
        return self.heat.of(names[of_tile[row]], (r0, r1, c0, c1), direction)

    def thumbnails(self, rows: Sequence[int] | np.ndarray) -> list[bytes | None]:
        """Returns the JPEGs of some rows."""
        return self.index.tiles.take(rows, ["thumbnail"]).column(0).to_pylist()

    def _usual_images(self) -> Sequence[np.ndarray]:
        found = self.thumbnails(archive.spread_rows(self.index, _BACKGROUND))
        return [np.asarray(Image.open(io.BytesIO(jpeg), formats=("JPEG",)).convert("RGB")) for jpeg in found if jpeg]


def _reductions(index: Index, finest: np.ndarray, side: int) -> dict[str, float]:
    """By how much the tiles of each scene are smaller than its pixels."""
    names, of_tile = index.tiles.scenes
    rows = np.flatnonzero(finest)
    scenes, first = np.unique(of_tile[rows], return_index=True)
    heights = index.tiles.windows[rows[first]]
    return {names[scene]: max(1.0, (r1 - r0) / side) for scene, (r0, r1, _, _) in zip(scenes, heights, strict=True)}
