"""Semantic localisation (SeLo): which regions of a large scene match a text. Maps, and the metrics of AIR-SLT.

    windows = windows(height, width)                              # what to embed
    map = localisation_map(scores, windows, height, width)        # uint8 [H, W], from a score for each window
    selo_metrics(map, polygons)                                   # R_su, R_as, R_da, R_mi

Every integer on the way equals the reference code's (Yuan et al., "Learning to Evaluate Performance of Multi-modal
Semantic Localization", IEEE TGRS 2022). `python -m eval.selo` evaluates an embedding set.
"""

from eval.selo.grid import windows
from eval.selo.maps import localisation_map, overlay
from eval.selo.selo_metrics import selo_metrics

__all__ = ["localisation_map", "overlay", "selo_metrics", "windows"]
