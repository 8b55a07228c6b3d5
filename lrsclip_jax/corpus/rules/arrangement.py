"""Where boxes stand in an image, and how they are arranged: simple geometry that holds or is not said.

Boxes are float [N, 4], x0, y0, x1, y1 in pixels; a thing stands where the centre of its box is.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csgraph

from lrsclip_jax.corpus.rules import wording

PARTS = wording.NINTHS | wording.QUARTERS | wording.THIRDS | wording.HALVES  # the smaller come first
_NAMES = {bounds: place for place, bounds in PARTS.items()}
_REGIONS, _BOUNDS = tuple(PARTS), np.array(list(PARTS.values()))
_NINTHS, _QUARTERS = tuple(wording.NINTHS), tuple(wording.QUARTERS)
_MOST = 0.75
_PAIRWISE = 1500  # boxes up to which all pairs are compared


def centres(boxes: np.ndarray) -> np.ndarray:
    """Returns [N, 2]."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def ninths(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the ninth of each box, 0 to 8 in reading order."""
    column, row = _grid(boxes, size, 3).T
    return 3 * row + column


def ninth(index: int) -> str:
    """Returns the words of a ninth."""
    return _NINTHS[index]


def central(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns bool [N]: the centre of the box lies in the middle ninth, RemoteCLIP's objects "at the centre"."""
    return ninths(boxes, size) == 4


def middle(boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns bool [N], [N]: all of the box lies in the middle ninth; none of it does."""
    ninth = np.array([[*size, *size]]) * [[1, 1, 2, 2]] / 3
    inside = (boxes[:, :2] >= ninth[:, :2]).all(1) & (boxes[:, 2:] <= ninth[:, 2:]).all(1)
    return np.asarray(inside), ~overlaps(boxes, ninth)[:, 0]


def region(points: np.ndarray, size: tuple[int, int], share: float = 1.0) -> str | None:
    """Returns the smallest named part of the image that holds this share of the points [N, 2], None without one."""
    scaled = 12 * points[:, None] / np.asarray(size)
    start, stop = _BOUNDS[:, :2], np.where(_BOUNDS[:, 2:] == 12, np.inf, _BOUNDS[:, 2:])
    shares = ((start <= scaled) & (scaled < stop)).all(-1).mean(0)
    return _REGIONS[int((shares >= share).argmax())] if (shares >= share).any() else None


def mirrored(place: str) -> str:
    """Returns the named part of the image that lies opposite, left and right changed, or else top and bottom."""
    left, top, right, bottom = PARTS[place]
    sideways, upright = (12 - right, top, 12 - left, bottom), (left, 12 - bottom, right, 12 - top)
    return _NAMES[upright if sideways == PARTS[place] else sideways]


def mostly(boxes: np.ndarray, size: tuple[int, int]) -> str | None:
    """Returns the smallest named part that holds three quarters of five or more boxes, but not all; None without."""
    if len(boxes) < 5 or region(centres(boxes), size):
        return None
    return region(centres(boxes), size, _MOST)


def extent(boxes: np.ndarray, size: tuple[int, int]) -> str | None:
    """Returns the smallest named part of the image that holds all boxes with all of their area."""
    return region(np.concatenate([boxes[:, :2], boxes[:, 2:] - 1e-6]), size)  # their ends are exclusive


def across(boxes: np.ndarray, size: tuple[int, int]) -> str | None:
    """Returns "horizontal" or "vertical" where one box reaches from edge to edge; None for neither and for both."""
    near = boxes[:, :2] <= 0.01 * np.asarray(size)
    far = boxes[:, 2:] >= 0.99 * np.asarray(size)
    horizontal, vertical = np.asarray((near & far).any(0)).tolist()
    return None if horizontal == vertical else "horizontal" if horizontal else "vertical"


def quarters(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns how many boxes stand in each quarter, in reading order."""
    column, row = _grid(boxes, size, 2).T
    return np.bincount(2 * row + column, minlength=4)


def quarter(index: int) -> str:
    """Returns the words of a quarter, such as "upper left"."""
    return _QUARTERS[index].removeprefix("in the ").removesuffix(" quarter of the image")


def richest_quarter(boxes: np.ndarray, size: tuple[int, int]) -> str | None:
    """Returns the quarter with clearly more of eight or more boxes than any other, None without one."""
    counts = quarters(boxes, size)
    best = int(counts.argmax())
    return quarter(best) if len(boxes) >= 8 and counts[best] >= 1.5 * np.sort(counts)[-2] else None


def alone(boxes: np.ndarray) -> int | None:
    """Returns the box that stands twice as far from its nearest neighbour as any other, and three sizes; or None."""
    if not 5 <= len(boxes) <= _PAIRWISE:
        return None
    distances = gaps(boxes, boxes)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(1)
    *_, second, farthest = np.sort(nearest)
    far = farthest >= 2 * second and farthest >= 3 * np.median(sizes(boxes))
    return int(nearest.argmax()) if far else None


def width(box: np.ndarray, size: tuple[int, int]) -> str | None:
    """Returns the width of a box as a part of the image's, to an eighth of it: "a third"; None where no word fits."""
    parts = size[0] / (box[2] - box[0])
    fits = [(abs(parts / number - 1), words) for number, words in wording.WIDTHS.items()]
    return min(fits)[1] if min(fits)[0] <= 1 / 8 else None


def compact(boxes: np.ndarray, size: tuple[int, int]) -> bool:
    """Returns whether no box is so long that its centre says little of where it stands."""
    return bool((boxes[:, 2:] - boxes[:, :2] <= 0.6 * np.asarray(size)).all())


def scattered(boxes: np.ndarray, size: tuple[int, int]) -> bool:
    """Returns whether there are boxes in all quarters and in at least six ninths."""
    quarters = {tuple(cell) for cell in _grid(boxes, size, 2).tolist()}
    return len(quarters) == 4 and len(set(ninths(boxes, size).tolist())) >= 6


def at_edge(boxes: np.ndarray, size: tuple[int, int]) -> int:
    """Returns how many boxes reach the edge of the image, to a pixel."""
    return int(((boxes[:, :2] <= 1) | (boxes[:, 2:] >= np.asarray(size) - 1)).any(1).sum())


def row(boxes: np.ndarray) -> str | None:
    """Returns the direction of three or more boxes in a straight, even row, None where they are in none.

    "horizontal", "vertical" (to 15°), "falling" or "rising" (the diagonals, to 20°), or "slanting".
    """
    if len(boxes) < 3:
        return None
    points = centres(boxes) - centres(boxes).mean(0)
    along, normal = np.linalg.svd(points, full_matrices=False)[2]
    sides = boxes[:, 2:] - boxes[:, :2]
    width, depth = np.median(sides @ np.abs(along)), np.median(sides @ np.abs(normal))
    gaps = np.diff(np.sort(points @ along))
    straight = np.abs(points @ normal).max() <= min(0.35 * depth, gaps.sum() / 12)
    even = gaps.max() <= 2 * np.median(gaps) and 0.5 * width <= gaps.min() and np.median(gaps) <= 6 * width
    if not (straight and even):
        return None
    angle = np.degrees(np.arctan2(along[1], along[0])) % 180  # y is down: 45° falls to the right
    for start, words, margin in ((0, "horizontal", 15), (90, "vertical", 15), (45, "falling", 20), (135, "rising", 20)):
        if min(abs(angle - start), 180 - abs(angle - start)) <= margin:
            return words
    return "slanting"


def rows(boxes: np.ndarray) -> tuple[str, int] | None:
    """Returns ("horizontal" or "vertical", how many rows or columns) of boxes in two to six, None otherwise.

    Each has three boxes or more, with centres within a third of a box of each other across, evenly along.
    """
    for axis, words in ((1, "horizontal"), (0, "vertical")):
        at, side = centres(boxes)[:, axis], np.median(boxes[:, axis + 2] - boxes[:, axis])
        order = np.argsort(at, kind="stable")
        lines = np.split(order, 1 + np.flatnonzero(np.diff(at[order]) > 0.5 * side))
        if 2 <= len(lines) <= 6 and all(_is_line(boxes[line], axis) for line in lines):
            return words, len(lines)
    return None


def clusters(boxes: np.ndarray, reach: float) -> np.ndarray:
    """Returns the number of boxes in each group linked by gaps of at most `reach` times the median size, or none."""
    if len(boxes) > _PAIRWISE:
        return np.zeros(0, int)
    groups = csgraph.connected_components(gaps(boxes, boxes) <= reach * np.median(sizes(boxes)), directed=False)[1]
    return np.bincount(groups)


def gaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the distances in pixels between boxes and others, float [N, M], 0 where they touch or overlap."""
    a, b = boxes[:, None], others[None]
    apart = np.maximum(np.maximum(b[..., :2] - a[..., 2:], a[..., :2] - b[..., 2:]), 0)
    return np.hypot(apart[..., 0], apart[..., 1])


def sizes(boxes: np.ndarray) -> np.ndarray:
    """Returns the sides of squares as large as the boxes, in pixels, [N]."""
    return np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns bool [N, M]: the boxes share some area."""
    a, b = boxes[:, None], others[None]
    return np.asarray(((a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])).all(-1))


def direction(box: np.ndarray, other: np.ndarray) -> str | None:
    """Returns where a box is from another that it faces: "left", "right", "above", "below"; None at an angle."""
    facing = (box[:2] < other[2:]) & (other[:2] < box[2:])  # whether their spans overlap in x, in y
    if facing[1] and not facing[0]:
        return "left" if box[2] <= other[0] else "right"
    if facing[0] and not facing[1]:
        return "above" if box[3] <= other[1] else "below"
    return None


def _grid(boxes: np.ndarray, size: tuple[int, int], n: int) -> np.ndarray:
    return np.clip(np.floor(n * centres(boxes) / np.asarray(size)), 0, n - 1).astype(int)


def _is_line(boxes: np.ndarray, axis: int) -> bool:
    if len(boxes) < 3:
        return False
    points, sides = centres(boxes), boxes[:, 2:] - boxes[:, :2]
    steps = np.diff(np.sort(points[:, 1 - axis]))
    level = np.ptp(points[:, axis]) <= np.median(sides[:, axis]) / 3
    return level and steps.min() >= 0.5 * np.median(sides[:, 1 - axis]) and steps.max() <= 2.5 * np.median(steps)
