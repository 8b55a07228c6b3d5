"""Near pairs among many hashes, ours next to brute force: `python -m benchmarks.phash`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from eval.command import command_line
from eval.errors import InputError, cli
from lrsclip_jax.corpus.hygiene.duplicates import DISTANCE
from lrsclip_jax.corpus.hygiene.near import Originals, near_pairs

_DESCRIPTION = """\
Draws 64-bit hashes: half at random, half copies of them with up to 8 bits flipped, and one in a hundred is blank. Finds
all near pairs of distinct hashes by the index and by comparing all with all (numpy's popcount), checks that they are
the same, that the de-duplication of the stream of all of them keeps what these pairs say, and prints a Markdown table.
"""
_ROWS = 2  # compared with all others at a time by brute force: the fastest of 1 to 128
_BLOCK = 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, a row for each distance."""
    parser = command_line("python -m benchmarks.phash", _DESCRIPTION)
    parser.add_argument("--hashes", type=int, default=100_000, help="%(default)s")
    parser.add_argument("--distances", type=int, nargs="+", default=[2, DISTANCE, 8], help="in bits; 2 4 8")
    options = parser.parse_args(arguments)
    if options.hashes < 2:
        raise InputError(f"--hashes is {options.hashes}: at least 2 make a pair")

    hashes = draw(options.hashes)
    distinct, group = np.unique(hashes, return_inverse=True)
    print(f"{len(hashes):,} hashes, {len(distinct):,} distinct\n")
    columns = ("distance", "near pairs", "index, s", "brute force, s", "times faster", "the same pairs")
    columns += ("hashes that stay", "de-duplication, s", "the same stay")
    print(f"| {' | '.join(columns)} |\n|{'---:|' * len(columns)}")
    for distance in options.distances:
        (pairs, seconds), (expected, longer) = timed(near_pairs, distinct, distance), timed(brute, distinct, distance)
        found, streamed = timed(deduplicated, hashes, distance)
        kept = np.flatnonzero(found == np.arange(len(hashes)))
        same = [np.array_equal(pairs, expected), np.array_equal(kept, kept_by_pairs(group, expected))]
        same = ["yes" if equal else "NO" for equal in same]
        row = f"| {distance} | {len(pairs):,} | {seconds:.2f} | {longer:.2f} | {longer / seconds:.0f} | {same[0]} "
        print(f"{row}| {len(kept):,} | {streamed:.2f} | {same[1]} |", flush=True)


def draw(count: int) -> np.ndarray:
    """Returns hashes with near-duplicates, uint64 [N]."""
    rng = np.random.default_rng(0)
    originals = rng.integers(2**64, size=count // 2, dtype=np.uint64)
    copies = originals[rng.integers(len(originals), size=count - len(originals))]
    for _ in range(8):
        bits = np.uint64(1) << rng.integers(64, size=len(copies), dtype=np.uint64)
        copies ^= np.where(rng.random(len(copies)) < 0.5, bits, np.uint64(0))
    hashes = np.concatenate([originals, copies])
    hashes[rng.random(count) < 0.01] = 1 << 63  # what an image of one colour has
    return rng.permutation(hashes)


def brute(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Returns what `near_pairs` does, by comparing every hash with all that follow."""
    found = []
    for start in range(0, len(hashes), _ROWS):
        different = hashes[start : start + _ROWS, None] ^ hashes[start:]
        rows, columns = np.nonzero(np.bitwise_count(different) <= distance)
        later = rows < columns
        found.append(start + np.stack([rows[later], columns[later]], axis=1))
    return np.concatenate(found)


def deduplicated(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Returns the row of each hash's original, given block by block as the stage does, int64 [N]."""
    originals = Originals(distance)
    blocks = (hashes[start : start + _BLOCK] for start in range(0, len(hashes), _BLOCK))
    return np.concatenate([originals.add(block)[0] for block in blocks])


def kept_by_pairs(group: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Returns the rows that are near no earlier row that stays, by the near pairs of distinct hashes, int64 [K]."""
    near: dict[int, list[int]] = {}
    for first, second in pairs.tolist():
        near.setdefault(first, []).append(second)
        near.setdefault(second, []).append(first)
    kept, gone = [], set()
    for row, name in enumerate(group.tolist()):
        if name not in gone:
            kept.append(row)
            gone.update((name, *near.get(name, ())))
    return np.asarray(kept)


def timed(function, *arguments):
    """Returns what a function returns, and the seconds it took."""
    start = time.perf_counter()
    value = function(*arguments)
    return value, time.perf_counter() - start


if __name__ == "__main__":
    cli(main)
