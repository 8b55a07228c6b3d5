"""The three ways to find texts in a scene: by its windows, by a second look at the best of them, by its patches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from eval.selo.cells import to_grey
from eval.selo.v2 import second_map, shuffled
from lrsclip_jax.data.crops import as_reference
from lrsclip_jax.data.rasters import AnyScene
from lrsclip_jax.errors import InputError
from lrsclip_jax.localise.background import ABSENT, Level, Moments, deviation
from lrsclip_jax.localise.heatmap import NEUTRAL, heat, patch_encoder, text_directions
from lrsclip_jax.localise.score_maps import (
    HEAT_PIXELS,
    MAP_PIXELS,
    HeatSum,
    reduced,
    reduction,
    window_map,
    window_means,
    with_gaps,
)
from lrsclip_jax.pretrained import Pretrained

Box = tuple[int, int, int, int]
BEST = 3
_HEATED = 16  # windows whose heat is held at a time
Score = Callable[[np.ndarray], np.ndarray]
_BATCHES = 8  # embedded before their rows become scores


@dataclass(frozen=True)
class Finding:
    """The result for one text.

    Attributes:
      map: uint8 [H, W]; where the scene has gaps, 0 in them and at least 1 elsewhere.
      missing: the gaps, where the scene has no data, bool [H, W]; None where it has none.
      factor: how many pixels of the scene a pixel of the map is, along both sides.
      best: the windows (r0, r1, c0, c1) that score best, with their cosines, best first; none from a heat map.
      peak: row and column, in the scene's pixels, of the middle of a heat map's hottest pixel.
      level: what the map is scaled by; None where its own extremes are its ends.
      z: of the windows in `best`, or of the peak, where there is a level.
    """

    map: np.ndarray = field(repr=False)
    missing: np.ndarray | None = field(repr=False)
    factor: int
    best: Sequence[tuple[Box, float]] = ()
    peak: tuple[float, float] | None = None
    level: Level | None = None
    z: Sequence[float] = ()


def by_windows(
    model: Pretrained,
    scene: AnyScene,
    texts: Sequence[str],
    windows: np.ndarray,
    reference: bool = False,
    background: bool = False,
) -> Iterator[Finding]:
    """Yields, for each text, AIR-SLT's localisation map from the cosines of all windows, int64 [N, 4].

    With `background` the map is of z, dark where absent things would be as bright, see `localise.background`.
    """
    factor = reduction(scene.height, scene.width, MAP_PIXELS)
    if background:
        yield from _above_background(model, scene, texts, windows, reference, factor)
        return
    scores = scorer(model, scene, model.texts(texts), reference)(windows)
    missing = scene.missing(*reduced(scene.height, scene.width, factor))
    for column in scores.T:
        grey = window_map(column, windows, scene.height, scene.width, factor)
        yield Finding(with_gaps(grey, missing), missing, factor, _best(scene, windows, column))


def _above_background(
    model: Pretrained, scene: AnyScene, texts: Sequence[str], windows: np.ndarray, reference: bool, factor: int
) -> Iterator[Finding]:
    queries = model.texts([*texts, *ABSENT, *NEUTRAL])
    scores = scorer(model, scene, queries, reference)(windows)
    asked = len(texts) + len(ABSENT)
    contrasts = scores[:, :asked] - scores[:, asked:].mean(axis=1, keepdims=True)
    holding = with_data(scene, windows)
    lowest = contrasts[holding].min(axis=0)
    contrasts[np.setdiff1d(np.arange(len(windows)), holding)] = lowest
    absent = contrasts[holding, len(texts) :].T.astype(np.float64)
    sigma = deviation(absent)
    # Maps are compared: the mean over overlapping windows has lower peaks than the windows have.
    peaks = [
        np.nanmax(window_means(column, windows, scene.height, scene.width, factor)[0])
        for column in contrasts[:, len(texts) :].T
    ]
    reached = float(((np.array(peaks) - absent.mean(axis=1)) / sigma).max())
    missing = scene.missing(*reduced(scene.height, scene.width, factor))
    for column, cosines in zip(contrasts[:, : len(texts)].T, scores.T, strict=False):
        level = Level(float(column[holding].mean(dtype=np.float64)), sigma, reached)
        grey = window_map(column, windows, scene.height, scene.width, factor, level.grey)
        order = holding[np.argsort(-column[holding], kind="stable")[:BEST]]
        best = [(tuple(windows[row].tolist()), float(cosines[row])) for row in order]
        yield Finding(with_gaps(grey, missing), missing, factor, best, None, level, level.z(column[order]).tolist())


def by_second_look(
    model: Pretrained, scene: AnyScene, texts: Sequence[str], reference: bool = False, seed: int = 0
) -> Iterator[Finding]:
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

        def of_text(windows: np.ndarray, number: int = number) -> np.ndarray:
            return score(windows)[:, number]

        grey = second_map(of_text, scene.height, scene.width)
        best = _best(scene, np.array(list(known)), np.array([scores[number] for scores in known.values()]))
        yield Finding(with_gaps(grey, missing), missing, 1, best)


def by_patches(
    model: Pretrained,
    scene: AnyScene,
    texts: Sequence[str],
    windows: np.ndarray,
    size: int | None = None,
    background: bool = False,
) -> Iterator[Finding]:
    """Yields, for each text, the heat map of the scene.

    It is the mean over square windows, int64 [N, 4], each of which the image tower sees at `size` pixels (see
    `heatmap.patch_encoder`). With `background` it is scaled as in `by_windows`, by z of the patches.
    """
    factor = reduction(scene.height, scene.width, HEAT_PIXELS // len(texts))
    encode, directions = patch_encoder(model, size), text_directions(model, [*texts, *(ABSENT if background else ())])
    moments = Moments(len(directions), len(texts))
    total = HeatSum(len(texts), scene.height, scene.width, factor)
    missing = scene.missing(*reduced(scene.height, scene.width, factor))
    if missing is not None and missing.all():
        raise InputError(f"{scene.path}: no data in it")
    for some, heats in heated(scene, windows, encode, directions):
        total.add(some, heats[:, : len(texts)])
        if background:
            moments.add(np.moveaxis(heats[~scene.empty(some)], 1, -1).reshape(-1, len(directions)))
    for number in range(len(texts)):
        mean = total.mean(number)
        if missing is not None:
            mean[missing] = mean[~missing].min()
        row, column = np.unravel_index(mean.argmax(), mean.shape)
        peak = ((row + 0.5) * factor, (column + 0.5) * factor)
        level = moments.level(number) if background else None
        grey = with_gaps(level.grey(mean) if level else to_grey(mean), missing)
        z = level.z(mean.max(keepdims=True)).ravel().tolist() if level else ()
        yield Finding(grey, missing, factor, peak=peak, level=level, z=z)


def heated(
    scene: AnyScene,
    windows: np.ndarray,
    encode: Callable[[Iterable[np.ndarray]], np.ndarray],
    directions: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields some of the windows, int64 [N, 4], with their heat along directions, float32 [N, T, g, g], until all came.

    `encode` is a `heatmap.patch_encoder`.
    """
    with windows_bar(len(windows)) as bar:
        for start in range(0, len(windows), _HEATED):
            some = windows[start : start + _HEATED]
            yield some, heat(encode(crops(scene, some, bar)), directions)


def _best(scene: AnyScene, windows: np.ndarray, scores: np.ndarray) -> list[tuple[Box, float]]:
    rows = with_data(scene, windows)
    order = rows[np.argsort(-scores[rows], kind="stable")[:BEST]]
    return [(tuple(windows[row].tolist()), float(scores[row])) for row in order]


def scorer(model: Pretrained, scene: AnyScene, queries: np.ndarray, reference: bool = False) -> Score:
    """Returns the function that scores windows, int64 [N, 4], with all queries: float32 [N, Q].

    It shows how far it is, and holds the rows of a few batches at a time, however many windows there are. Windows that
    hold no data are not embedded and score as low as the worst of the others.

    Args:
      model: embeds the windows.
      scene: is read window by window.
      queries: rows in the model's space, float32 [Q, E].
      reference: crop as the reference code does, see `crops.crop_window`.

    Raises:
      InputError: when scoring, no window holds data.
    """
    size = _BATCHES * model.batch_size

    def score(windows: np.ndarray) -> np.ndarray:
        scores = np.empty((len(windows), len(queries)), np.float32)
        holding = with_data(scene, windows)
        with windows_bar(len(holding)) as bar:
            for start in range(0, len(holding), size):
                rows = holding[start : start + size]
                scores[rows] = model.images(crops(scene, windows[rows], bar, reference)) @ queries.T
        if len(holding) < len(windows):
            scores[np.setdiff1d(np.arange(len(windows)), holding)] = scores[holding].min(axis=0)
        return scores

    return score


def with_data(scene: AnyScene, windows: np.ndarray) -> np.ndarray:
    """Returns the rows of `windows`, int64 [N, 4], that hold data; InputError where none does."""
    holding = np.flatnonzero(~scene.empty(windows))
    if not len(holding):
        raise InputError(f"{scene.path}: no data in any window")
    return holding


def remembering(score: Score) -> tuple[Score, dict[tuple[int, ...], np.ndarray]]:
    """Returns `score` such that a window that comes again is not scored again, and its memory, {window: [Q]}."""
    known: dict[tuple[int, ...], np.ndarray] = {}

    def scores(windows: np.ndarray) -> np.ndarray:
        keys = [tuple(window) for window in windows.tolist()]
        if new := [key for key in dict.fromkeys(keys) if key not in known]:
            known.update(zip(new, score(np.array(new, np.int64)), strict=True))
        return np.stack([known[key] for key in keys])

    return scores, known


def windows_bar(windows: int) -> tqdm:
    """Returns the bar that counts windows."""
    return tqdm(total=windows, desc="windows", unit=" windows", disable=None, leave=False)


def crops(scene: AnyScene, windows: np.ndarray, bar: tqdm, reference: bool = False) -> Iterator[np.ndarray]:
    """Yields what the model is given of each window, uint8 [h, w, 3], counting on `bar`."""
    for window in windows:
        crop = scene.read(window)
        yield as_reference(crop) if reference else crop
        bar.update()
