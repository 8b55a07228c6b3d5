"""Towers in four runtimes, their speed in turns and the cost of 8-bit weights: `python -m benchmarks.serving SRC …`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval import retrieval
from eval.command import command_line
from lrsclip_jax import heldout, pretrained, weights
from lrsclip_jax.convert.compare import as_side, first, measure
from lrsclip_jax.convert.export import export
from lrsclip_jax.convert.served import Towers, served, towers
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import cli
from lrsclip_jax.pretrained import Pretrained

_DESCRIPTION = """\
Exports a model for ONNX Runtime, with float32 and with 8-bit weights, for jax.export and for transformers, and times
both towers on batches of random images and of texts, each runtime with all cores that it may use, in turns. A ratio is
of one turn: the CPU time by that of PyTorch in the same turn. On one core (taskset -c 0) other programs on the machine
change it little. With --data it prints how far the embeddings of a held-out set are from lrsclip_jax's, and what both
find.
"""
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "ONNX Runtime": ("onnx", {}),
    "ONNX Runtime, int8": ("onnx", {"int8": True}),
    "jax.export": ("jax", {}),
    "PyTorch": ("hf", {}),
}
_TEXT = "a harbour with several ships next to a row of storage tanks and a wide road"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints Markdown tables."""
    parser = command_line("python -m benchmarks.serving", _DESCRIPTION, usage="SRC [--data=DIR:SPLIT] [options]")
    parser.add_argument("source", metavar="SRC", help="the weights")
    parser.add_argument("--data", metavar="DIR:SPLIT", help="a prepared set with texts")
    parser.add_argument("--count", type=int, help="of its images, the first ones; all")
    parser.add_argument("--turns", type=int, default=7, help="%(default)s")
    parser.add_argument("--batches", type=int, nargs="*", default=(1, 16), help="batch sizes; 1 16")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: Path(folder) / f"{number}" for number, name in enumerate(_FORMATS)}
        found = weights.merged(weights.read(options.source), options.source)
        model, preprocessing = weights.model_of(found), found.preprocessing or CLIP_PREPROCESSING
        for name, (format, more) in _FORMATS.items():
            to: dict[str, Any] = {"format": format, "out": folders[name], "source": options.source}
            export(model, found.params, preprocessing, **to, **more)
        loaded = pretrained.load(options.source, dtype="float32")
        for batch in options.batches:
            _time(folders, loaded, batch, options.turns)
        if options.data:
            _cost(folders, loaded, heldout.load(options.data, loaded.tokenizer), options.count)


def _time(folders: dict[str, Path], model: Pretrained, batch: int, turns: int) -> None:
    """Prints medians of both towers' times for a batch, and of their ratios."""
    sides = {name: _pytorch(folder) if name == "PyTorch" else towers(folder) for name, folder in folders.items()}
    size = model.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    ids = model.tokenize([_TEXT] * batch)[:, :32]
    for tower, given in (("image", pixels), ("text", ids)):
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for turn in range(turns + 1):
            for name, side in sides.items():
                begin, used = time.perf_counter(), time.process_time()
                getattr(side, tower)(given)
                if turn:  # the first one compiles
                    seconds[name].append((time.perf_counter() - begin, time.process_time() - used))
        print(f"\n| {tower} tower, batch {batch}, {turns} turns | ms | CPU ms | CPU, of PyTorch's | lowest | highest |")
        print("|---|---:|---:|---:|---:|---:|")
        for name, its in seconds.items():
            wall, cpu = np.transpose(its)
            ratios = cpu / np.transpose(seconds["PyTorch"])[1]
            spread = f"{np.median(ratios):.2f} | {ratios.min():.2f} | {ratios.max():.2f}"
            print(f"| {name} | {1000 * np.median(wall):.1f} | {1000 * np.median(cpu):.1f} | {spread} |", flush=True)


def _pytorch(folder: Path) -> Towers:
    """The towers of a folder of transformers; pixels are scaled to 0 … 1 alone, which takes as long."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def image(pixels: np.ndarray) -> Any:
        with torch.inference_mode():
            given = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            return torch.nn.functional.normalize(model.get_image_features(given).pooler_output, dim=-1)

    def text(ids: np.ndarray) -> Any:
        seen = torch.from_numpy(ids != 0)
        with torch.inference_mode():
            features = model.get_text_features(torch.from_numpy(ids), attention_mask=seen).pooler_output
            return torch.nn.functional.normalize(features, dim=-1)

    return Towers(f"torch {torch.__version__}", image, text)


def _cost(folders: dict[str, Path], model: Pretrained, held: heldout.HeldOut, count: int | None) -> None:
    """Prints cosines to our embeddings, and retrieval, of every runtime but PyTorch."""
    held = first(held, count) if count else held
    ours = as_side("lrsclip_jax", model)
    print("\n| of | to ours: lowest cosine, mean | T→I R@1 | R@5 | R@10 | I→T R@1 | R@5 | R@10 | mean recall |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, folder in folders.items():
        if (theirs := served(str(folder))) is None:
            continue
        pairs = measure(held, ours, theirs)
        cosines = {what: np.sum(pair.ours * pair.theirs, axis=1) for what, pair in pairs.items()}
        said = ", ".join(f"{what} {its.min():.5f}, {its.mean():.5f}" for what, its in cosines.items())
        kind, texts = next(iter(held.texts.items()))
        for who in ("ours", "theirs"):
            rows = {what: getattr(pair, who) for what, pair in pairs.items()}
            metrics = retrieval.retrieval_metrics(rows["images"], rows[kind], texts.image)
            ways = [metrics[way][f"R@{k}"] for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)]
            scores = " | ".join(f"{value:.2f}" for value in (*ways, metrics["mean_recall"]))
            print(f"| {name if who == 'theirs' else 'lrsclip_jax'} | {said if who == 'theirs' else ''} | {scores} |")


if __name__ == "__main__":
    cli(main)
