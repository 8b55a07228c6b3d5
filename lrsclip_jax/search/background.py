"""How unusual a score is: its percentile in the index, and its z against texts that are of nothing in it.

Cosines alone say little: a tile may be near to every text, and a text to every tile. A score is therefore compared with
queries made like the one that was asked, of other parts: neutral texts and texts of absent things, see
`localise.background`, whose z this is with the tiles of the index for places. In place of an example image stand tiles
drawn at random.

`reached` is the highest z of each absent text, anywhere in the index. Where the best hit of a text lies below the
highest of them, a text of something that is not there would have found as much. A text that is of nothing in the index,
too, and is to the model as theirs are, rises above all 16 once in 17 times; a class like those of the index more often.

How well the highest z tells an index that holds 1, 5 or 50 images of a class from one that holds none, measured on
WHU-RS19's 1,005 images and 19 classes (area under the ROC curve): RemoteCLIP ViT-B/32 0.65, 0.86, 0.94, OpenAI's 0.63,
0.72, 0.81; the highest cosine 0.58, 0.76, 0.90 and 0.56, 0.62, 0.72. Neutral texts were the means over classes there.

Means and deviations are of at most 16,384 tiles, drawn once with a fixed seed; the highest z are of all tiles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lrsclip_jax.localise.background import ABSENT, deviation
from lrsclip_jax.search.engine import Engine
from lrsclip_jax.search.query import Part, direction

SAMPLE = 2**14


class Yardstick(NamedTuple):
    """What z is measured with, for queries of one make.

    Attributes:
      neutral: the mean neutral query, float64 [D].
      deviation: σ.
      reached: the highest z of each query of an absent thing, float64 [16]; None where the query has an image.
    """

    neutral: np.ndarray
    deviation: float
    reached: np.ndarray | None


class Background:
    """What the scores of a query are compared with. Threads may share one.

    Args:
      rows: of the index, float32 [N, D].
      engine: finds the highest scores of all.
      texts: returns the unit embeddings of neutral texts and of absent things, [A, D] and [16, D]; is called once, and
        only for a query with a text.
    """

    def __init__(
        self, rows: np.ndarray, engine: Callable[[], Engine], texts: Callable[[], tuple[np.ndarray, np.ndarray]]
    ):
        self._rows, self._engine, self._texts = rows, engine, texts
        self._lock = threading.Lock()
        self._known: dict[tuple, Yardstick] = {}

    @cached_property
    def sample(self) -> np.ndarray:
        """At most `SAMPLE` rows, float32 [S, D]; all of a small index."""
        count = len(self._rows)
        if count <= SAMPLE:
            return np.asarray(self._rows)
        return self._rows[np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))]

    @cached_property
    def _mean(self) -> np.ndarray:
        return self.sample.mean(axis=0, dtype=np.float64)

    def spread(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the standard deviation of the scores of vectors, [P, D], over the index: float64 [P]."""
        return self._scores(vectors).std(axis=1)

    def percentiles(self, query: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Returns the share of the sample, in per cent, that scores no higher than each of `scores`, float64 [K]."""
        ranked = np.sort(self._scores(query[None])[0])
        return 100 * np.searchsorted(ranked, scores + 5e-8, "right") / max(len(ranked), 1)

    def z(self, stick: Yardstick, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns the z of tiles, float64 [K], by their `rows`, for a query, float32 [D], and its yardstick."""
        contrast = query - stick.neutral
        mean = float(self._mean @ contrast)
        return (np.asarray(self._rows[rows], np.float64) @ contrast - mean) / stick.deviation

    def yardstick(self, parts: Sequence[Part]) -> Yardstick:
        """Returns what z is measured with for a query of these parts; it is remembered for others of its make."""
        make = tuple((part.image, part.weight) for part in parts)
        with self._lock:
            if make not in self._known:
                self._known[make] = self._measured(parts)
            return self._known[make]

    def _measured(self, parts: Sequence[Part]) -> Yardstick:
        neutral_texts, absent = self._texts() if any(not part.image for part in parts) else (self.sample[:0],) * 2
        drawn = self.sample[np.random.default_rng(1).permutation(len(self.sample))]
        neutral = self._like(parts, neutral_texts, drawn).mean(axis=0)
        contrasts = self._like(parts, absent, drawn[len(drawn) // 2 :]) - neutral
        scores = self._scores(contrasts)
        means = scores.mean(axis=1)
        sigma = deviation(scores)
        if any(part.image for part in parts):
            return Yardstick(neutral, sigma, None)
        lengths = np.maximum(np.linalg.norm(contrasts, axis=1), 1e-9)
        best = [
            self._engine().top((row / size).astype(np.float32), 1) for row, size in zip(contrasts, lengths, strict=True)
        ]
        highest = np.array([found.scores[0] for found in best]) * lengths
        return Yardstick(neutral, sigma, (highest - means) / sigma)

    def _like(self, parts: Sequence[Part], texts: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Queries made like one, of other texts and images, float64 [16, D]."""
        made = []
        for number in range(len(ABSENT)):
            others = [
                part._replace(vector=bank[(number + 5 * place) % len(bank)])
                for place, part in enumerate(parts)
                for bank in [images if part.image else texts]
            ]
            made.append(direction(others, self.spread))
        return np.stack(made).astype(np.float64)

    def _scores(self, vectors: np.ndarray) -> np.ndarray:
        return (np.asarray(vectors, np.float32) @ self.sample.T).astype(np.float64)
