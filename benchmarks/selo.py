"""Semantic localisation next to a pixel-by-pixel twin of the reference code: `python -m benchmarks.selo`.

Prints a Markdown table: seconds a query from the scores of its windows to the map, from the map to the four metrics,
and both. The twin follows AIR-SLT's reference code: sums window by window over whole images, divides them in a double
loop over pixels, and searches centres of attention with a maximum filter of 1000×1000 pixels, once for R_as and once
for R_da. The reference's files, overlays and a labelling that it never uses are left out. As the twin takes seconds a
query, it does the first few queries only (--slow). Each of them is also done by eval.selo right after, on one thread,
so that both meet the machine in the same state; maps must agree to the integer, centres too, and metrics to 1e-9, or
the program fails. The last row is eval.selo alone on all queries, several at a time as `selo_of_set` does them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from eval.command import command_line
from eval.errors import InputError, cli
from eval.selo import localisation_map, selo_metrics, windows


class Query(NamedTuple):
    """Scores of the windows [N], and the polygons of what they should point at."""

    scores: np.ndarray
    polygons: list


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = command_line("python -m benchmarks.selo", __doc__.split("\n\n")[1])
    parser.add_argument("--queries", type=int, default=59, help="of the last row (%(default)s, as AIR-SLT has)")
    parser.add_argument("--slow", type=int, default=3, help="of them that the twin does too (%(default)s)")
    parser.add_argument("--size", type=int, default=3000, help="pixels a side of a scene (%(default)s)")
    options = parser.parse_args(arguments)
    if not 1 <= options.slow <= options.queries:
        raise InputError("1 <= --slow <= --queries is needed")
    size = options.size
    boxes = windows(size, size)
    queries = [random_query(boxes, size, seed) for seed in range(options.queries)]

    twin, ours = [], []
    for query in queries[: options.slow]:
        twin.append(timed(plain_map, plain_metrics, query, boxes, size))
        ours.append(timed(localisation_map, selo_metrics, query, boxes, size))
        check_agreement(twin[-1], ours[-1])
    slow, fast = (np.mean([seconds for _, _, seconds in way], axis=0) for way in (twin, ours))

    begun = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda query: timed(localisation_map, selo_metrics, query, boxes, size)[1], queries))
    total = time.perf_counter() - begun

    print(f"{size:,}×{size:,} pixels, {len(boxes)} windows\n")
    print("| way | queries | map, s | metrics, s | a query, s | ratio |\n|---|---:|---:|---:|---:|---:|")
    print(f"| pixel by pixel | {len(twin)} | {slow[0]:.2f} | {slow[1]:.2f} | {slow.sum():.2f} | 1 |")
    ratio = slow.sum() / fast.sum()
    print(f"| eval.selo, one thread | {len(ours)} | {fast[0]:.3f} | {fast[1]:.3f} | {fast.sum():.3f} | {ratio:.1f} |")
    each, way = total / len(queries), f"eval.selo, {os.cpu_count()} threads"
    print(f"| {way} | {len(queries)} in {total:.1f} s | | | {each:.3f} | {slow.sum() / each:.1f} |")


def random_query(boxes: np.ndarray, size: int, seed: int) -> Query:
    """Returns scores that are higher near a few places, with noise, and a polygon around each of these places."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.15 * size, 0.85 * size, (rng.integers(1, 4), 2))
    middles = np.stack([boxes[:, 2:].mean(axis=1), boxes[:, :2].mean(axis=1)], axis=1)
    nearest = np.linalg.norm(middles[:, None] - places, axis=2).min(axis=1)
    scores = 0.2 + 0.1 * np.exp(-((nearest / (0.15 * size)) ** 2)) + rng.normal(0, 0.02, len(boxes))
    corners = 0.08 * size * np.array([[-1, -1], [1, -0.8], [0.9, 1], [-1, 0.9]])
    return Query(scores, [(place + corners).tolist() for place in places])


def timed(to_map, to_metrics, query: Query, boxes: np.ndarray, size: int) -> tuple[np.ndarray, dict, tuple]:
    """Returns the map, the metrics, and the seconds of either."""
    times = [time.perf_counter()]
    map = to_map(query.scores, boxes, size, size)
    times.append(time.perf_counter())
    metrics = to_metrics(map, query.polygons)
    times.append(time.perf_counter())
    return map, metrics, tuple(np.diff(times))


def check_agreement(twin: tuple, ours: tuple) -> None:
    """Raises SystemExit unless maps and centres are the same, and the metrics to 1e-9."""
    if not np.array_equal(twin[0], ours[0]):
        raise SystemExit(f"the maps differ in {np.count_nonzero(twin[0] != ours[0])} pixels")
    for name, value in twin[1].items():
        other = ours[1][name]
        if other != value if name == "centres" else abs(other - value) > 1e-9:
            raise SystemExit(f"{name} is {other}, the twin has {value}")


def plain_map(scores, boxes, height: int, width: int) -> np.ndarray:
    """Returns the localisation map, uint8 [H, W], as the reference computes it."""
    heat, number = np.zeros((2, height, width))
    for (r0, r1, c0, c1), score in zip(boxes, scores, strict=True):
        heat[r0:r1, c0:c1] += score
        number[r0:r1, c0:c1] += 1
    for y in range(height):
        for x in range(width):
            heat[y, x] = heat[y, x] / number[y, x]
    above = heat - heat.min()
    return cv2.medianBlur(np.uint8(255 * (above / above.max())), 251)


def plain_metrics(map: np.ndarray, polygons: Sequence) -> dict:
    """Returns the metrics of a map, as the reference computes them."""
    share = map / 255.0
    mask = np.zeros(map.shape)
    cv2.fillPoly(mask, [np.array(polygon, np.int32) for polygon in polygons], 1)
    inside, pixels = (share * mask).sum(), mask.sum()
    r_su = 1 - np.exp(-0.707 * inside / (share.sum() - inside + 1e-7) * (mask.size - pixels) / pixels)

    circles = [_plain_circle(polygon) for polygon in polygons]
    centres = _plain_centres(share)
    shifts = []
    for x, y, radius in circles:
        distances = [np.linalg.norm(np.subtract(centre, (x, y))) for centre in centres]
        distances = [distance for distance in distances if distance <= radius]
        shifts.append(np.mean(distances) / radius if distances else 1.0)
    r_as = (np.exp(3 * np.mean(shifts)) - 1) / (np.exp(3) - 1)

    centres = _plain_centres(share)  # once more, as the reference does
    discreteness = []
    for x, y, radius in circles:
        near = [centre for centre in centres if np.linalg.norm(np.subtract(centre, (x, y))) <= radius]
        if len(near) < 2:
            discreteness.append(len(near))
            continue
        spread = np.mean([np.linalg.norm(np.mean(near, axis=0) - centre) for centre in near]) / radius
        discreteness.append(0.5 * (1 - spread) + np.exp(-0.5 * (len(near) + 2)))
    r_da = np.mean(discreteness)
    r_mi = 0.4 * r_su + 0.35 * (1 - r_as) + 0.25 * r_da
    return {"R_su": r_su, "R_as": r_as, "R_da": r_da, "R_mi": r_mi, "centres": centres, "mask_pixels": pixels}


def _plain_circle(polygon) -> tuple[int, int, int]:
    x, y = (int(sum(vertex[axis] for vertex in polygon) / len(polygon)) for axis in (0, 1))
    return x, y, int(1.5 * np.mean([np.linalg.norm(np.subtract(vertex, (x, y))) for vertex in polygon]))


def _plain_centres(share: np.ndarray) -> list[tuple[int, int]]:
    grey = np.asarray(share * 255.0, np.uint8)
    for _ in range(5):
        grey = cv2.boxFilter(grey, ddepth=-1, ksize=(50, 50))
    is_peak = (ndimage.maximum_filter(grey, size=1000) == grey) & (grey > 0)
    labels, _ = ndimage.label(is_peak, np.ones((3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        y, x = np.argwhere(labels[place] == number).mean(axis=0) + [place[0].start, place[1].start]
        found.append((int(x), int(y)))
    found.sort(key=lambda centre: share[centre[1], centre[0]], reverse=True)
    return [centre for centre in found if share[centre[1], centre[0]] >= 0.5]


if __name__ == "__main__":
    cli(main)
