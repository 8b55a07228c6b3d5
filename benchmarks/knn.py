"""What k-NN classification costs, ours against others': `python -m benchmarks.knn`."""

from __future__ import annotations

import importlib.util
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from eval.command import command_line
from eval.errors import InputError, cli
from eval.probe.knn import TEMPERATURE, K, weighted_vote
from eval.probe.neighbours import neighbours, numpy_screen

_DESCRIPTION = """\
Classifies test images by the weighted vote of their 20 nearest train images, random unit rows around a centre for
each class, in several ways, and prints a Markdown table: seconds, these next to the first way's, the peak of memory
beyond the rows themselves, and how many predictions are the first way's.

  faiss         eval.probe, candidates from FAISS
  numpy         eval.probe, candidates from numpy
  scikit-learn  KNeighborsClassifier, brute force, by the Euclidean distance, which is its fastest path
  torch         products of N / 100 test rows with all train rows, torch.topk, as ITRA does it

Each way runs in a process of its own, with all cores. Linux only: the peak is read from /proc.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, a row for each way."""
    parser = command_line("python -m benchmarks.knn", _DESCRIPTION)
    parser.add_argument("--train", type=int, default=50_000, help="rows; %(default)s")
    parser.add_argument("--test", type=int, default=50_000, help="rows; %(default)s")
    parser.add_argument("--width", type=int, default=512, help="of the rows; %(default)s")
    parser.add_argument("--classes", type=int, default=30, help="%(default)s")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="; the first is compared with")
    options = parser.parse_args(arguments)
    if min(options.train - K, options.test, options.width, options.classes) < 1:
        raise InputError(f"--train must be more than {K}, --test, --width and --classes positive")
    for way in options.ways:
        if way in ("faiss", "torch") and not importlib.util.find_spec(way):
            raise InputError(f"{way} is not installed: leave it out of --ways")

    print("| way | seconds | of the first's | peak beyond the rows | predictions as the first's |")
    print("|---|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        _in_process(write_rows, folder, options.train, options.test, options.width, options.classes)
        first = None
        for way in options.ways:
            seconds, peak, predicted = _in_process(measure, way, folder)
            first = first or (seconds, predicted)
            same = f"{np.count_nonzero(predicted == first[1]):,} of {len(predicted):,}"
            print(
                f"| {way} | {seconds:.1f} | {seconds / first[0]:.2f} | {peak / 2**20:,.0f} MiB | {same} |", flush=True
            )


def write_rows(folder: str, train: int, test: int, width: int, classes: int) -> None:
    """Writes unit rows of both parts, and the class numbers of the train rows."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, width), dtype=np.float32)
    for part, count in (("test", test), ("train", train)):
        numbers = rng.integers(classes, size=count)
        rows = rng.standard_normal((count, width), dtype=np.float32)
        rows += 0.3 * centres[numbers]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        np.save(Path(folder) / f"{part}.npy", rows)
    np.save(Path(folder) / "train_classes.npy", numbers)


def measure(way: str, folder: str) -> tuple[float, int, np.ndarray]:
    """Returns seconds, bytes of memory beyond the rows at the peak, and the predicted class numbers, int [M]."""
    train, classes, test = (np.load(Path(folder) / f"{name}.npy") for name in ("train", "train_classes", "test"))
    WAYS[way](train[: 10 * K], classes[: 10 * K], test[:1000])  # imports what it needs
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _status("VmRSS")
    start = time.perf_counter()
    predicted = WAYS[way](train, classes, test)
    return time.perf_counter() - start, _status("VmHWM") - before, predicted


def by_faiss(train: np.ndarray, classes: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ours; `screen_of` takes FAISS where it is installed."""
    rows, scores = neighbours(train, test, K)
    return weighted_vote(classes[rows], scores, classes.max() + 1, TEMPERATURE)


def by_numpy(train: np.ndarray, classes: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ours without FAISS."""
    rows, scores = neighbours(train, test, K, numpy_screen(train))
    return weighted_vote(classes[rows], scores, classes.max() + 1, TEMPERATURE)


def by_scikit_learn(train: np.ndarray, classes: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Cosine of unit rows is 1 - d² / 2."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(
        K, algorithm="brute", metric="euclidean", weights=lambda d: np.exp((1 - d**2 / 2) / TEMPERATURE), n_jobs=-1
    )
    return model.fit(train, classes).predict(test)


def by_torch(train: np.ndarray, classes: np.ndarray, test: np.ndarray) -> np.ndarray:
    """A hundredth of the test rows at a time."""
    import torch

    train, classes, test = map(torch.from_numpy, (train, classes, test))
    count = int(classes.max()) + 1
    predicted = []
    for rows in test.split(max(1, len(test) // 100)):
        similarities, nearest = (rows @ train.T).topk(K, dim=1)
        votes = torch.zeros(len(rows), count).scatter_add_(1, classes[nearest], (similarities / TEMPERATURE).exp())
        predicted.append(votes.argmax(dim=1))
    return torch.cat(predicted).numpy()


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "faiss": by_faiss,
    "numpy": by_numpy,
    "scikit-learn": by_scikit_learn,
    "torch": by_torch,
}


def _in_process(function: Callable, *arguments):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def _status(name: str) -> int:
    kibibytes = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(kibibytes[1])


if __name__ == "__main__":
    cli(main)
