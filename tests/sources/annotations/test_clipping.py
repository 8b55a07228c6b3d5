"""Parts of annotated objects in windows."""

import cv2
import numpy as np
import pytest

from lrsclip_jax.sources.annotations.clipping import clip
from lrsclip_jax.sources.item import Thing


def test_polygons_are_clipped_as_opencv_does():
    rng = np.random.default_rng(0)
    window = (10.0, 20.0, 60.0, 50.0)
    corners = np.array([[10, 20], [60, 20], [60, 50], [10, 50]], np.float32)
    areas = []
    for _ in range(200):
        hull = cv2.convexHull(rng.uniform(0, 80, (6, 2)).astype(np.float32))[:, 0]
        polygon = tuple(map(tuple, hull.tolist()))
        box = (*hull.min(0).tolist(), *hull.max(0).tolist())
        expected, shared = cv2.intersectConvexConvex(hull, corners)
        part = clip(Thing("x", box, polygon), window)
        area = cv2.contourArea(np.array(part.polygon, np.float32)) if part else 0
        assert area == pytest.approx(expected, rel=1e-4, abs=1e-2)
        if part:
            around = shared[:, 0].min(0) - (10, 20), shared[:, 0].max(0) - (10, 20)
            np.testing.assert_allclose(part.box, np.concatenate(around), atol=1e-3)
        areas.append(area)
    assert min(areas) < 100 and max(areas) > 800
