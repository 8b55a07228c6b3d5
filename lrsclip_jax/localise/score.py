"""Scores of a scene's windows with texts: every window is cut out, embedded, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from tqdm import tqdm

from lrsclip_jax.data.crops import as_reference
from lrsclip_jax.data.rasters import AnyScene
from lrsclip_jax.errors import InputError
from lrsclip_jax.pretrained import Pretrained

Score = Callable[[np.ndarray], np.ndarray]
_BATCHES = 8  # embedded before their rows become scores


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
        with progress(len(holding)) as bar:
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


def progress(windows: int) -> tqdm:
    """Returns the bar that counts windows."""
    return tqdm(total=windows, desc="windows", unit=" windows", disable=None, leave=False)


def crops(scene: AnyScene, windows: np.ndarray, bar: tqdm, reference: bool = False) -> Iterator[np.ndarray]:
    """Yields what the model is given of each window, uint8 [h, w, 3], counting on `bar`."""
    for window in windows:
        crop = scene.read(window)
        yield as_reference(crop) if reference else crop
        bar.update()
