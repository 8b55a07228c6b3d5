"""Which class each pixel of an image shows: the one whose words its patches of the image tower fit best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from eval import selo
from eval.segmentation import OTHER
from eval.zeroshot import class_vectors
from lrsclip_jax.data.rasters import AnyScene
from lrsclip_jax.localise.finding import heated
from lrsclip_jax.localise.heatmap import patch_encoder
from lrsclip_jax.localise.score_maps import HEAT_PIXELS, HeatSum, reduced, reduction
from lrsclip_jax.pretrained import Pretrained

WINDOW = 1024  # pixels of a side, at most

# From a scene to the class of each pixel, int16 [H, W]; `OTHER` where it has no data.
Segmenter = Callable[[AnyScene], np.ndarray]


def segmenter(
    model: Pretrained,
    words: Sequence[Sequence[str]],
    templates: Sequence[str],
    size: int | None = None,
    window: int | None = None,
) -> Segmenter:
    """Returns the function that segments scenes.

    A window's heat of a class is, patch by patch, the highest cosine with any of its words, see `localise.heatmap`;
    windows overlap and are averaged, and the largest mean decides.

    Args:
      model: its image tower is asked, and its text tower names the classes.
      words: of each class, C lists.
      templates: with {} for a word, whose rows are averaged.
      size: pixels at which the tower sees a window, see `heatmap.patch_encoder`.
      window: side of the windows in pixels; by default the shorter side of a scene, and at most 1,024.
    """
    rows = _rows(model, words, templates)
    firsts = np.cumsum([0, *map(len, words)])[:-1]
    encode = patch_encoder(model, size)

    def segment(scene: AnyScene) -> np.ndarray:
        height, width = scene.height, scene.width
        factor = reduction(height, width, HEAT_PIXELS // len(words))
        side = min(height, width, window or WINDOW)
        total = HeatSum(len(words), height, width, factor)
        for some, heats in heated(scene, selo.windows(height, width, (side,)), encode, rows):
            total.add(some, np.maximum.reduceat(heats, firsts, axis=1))
        highest, best = total.mean(0), np.zeros(reduced(height, width, factor), np.int16)
        for number in range(1, len(words)):
            mean = total.mean(number)
            best[mean > highest] = number
            highest = np.maximum(highest, mean)
        missing = scene.missing(*reduced(height, width, factor))
        if missing is not None:
            best[missing] = OTHER
        return best if factor == 1 else cv2.resize(best, (width, height), interpolation=cv2.INTER_NEAREST)

    return segment


def _rows(model: Pretrained, words: Sequence[Sequence[str]], templates: Sequence[str]) -> np.ndarray:
    """The unit rows of all words, one class after the other, float32 [W, E], each a mean over the templates."""
    flat = [(f"{number} {word}", word) for number, own in enumerate(words) for word in own]
    texts = model.texts([template.replace("{}", word) for _, word in flat for template in templates])
    names = [name for name, _ in flat]
    return class_vectors(texts, None, [name for name in names for _ in templates], names)
