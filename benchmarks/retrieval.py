"""Retrieval among many images and texts, next to whole score matrices: `python -m benchmarks.retrieval`.

Prints a Markdown table: `eval.retrieval` next to two usual ways that hold all scores at once, on the same smaller set,
and alone on the full set. "argsort" sorts every row of the matrix in NumPy; "topk" is the way of CLIP_benchmark, which
RemoteCLIP's figures come from: a mask of all positives, and the best K of each row as one-hot vectors, in torch (left
out where torch is missing). Every measurement is a process of its own over memory-mapped unit rows; its memory is the
peak of the process, interpreter and all, less the size of the rows; "ratio" is to the first row's seconds. Recalls must
agree but for ties, or the program fails.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from eval.command import command_line
from eval.errors import InputError, cli
from eval.retrieval import KS, retrieval_metrics

_TIED = 0.05  # per cent: what the rounding of float32 scores may move next to exact ties


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = command_line("python -m benchmarks.retrieval", __doc__.split("\n\n")[1])
    parser.add_argument("--images", type=int, default=20_000, help="of the full set (%(default)s)")
    parser.add_argument("--texts", type=int, default=100_000, help="of the full set (%(default)s)")
    parser.add_argument("--dim", type=int, default=512, help="of the rows (%(default)s)")
    parser.add_argument("--part", type=int, default=4, help="the smaller set is one in N of either (%(default)s)")
    options = parser.parse_args(arguments)
    if not 1 <= options.part <= options.images <= options.texts or options.dim < 1:
        raise InputError("1 <= --part <= --images <= --texts and --dim >= 1 are needed")

    print("| way | images × texts | seconds | ratio | beyond the rows | R@1 of texts, of images | mean recall |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        sizes = options.images // options.part, options.texts // options.part
        _alone(write_rows, Path(folder, "part"), *sizes, options.dim)
        seconds, peak, ours = _alone(measure, ranked, Path(folder, "part"))
        _print("eval.retrieval", sizes, seconds, "1", peak, ours)
        torch_is_there = importlib.util.find_spec("torch") is not None
        for name, way in {"argsort": argsort, **({"topk": topk} if torch_is_there else {})}.items():
            naive_seconds, peak, recalls = _alone(measure, way, Path(folder, "part"))
            check_agreement(name, recalls, ours)
            _print(name, sizes, naive_seconds, f"{naive_seconds / seconds:.1f}", peak, recalls)
        sizes = options.images, options.texts
        _alone(write_rows, Path(folder, "full"), *sizes, options.dim)
        seconds, peak, recalls = _alone(measure, ranked, Path(folder, "full"))
        _print("eval.retrieval", sizes, seconds, "", peak, recalls)


def write_rows(folder: Path, images: int, texts: int, dim: int, seed: int = 0) -> None:
    """Writes unit rows of images and of texts, some nearer to their images than others, and one text in ten a copy."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    owners = np.concatenate([np.arange(images), rng.integers(images, size=texts - images)])
    np.save(folder / "image_of_text.npy", owners)
    rows = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (count, dim))
        for name, count in (("images", images), ("texts", texts))
    }
    for start in range(0, images, 4096):
        rows["images"][start : start + 4096] = _unit(rng.standard_normal((min(4096, images - start), dim), np.float32))
    for start in range(0, texts, 4096):
        own = rows["images"][owners[start : start + 4096]] * np.float32(np.sqrt(dim))
        own *= rng.uniform(0.05, 0.35, (len(own), 1)).astype(np.float32)
        own += rng.standard_normal(own.shape, np.float32)
        copies = rng.random(len(own)) < 0.1
        own[copies] = own[rng.integers(len(own), size=copies.sum())]
        rows["texts"][start : start + 4096] = _unit(own)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ranked(images: np.ndarray, texts: np.ndarray, image_of_text: np.ndarray) -> dict:
    """Returns what `eval.retrieval` finds, block by block."""
    return retrieval_metrics(images, texts, image_of_text)


def argsort(images: np.ndarray, texts: np.ndarray, image_of_text: np.ndarray) -> dict:
    """Returns the recalls from all scores at once, every row sorted."""
    scores = texts @ images.T

    def recalls(scores: np.ndarray, is_hit: Callable[[int, np.ndarray], np.ndarray]) -> dict:
        hits = np.zeros(max(KS))
        for query, row in enumerate(scores):
            hits += np.maximum.accumulate(is_hit(query, np.argsort(-row)[: max(KS)]))
        return {f"R@{k}": 100 * hits[k - 1] / len(scores) for k in KS}

    return {
        "text_to_image": recalls(scores, lambda text, found: found == image_of_text[text]),
        "image_to_text": recalls(scores.T, lambda image, found: image_of_text[found] == image),
    }


def topk(images: np.ndarray, texts: np.ndarray, image_of_text: np.ndarray, batch: int = 64) -> dict:
    """Returns the recalls from all scores at once and a mask of all positives, in torch."""
    import torch

    scores = torch.from_numpy(texts) @ torch.from_numpy(images).T
    positives = torch.zeros_like(scores, dtype=torch.bool)
    positives[torch.arange(len(texts)), torch.from_numpy(image_of_text)] = True

    def recall(scores: torch.Tensor, positives: torch.Tensor, k: int) -> float:
        hits = 0
        for rows, own in zip(scores.split(batch), positives.split(batch), strict=True):
            chosen = torch.nn.functional.one_hot(rows.topk(k, dim=1).indices, num_classes=rows.shape[1])
            hits += int(((chosen * own[:, None]).sum(dim=(1, 2)) > 0).sum())
        return 100 * hits / len(scores)

    return {
        "text_to_image": {f"R@{k}": recall(scores, positives, k) for k in KS},
        "image_to_text": {f"R@{k}": recall(scores.T, positives.T, k) for k in KS},
    }


def check_agreement(name: str, recalls: dict, ours: dict) -> None:
    """Raises SystemExit unless each recall lies between ours with all ties lost and with all ties won."""
    for side in ("text_to_image", "image_to_text"):
        for k, value in recalls[side].items():
            low, high = ours["pessimistic"][side][k], ours["optimistic"][side][k]
            if not low - _TIED <= value <= high + _TIED:
                raise SystemExit(f"{name}: {side} {k} is {value:.2f}, not within {low:.2f} to {high:.2f}")


def measure(way: Callable[..., dict], folder: Path) -> tuple[float, int, dict]:
    """Returns seconds, this process's peak memory in bytes less that of the rows, and the recalls."""
    rows = [np.load(folder / f"{name}.npy", mmap_mode="c") for name in ("images", "texts")]
    owners = np.load(folder / "image_of_text.npy")
    begun = time.perf_counter()
    found = way(*rows, owners)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return seconds, peak - sum(matrix.nbytes for matrix in rows), found


def _alone(function: Callable, *arguments):
    """Calls a function in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def _print(way: str, sizes: tuple[int, int], seconds: float, ratio: str, peak: int, recalls: dict) -> None:
    sides = [recalls[side] for side in ("text_to_image", "image_to_text")]
    firsts = ", ".join(f"{side['R@1']:.2f}" for side in sides)
    mean = np.mean([value for side in sides for value in side.values()])
    cells = [
        way,
        f"{sizes[0]:,} × {sizes[1]:,}",
        f"{seconds:.1f}",
        ratio,
        f"{peak / 1e9:.2f} GB",
        firsts,
        f"{mean:.3f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    cli(main)
