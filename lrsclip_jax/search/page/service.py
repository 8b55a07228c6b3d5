"""What stands behind the page: an open index, its archive, its scenes and its model, and how they are asked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import anyio
import numpy as np
from PIL import Image

from lrsclip_jax.search.page.archive import Archive
from lrsclip_jax.search.page.asking import Search, filters_of
from lrsclip_jax.search.page.dropped import Shelf
from lrsclip_jax.search.page.heat import HeatMap, HeatMaps
from lrsclip_jax.search.page.map_tiles import MapTiles
from lrsclip_jax.search.page.readiness import Readiness
from lrsclip_jax.search.page.scene_views import SceneViews
from lrsclip_jax.search.page.sentences import Refusal

_BACKGROUND = 12  # thumbnails whose patches say what is usual


class Service:
    """Everything that requests share.

    Args:
      index: from `lrsclip_jax.search.open`.
    """

    def __init__(self, index: Any):
        self.index = index
        self.archive = Archive(index.path)
        settings = index.meta.get("index", {})
        self.views = SceneViews(self.archive.scenes, tuple(settings["bands"]) if settings.get("bands") else None)
        archive = self.archive
        self.tiles = MapTiles(archive.boxes, archive.finest, archive.scene_of_row, archive.thumbnail, self.views)
        self.shelf = Shelf()
        self.heat = HeatMaps(lambda: index.model, self.views, self._usual_images)
        self.readiness = Readiness(
            {
                "Loading the model": lambda: index.model,
                "Preparing the search": lambda: index.search(text=["a place"], top=1) if len(archive) else None,
                "Preparing heat maps": lambda: self.heat.prepare() if len(archive) else None,
            }
        )
        # Threads at a time: searches and decoding, heat maps, views of scenes.
        self.asking, self.heating, self.viewing = (anyio.CapacityLimiter(count) for count in (4, 1, 6))

    def search(self, asked: Search) -> Any:
        """Returns the hits of a search; Refusal where it asks for nothing or for what is not there."""
        if not asked.asks:
            raise Refusal(400, "Say what to look for: text, image or like.")
        for name in asked.scene:
            self.views.row(name)
        return self.index.search(
            text=asked.text,
            image=[self.shelf.get(key).pixels for key in asked.image],
            negative=asked.negative,
            like=[self.archive.row(key) for key in asked.like],
            unlike=[self.archive.row(key) for key in asked.unlike],
            **filters_of(asked),
        )

    def heat_map(self, key: str, asked: Search) -> HeatMap:
        """Returns the heat map of a search around a tile; the texts' where it has some, else its examples'."""
        row = self.archive.row(key)
        model, texts = self.index.model, bool(asked.text)
        if texts:
            query = model.texts(asked.text)
        elif asked.image:
            query = model.images([self.shelf.get(image).pixels for image in asked.image])
        elif asked.like:
            query = np.asarray(self.index.images[[self.archive.row(like) for like in asked.like]])
        else:
            raise Refusal(400, "A heat map needs a text, an image or an example.")
        usual = None if texts else np.asarray(self.index.images[self.archive.sample(256)]).mean(axis=0)
        window = tuple(self.archive.windows[row].tolist())
        return self.heat.of(self.archive.scene_of_row[row], window, query.mean(axis=0), usual)

    def _usual_images(self) -> Sequence[np.ndarray]:
        found = (self.archive.thumbnail(row) for row in self.archive.sample(_BACKGROUND))
        return [np.asarray(Image.open(io.BytesIO(jpeg), formats=("JPEG",)).convert("RGB")) for jpeg in found if jpeg]
