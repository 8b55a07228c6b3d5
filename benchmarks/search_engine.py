"""What an exact search costs, next to NumPy's product and FAISS's flat index: `python -m benchmarks.search_engine`."""

from __future__ import annotations

import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from eval.command import command_line
from eval.errors import InputError, cli
from eval.scores import best_matches
from lrsclip_jax.search.engine import ExactEngine

_DESCRIPTION = """\
Searches random unit rows for the 50 that score highest with a query, one query and 16 at once, and prints a Markdown
table: milliseconds (the median of rounds in each of which every way takes its turn), these next to the flat index's,
and the anonymous memory that a process of its own needs beyond the imports.

  codes    lrsclip_jax.search: 8-bit codes by FAISS, float32 rows of the candidates
  numpy    the product of memory-mapped float32 rows, argpartition
  flat     faiss.IndexFlatIP

Rows are of two kinds: `even`, all directions alike, which is the worst for 8 bits, and `cone`, as two towers make
them: tiles in one narrow cone and queries in another, two dimensions much larger than the others. What `codes` finds
is compared with eval.scores. Linux only: memory is read from /proc.
"""
TOP = 50


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table for each kind of rows."""
    parser = command_line("python -m benchmarks.search_engine", _DESCRIPTION)
    parser.add_argument("--rows", type=int, default=1_000_000, help="%(default)s")
    parser.add_argument("--width", type=int, default=512, help="of the rows; %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="%(default)s")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of rows")
    parser.add_argument("--folder", type=Path, help="for the rows; a temporary one by default")
    options = parser.parse_args(arguments)
    if min(options.rows - TOP, options.width, options.rounds) < 1:
        raise InputError(f"--rows must be more than {TOP}, --width and --rounds positive")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            seconds = _in_process(write_rows, folder, kind, options.rows, options.width)
            print(f"\n{options.rows:,} × {options.width} rows, {kind}; {seconds:.1f} s to make the codes, once\n")
            times, proven, right = _in_process(measure, folder, kind, options.rounds)
            print(f"{right} of 16 answers equal to brute force, {proven} of 16 proven by the codes alone\n")
            print(
                "| way | one query, ms | of the flat index's | 16 at once, ms | of the flat index's | anonymous MiB |"
            )
            print("|---|---:|---:|---:|---:|---:|", flush=True)
            for way in WAYS:
                one, many = times[way]
                held = _in_process(memory, folder, kind, way) / 2**20
                shares = one / times["flat"][0], many / times["flat"][1]
                print(
                    f"| {way} | {1e3 * one:.1f} | {shares[0]:.2f} | {1e3 * many:.0f} | {shares[1]:.2f} | {held:,.0f} |"
                )


def even(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Rows in all directions."""
    return rng.standard_normal((count, width), dtype=np.float32)


def cone(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Rows around one direction, in which two dimensions are large, spread over some directions more than others."""
    axes = np.random.default_rng(1).standard_normal((64, width), dtype=np.float32)
    rows = rng.standard_normal((count, 64), dtype=np.float32) * np.geomspace(1, 0.1, 64, dtype=np.float32) @ axes
    rows += 0.5 * rng.standard_normal((count, width), dtype=np.float32)
    rows += np.concatenate([[25, -12], np.random.default_rng(2).standard_normal(width - 2)]).astype(np.float32)
    return rows


KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {"even": even, "cone": cone}


def queries(kind: str, width: int, count: int = 16) -> np.ndarray:
    """Unit rows to ask for."""
    rows = KINDS[kind](np.random.default_rng(7), count, width)
    if kind == "cone":
        rows[:, :2] = [3, 8]  # texts are large elsewhere
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_rows(folder: str, kind: str, count: int, width: int) -> float:
    """Writes the rows, makes the codes, and returns how many seconds these took."""
    path = Path(folder) / "images.npy"
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (count, width))
    for start in range(0, count, 2**16):
        block = KINDS[kind](rng, min(2**16, count - start), width)
        rows[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()
    start = time.perf_counter()
    ExactEngine(np.load(path, mmap_mode="r"), path)
    return time.perf_counter() - start


def measure(folder: str, kind: str, rounds: int) -> tuple[dict[str, tuple[float, float]], int, int]:
    """Returns the median seconds of each way for one query and for 16, how many were proven, how many are right."""
    path = Path(folder) / "images.npy"
    rows = np.load(path, mmap_mode="r")
    ways = {way: WAYS[way](rows, path) for way in WAYS}
    asked = queries(kind, rows.shape[1])
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(rounds + 1):  # the first warms up
        for way, find in ways.items():
            begin = time.perf_counter()
            find(asked[number % 16][None])
            middle = time.perf_counter()
            find(asked)
            if number:
                taken[way].append((middle - begin, time.perf_counter() - middle))
    engine = ExactEngine(rows, path)
    proven = sum(engine._by_codes(query, TOP, 512, None) is not None for query in asked)
    best, scores = best_matches(asked, rows, TOP)
    found = [engine.top(query, TOP) for query in asked]
    right = sum(
        np.array_equal(one.rows, best[place]) and np.array_equal(one.scores, scores[place])
        for place, one in enumerate(found)
    )
    medians = {way: tuple(np.median(times, axis=0).tolist()) for way, times in taken.items()}
    return medians, proven, right


def memory(folder: str, kind: str, way: str) -> int:
    """Returns the bytes of anonymous memory that a way holds after 16 queries, beyond what was held before."""
    path = Path(folder) / "images.npy"
    rows = np.load(path, mmap_mode="r")
    WAYS[way](np.asarray(rows[:1000]), path.with_name("none.npy"))(
        queries(kind, rows.shape[1])
    )  # imports what it needs
    before = _anonymous()
    find = WAYS[way](rows, path)
    find(queries(kind, rows.shape[1]))
    return _anonymous() - before


def by_codes(rows: np.ndarray, path: Path) -> Callable[[np.ndarray], object]:
    """Ours; queries at once come from as many threads."""
    engine = ExactEngine(rows, path)
    threads = ThreadPoolExecutor(16)
    return lambda asked: list(threads.map(lambda query: engine.top(query, TOP), asked))


def by_numpy(rows: np.ndarray, path: Path) -> Callable[[np.ndarray], object]:
    """A product of all rows with all queries."""

    def find(asked: np.ndarray) -> np.ndarray:
        scores = asked @ rows.T
        best = np.argpartition(scores, -TOP, axis=1)[:, -TOP:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)

    return find


def by_flat(rows: np.ndarray, path: Path) -> Callable[[np.ndarray], object]:
    """FAISS's exact index, with all its threads."""
    import faiss

    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(np.asarray(rows))
    return lambda asked: index.search(asked, TOP)


WAYS: dict[str, Callable[[np.ndarray, Path], Callable[[np.ndarray], object]]] = {
    "codes": by_codes,
    "numpy": by_numpy,
    "flat": by_flat,
}


def _in_process(function: Callable, *arguments):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def _anonymous() -> int:
    kibibytes = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(kibibytes[1])


if __name__ == "__main__":
    cli(main)
