"""An open index: asked by text, by example image, by tiles that were liked; filtered by place, date and scene."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from eval.embeddings import META
from eval.reading import convert, read_array, read_json
from lrsclip_jax.data.geotiff import imported
from lrsclip_jax.data.rasters import open_scene
from lrsclip_jax.data.remote import gdal_options, is_address
from lrsclip_jax.errors import InputError
from lrsclip_jax.search import tiles_table
from lrsclip_jax.search.background import Background
from lrsclip_jax.search.engine import Engine, Found, engine_of
from lrsclip_jax.search.exports import write
from lrsclip_jax.search.filters import filtered
from lrsclip_jax.search.found_page import found_page
from lrsclip_jax.search.hits import Hit, Hits
from lrsclip_jax.search.query import direction, parts_of, refined
from lrsclip_jax.search.suppression import kept
from lrsclip_jax.search.tiles import Tiles

if TYPE_CHECKING:
    from lrsclip_jax.pretrained import ImageLike, Pretrained

MOST = 10_000  # hits of one search
_AHEAD = 4  # candidates looked at for each hit, as overlapping ones count once
_COLUMNS = ("id", "geometry", "level", "crs", "gsd")


class Index:
    """An index of an archive; `lrsclip_jax.search.open` makes it. Threads may share one.

    The model is loaded, and the engine opened, when they are first needed; both are kept. An index that is written
    again meanwhile does not change the open one.

    Attributes:
      path: its folder.
      name: of the index.
      meta: what meta.json says.
      rows: unit embeddings of the tiles, float32 [N, D], memory-mapped.
      tiles: places, windows, dates and scenes of the tiles, see `search.tiles.Tiles`.
    """

    def __init__(self, path: Path, checkpoint: str | None = None, engine: str | Engine = "exact"):
        self.path = path
        self.meta = _meta(path)
        self.name = str(self.meta.get("dataset", path.name))
        self.rows: np.ndarray = read_array(path / "images.npy", np.float32, 2)
        self.tiles = Tiles(path / tiles_table.TILES)
        if len(self.tiles) != len(self.rows):
            raise InputError(
                f"{path}: torn: {len(self.tiles):,} rows in {tiles_table.TILES}, {len(self.rows):,} in images.npy; "
                "lrsclip index mends it"
            )
        self.checkpoint = checkpoint or self.meta.get("checkpoint")
        self._engine = engine
        self._lock = threading.RLock()
        self._held: dict[str, Any] = {}
        self._background = Background(self.rows, lambda: self.engine, self._neutral)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def model(self) -> Pretrained:
        """The model that made the index; InputError where it can't be loaded or is another one."""
        return self._once("model", lambda: _model(self))

    @property
    def engine(self) -> Engine:
        """What finds the highest scores, as the index was opened."""
        return self._once("engine", lambda: engine_of(self._engine, self.rows, self.path / "images.npy"))

    @property
    def patches(self) -> Callable[[Iterable[np.ndarray]], np.ndarray]:
        """What gives the unit rows of images' patches, see `localise.heatmap.patch_encoder`."""
        from lrsclip_jax.localise.heatmap import patch_encoder  # imports JAX

        return self._once("patches", lambda: patch_encoder(self.model))

    @cached_property
    def scenes(self) -> Mapping[str, Mapping[str, Any]]:
        """The rows of scenes.parquet by the scenes' names: source, size, transform, date, status, reason …"""
        return {row["scene"]: row for row in tiles_table.read_scenes(self.path / tiles_table.SCENES).to_pylist()}

    def search(
        self,
        text: str | Iterable[str] = (),
        image: ImageLike | Iterable[ImageLike] = (),
        negative: str | Iterable[str] = (),
        more: Sequence[int | str] = (),
        less: Sequence[int | str] = (),
        bbox: Sequence[float] | str | None = None,
        within: Any = None,
        since: Any = None,
        until: Any = None,
        scenes: str | Iterable[str] = (),
        top: int = 50,
    ) -> Hits:
        """Returns the best tiles; of those that share ground, the one that scores highest.

        Args:
          text: one or several texts; one longer than the context length is cut, and a note says so.
          image: one or several example images: paths, PIL images, uint8 arrays [H, W, 3]. Texts and images weigh the
            same, see `search.query`.
          negative: texts to stay away from.
          more, less: rows or ids of tiles to find more or less of, with a query or, `more`, without one (Rocchio).
          bbox, within, since, until, scenes: see `search.filters.filtered`.
          top: hits at most, 1 to 10,000.

        Raises:
          InputError: nothing to look for, a filter that is none, an image that can't be read, a model that does not
            fit the index; one line each.
        """
        texts, negatives = _texts(text, "text"), _texts(negative, "negative text")
        images = _images(image)
        if isinstance(top, bool) or not isinstance(top, int | np.integer) or not 1 <= top <= MOST:
            raise InputError(f"top is {top}: expected a whole number between 1 and {MOST:,}")
        more_rows, less_rows = self._liked(more), self._liked(less)
        if not (texts or images or more_rows):
            raise InputError("say what to look for: a text, an example image, or tiles to find more of")
        allowed, notes = filtered(self.tiles, bbox, within, since, until, scenes)
        asked = _words(texts, images, negatives, more_rows, less_rows)
        considered = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if not considered:
            return Hits((), asked, len(self), 0, notes=notes, index_name=self.name)
        engine = self.engine  # fails at once where it can't be had; the model takes seconds
        parts = parts_of(*self._embedded(texts, images, negatives, notes))
        parts = refined(parts, self.rows[more_rows], self.rows[less_rows])
        query = direction(parts, self._background.spread)
        found, chosen = self._best(engine, query, top, allowed)
        rows, scores = found.rows[chosen], found.scores[chosen]
        if allowed is None:
            higher = np.searchsorted(-found.scores, -scores)  # every tile that scores higher was found, too
            percentiles = 100 * (1 - higher / len(self))
        else:
            percentiles = self._background.percentiles(query, scores)
        stick = self._background.yardstick(parts)
        hits = self._hits(rows, scores, percentiles, self._background.z(stick, query, rows))
        reached = () if stick.reached is None else tuple(np.sort(stick.reached)[::-1].tolist())
        return Hits(hits, asked, len(self), considered, reached, notes, query, query - stick.neutral, self.name)

    def thumbnail(self, row: int) -> bytes | None:
        """Returns the JPEG of a tile, None where the index has none; InputError for a row that is none."""
        self._liked([row])
        return self.tiles.take([row], ["thumbnail"]).column(0)[0].as_py()

    def pixels(self, row: int, most: int = 1024) -> np.ndarray:
        """Returns what a tile shows, at the scene's own resolution, uint8 [H, W, 3]; reduced to `most` pixels a side.

        Raises:
          InputError: the scene has gone or can't be read.
        """
        names, of_tile = self.tiles.scenes
        source = self.scenes[names[of_tile[row]]]["source"]
        bands = self.meta["index"].get("bands")
        window = self.tiles.windows[row]
        height, width = int(window[1] - window[0]), int(window[3] - window[2])
        by = max(height / most, width / most, 1)
        with imported(source).Env(**gdal_options()):
            scene = open_scene(source if is_address(source) else Path(source), tuple(bands) if bands else None)
            return scene.look(window.tolist(), round(height / by), round(width / by))[0]

    def write(self, hits: Hits, path: str | os.PathLike[str], heat: Mapping[int, np.ndarray] | None = None) -> None:
        """Writes hits as `Hits.write` does; a page has thumbnails, or pictures from `heat` by row, and a map.

        Raises:
          InputError: another ending, or the file can't be written.
        """

        def page(hits: Hits) -> str:
            return found_page(hits, self.thumbnail, self._boxes_of_scenes(), heat)

        write(hits, Path(path), page)

    def warm(self) -> None:
        """Loads the model and opens the engine now, so that the first search need not wait for them."""
        if len(self):
            self.search("a place", top=1)

    def _embedded(
        self, texts: list[str], images: list[ImageLike], negatives: list[str], notes: list[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit embeddings of the three kinds of parts; adds a note for texts that are cut."""
        said = texts + negatives
        embedded = np.zeros((0, self.rows.shape[1]), np.float32)
        if said:
            length = self.model.context_length
            lengths = [len(ids) for ids in self.model.tokenizer.encode(said)]
            if longest := max((each for each in lengths if each > length), default=0):
                notes.append(f"a text of {longest:,} tokens was cut to {length}, which is what the model reads")
            with self._lock, warnings.catch_warnings():  # the note says it
                warnings.simplefilter("ignore")
                embedded = self.model.texts(said)
        pictures = self.model.images(images) if images else embedded[:0]
        return embedded[: len(texts)], pictures, embedded[len(texts) :]

    def _neutral(self) -> tuple[np.ndarray, np.ndarray]:
        from lrsclip_jax.localise.background import ABSENT
        from lrsclip_jax.localise.heatmap import NEUTRAL

        rows = self.model.texts([*NEUTRAL, *ABSENT])
        return rows[: len(NEUTRAL)], rows[len(NEUTRAL) :]

    def _boxes_of_scenes(self) -> list[tuple[float, float, float, float]]:
        """West, south, east, north of each scene that has a place and does not touch the date line."""
        names, of_tile = self.tiles.scenes
        boxes = self.tiles.boxes
        placed = np.flatnonzero(boxes[:, 2] - boxes[:, 0] < 180)
        low, high = np.full((len(names), 2), np.inf), np.full((len(names), 2), -np.inf)
        np.minimum.at(low, of_tile[placed], boxes[placed, :2])
        np.maximum.at(high, of_tile[placed], boxes[placed, 2:])
        corners = np.concatenate([low, high], axis=1)
        return [tuple(box) for box in corners[np.isfinite(low[:, 0])].tolist()]

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._held:
                self._held[name] = make()
            return self._held[name]

    def _liked(self, tiles: Sequence[int | str]) -> list[int]:
        """The rows of tiles that are named by row or id."""
        names = [tile for tile in tiles if isinstance(tile, str)]
        of_name = dict(zip(names, self.tiles.rows_of(names), strict=True)) if names else {}
        rows = [of_name[tile] if isinstance(tile, str) else tile for tile in tiles]
        for row in rows:
            if isinstance(row, bool) or not isinstance(row, int | np.integer) or not 0 <= row < len(self):
                raise InputError(f"the index has no row {row!r:.40}, it has {len(self):,} tiles")
        return [int(row) for row in rows]

    def _best(
        self, engine: Engine, query: np.ndarray, top: int, allowed: np.ndarray | None
    ) -> tuple[Found, np.ndarray]:
        """The best tiles, and the places among them of those that share no ground."""
        count = _AHEAD * top
        while True:
            found = engine.top(query, count, allowed)
            chosen = kept(self.tiles, found.rows, top)
            if len(chosen) == top or len(found.rows) < count:
                return found, chosen
            count *= _AHEAD

    def _hits(self, rows: np.ndarray, scores: np.ndarray, percentiles: np.ndarray, z: np.ndarray) -> tuple[Hit, ...]:
        names, of_tile = self.tiles.scenes
        table = self.tiles.take(rows, _COLUMNS).to_pydict()
        shapes = shapely.from_wkb(np.array(table["geometry"], object)).tolist()
        dates, levels = self.tiles.dates[rows].tolist(), table["level"]
        return tuple(
            Hit(
                rank=place + 1,
                row=int(row),
                id=table["id"][place],
                scene=names[of_tile[row]],
                window=tuple(self.tiles.windows[row].tolist()),
                level=levels[place],
                cosine=float(scores[place]),
                percentile=float(percentiles[place]),
                z=float(z[place]),
                geometry=shapes[place],
                bbox=_bounds(shapes[place]),
                crs=table["crs"][place],
                gsd=table["gsd"][place],
                date=_utc(dates[place]),
            )
            for place, row in enumerate(rows)
        )


def _meta(path: Path) -> Mapping[str, Any]:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; `lrsclip index` makes an index")
    if not (path / META).is_file():
        raise InputError(f"{path}: no finished index ({META} is missing); `lrsclip index` makes one")
    meta: dict[str, Any] = read_json(path / META, dict[str, Any])
    if "index" not in meta or not (path / tiles_table.TILES).exists():
        raise InputError(f"{path}: an embedding set, but no index of an archive; `lrsclip index` makes one")
    if meta.get("features") != "projected":
        raise InputError(f"{path}/{META}: features are {meta.get('features')!r:.40}, a search needs 'projected'")
    return meta


def _model(index: Index) -> Pretrained:
    from lrsclip_jax import pretrained  # imports JAX, which takes seconds

    if not isinstance(index.checkpoint, str):
        raise InputError(f"{index.path}/{META} names no checkpoint: give it, as when the index was made")
    about = f"{index.path}/{META}: index: layout"
    layout: tuple[str, ...] = convert(index.meta["index"].get("layout", ()), about, tuple[str, ...])
    try:
        model = pretrained.load(index.checkpoint, batch_size=32, layout=layout)
    except InputError as error:
        raise InputError(f"the model of the index can't be loaded: {error}") from None
    made = index.rows.shape[1]
    if (dim := model.clip.image.embed_dim) != made:
        raise InputError(
            f"{index.path} holds embeddings of {made} dimensions, {model.source} makes {dim}: another model"
        )
    if (weights := index.meta.get("weights")) and weights != model.weights_hash:
        raise InputError(f"{index.path} was made with other weights than {model.source} has: index the archive again")
    return model


def _texts(given: str | Iterable[str], name: str) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"an empty {name}: say what to look for")
    return texts


def _images(given: Any) -> list[Any]:
    if isinstance(given, str | os.PathLike) or (hasattr(given, "size") and not getattr(given, "ndim", 0) == 4):
        return [given]
    return list(given)


def _words(texts: list[str], images: list[Any], negatives: list[str], more: list[int], less: list[int]) -> str:
    """A query in words: "a harbour" and harbour.tif, not "clouds", more like 2 tiles."""
    parts = [f"“{text}”" for text in texts]
    parts += [os.path.basename(image) if isinstance(image, str | os.PathLike) else "an image" for image in images]
    said = [" and ".join(parts)] if parts else []
    said += [f"not “{text}”" for text in negatives]
    said += [
        f"{word} like {len(rows)} tile{'s' * (len(rows) > 1)}"
        for word, rows in (("more", more), ("less", less))
        if rows
    ]
    return ", ".join(said)


def _bounds(shape: shapely.Geometry | None) -> tuple[float, float, float, float] | None:
    """West, south, east, north; west above east where the shape is split at the date line."""
    if shape is None:
        return None
    west, south, east, north = shape.bounds
    if west == -180 and east == 180 and len(parts := shapely.get_parts(shape)) > 1:
        west = min(part.bounds[0] for part in parts if part.bounds[2] == 180)
        east = max(part.bounds[2] for part in parts if part.bounds[0] == -180)
    return west, south, east, north


def _utc(date: datetime | None) -> datetime | None:
    return None if date is None else date.replace(tzinfo=UTC)
