"""The three ways to find texts in a scene: by its windows, by a second look at the best of them, by its patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.selo.cells import to_grey
from eval.selo.v2 import second_map, shuffled
from lrsclip_jax.data.rasters import AnyScene
from lrsclip_jax.errors import InputError
from lrsclip_jax.localise.heatmap import heat, patch_encoder, text_directions
from lrsclip_jax.localise.score import crops, progress, remembering, scorer, with_data
from lrsclip_jax.localise.score_maps import HEAT_PIXELS, MAP_PIXELS, HeatSum, reduced, reduction, window_map, with_gaps
from lrsclip_jax.pretrained import Pretrained

Box = tuple[int, int, int, int]
BEST = 3
_HEATED = 16  # windows whose heat is held at a time


@dataclass(frozen=True)
class Found:
    """What was found of one text.

    Attributes:
      map: uint8 [H, W]; where the scene lacks data in places, 0 there and nowhere else.
      missing: where that is, bool [H, W]; None: nowhere.
      factor: how many pixels of the scene a pixel of the map is, along both sides.
      best: the windows (r0, r1, c0, c1) that score best, with their cosines, best first; none from a heat map.
      peak: row and column, in the scene's pixels, of the middle of a heat map's hottest pixel.
    """

    map: np.ndarray = field(repr=False)
    missing: np.ndarray | None = field(repr=False)
    factor: int
    best: Sequence[tuple[Box, float]] = ()
    peak: tuple[float, float] | None = None


def by_windows(
    model: Pretrained, scene: AnyScene, texts: Sequence[str], windows: np.ndarray, reference: bool = False
) -> Iterator[Found]:
    """Yields, for each text, AIR-SLT's localisation map from the cosines of all windows, int64 [N, 4]."""
    factor = reduction(scene.height, scene.width, MAP_PIXELS)
    scores = scorer(model, scene, model.texts(texts), reference)(windows)
    missing = scene.missing(*reduced(scene.height, scene.width, factor))
    for column in scores.T:
        grey = window_map(column, windows, scene.height, scene.width, factor)
        yield Found(with_gaps(grey, missing), missing, factor, _best(scene, windows, column))


def by_second_look(
    model: Pretrained, scene: AnyScene, texts: Sequence[str], reference: bool = False, seed: int = 0
) -> Iterator[Found]:
    """Yields, for each text, the map of the second version, see `eval.selo.v2`.

    A query is the mean of the text and four random orders of its words. Windows that texts share are embedded once.

    Raises:
      InputError: the scene is smaller than 512 pixels, or too large to be mapped pixel by pixel.
    """
    if scene.height * scene.width > MAP_PIXELS:
        raise InputError(
            f"{scene.path}: the second version maps up to {MAP_PIXELS:,} pixels, the scene has "
            f"{scene.height}×{scene.width}: --method=v1 reduces its map"
        )
    queries = np.stack([model.texts([text, *shuffled(text, seed)]).mean(axis=0) for text in texts])
    score, known = remembering(scorer(model, scene, queries, reference))
    missing = scene.missing(scene.height, scene.width)
    for number in range(len(texts)):
        grey = second_map(lambda windows, n=number: score(windows)[:, n], scene.height, scene.width)
        best = _best(scene, np.array(list(known)), np.array([scores[number] for scores in known.values()]))
        yield Found(with_gaps(grey, missing), missing, 1, best)


def by_patches(
    model: Pretrained, scene: AnyScene, texts: Sequence[str], windows: np.ndarray, size: int | None = None
) -> Iterator[Found]:
    """Yields, for each text, the heat map of the scene.

    It is the mean over square windows, int64 [N, 4], each of which the image tower sees at `size` pixels (see
    `heatmap.patch_encoder`).
    """
    factor = reduction(scene.height, scene.width, HEAT_PIXELS // len(texts))
    encode, directions = patch_encoder(model, size), text_directions(model, texts)
    total = HeatSum(len(texts), scene.height, scene.width, factor)
    missing = scene.missing(*reduced(scene.height, scene.width, factor))
    if missing is not None and missing.all():
        raise InputError(f"{scene.path}: no data in it")
    with progress(len(windows)) as bar:
        for start in range(0, len(windows), _HEATED):
            some = windows[start : start + _HEATED]
            total.add(some, heat(encode(crops(scene, some, bar)), directions))
    for number in range(len(texts)):
        mean = total.mean(number)
        if missing is not None:
            mean[missing] = mean[~missing].min()
        row, column = np.unravel_index(mean.argmax(), mean.shape)
        peak = ((row + 0.5) * factor, (column + 0.5) * factor)
        yield Found(with_gaps(to_grey(mean), missing), missing, factor, peak=peak)


def _best(scene: AnyScene, windows: np.ndarray, scores: np.ndarray) -> list[tuple[Box, float]]:
    rows = with_data(scene, windows)
    order = rows[np.argsort(-scores[rows], kind="stable")[:BEST]]
    return [(tuple(windows[row].tolist()), float(scores[row])) for row in order]
