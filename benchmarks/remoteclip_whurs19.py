"""Published zero-shot accuracies from real embeddings of WHU-RS19: `python -m benchmarks.remoteclip_whurs19 DATA`.

DATA is a folder with whurs19_embeddings.safetensors, rows of all 1,005 images and of 106 prompts a class by RemoteCLIP
and CLIP, both ViT-B/32, and whurs19_published.json, the accuracies that others published for every prompt and for the
average prompt. This makes an embedding set of each model, evaluates it, and prints ours next to the published
accuracies with the number of images that they differ by. CLIP's rows are stored in half precision: a set holds them at
unit length again, "rows as stored" are scored at the lengths that rounding left them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from eval.command import command_line
from eval.embeddings import EmbeddingSet, open_set, write_set
from eval.errors import InputError, cli
from eval.zeroshot import AVERAGES, zeroshot_metrics, zeroshot_of_set

ROWS, PUBLISHED = "whurs19_embeddings.safetensors", "whurs19_published.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table of all prompts, and one of their averages, for each model."""
    parser = command_line("python -m benchmarks.remoteclip_whurs19", __doc__.split("\n\n", 1)[1])
    parser.add_argument("data", type=Path, metavar="DATA", help="the folder of both files")
    parser.add_argument("--sets", type=Path, metavar="DIR", help="keep the embedding sets there")
    options = parser.parse_args(arguments)
    tensors, facts = read(options.data)
    with tempfile.TemporaryDirectory() as temporary:
        for name in facts["models"]:
            path = (options.sets or Path(temporary)) / name.replace("/", "-")
            report(name, open_set(write(path, name, tensors, facts)), tensors, facts)


def read(folder: Path) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """Returns the rows, {name: array}, and what was published about them."""
    for name in (ROWS, PUBLISHED):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing")
    return load_file(folder / ROWS), json.loads((folder / PUBLISHED).read_bytes())


def write(path: Path, model: str, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Path:
    """Writes a model's embedding set and returns its folder."""
    folders, names = facts["file_classes"], facts["classes"]
    texts = [
        {"text": f"{prompt} {name}.", "kind": "class", "label": folder, "template": f"{prompt} {{}}."}
        for prompt in facts["prompts"]
        for folder, name in zip(folders, names, strict=True)
    ]
    images = [{"id": str(row), "label": folders[label]} for row, label in enumerate(tensors["labels"])]
    rows = {side: tensors[f"{model}/{side}"] for side in ("images", "texts")}
    meta = {"model": model, "dataset": "WHU-RS19", "split": None, "features": "projected"}
    return write_set(path, meta, rows["images"], rows["texts"].reshape(len(texts), -1), images, texts)


def report(name: str, found: EmbeddingSet, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Prints what came out next to what was published."""
    published, images = facts["models"][name], len(found.images)

    def stored(vectors: np.ndarray) -> float:
        rows = tensors[f"{name}/images"]
        return zeroshot_metrics(rows, vectors, found.labels(), facts["file_classes"])["accuracy"]

    def row(what: str, accuracy: float, other: float) -> str:
        return f"| {what} | {other:.2f} | {accuracy:.2f} | {apart(accuracy, other, images)} |"

    results = {average: zeroshot_of_set(found, average) for average in AVERAGES}
    ours = results["normalised"]["per_template"]
    as_stored = [stored(vectors) for vectors in tensors[f"{name}/texts"]]
    print(
        f"## {name}, {images:,} images\n\n| prompt | published | ours | images apart | rows as stored | images apart |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for (template, accuracy), plain, other in zip(ours.items(), as_stored, published["published_acc"], strict=True):
        print(row(template, accuracy, other), f"{plain:.2f} | {apart(plain, other, images)} |")
    for what, accuracies in (("Ours", ours.values()), ("Rows as stored", as_stored)):
        off = [apart(*pair, images) for pair in zip(accuracies, published["published_acc"], strict=True)]
        print(f"\n{what}: {off.count(0)} of {len(off)} prompts equal to the image, none more than {max(off)} apart.")

    print("\n| all prompts | published | ours | images apart |\n|---|---:|---:|---:|")
    other = published["published_avgprompt"]
    print(row("mean of normalised rows", results["normalised"]["accuracy"], other))
    print(row("mean of raw rows", results["raw"]["accuracy"], other))
    print(row("the average prompt as stored", stored(tensors[f"{name}/text_average"]), other))
    print(f"\nLengths of the stored rows: 1 within {np.abs(found.text_norms - 1).max():.0e}.\n", flush=True)


def apart(ours: float, other: float, images: int) -> int:
    """The number of images that two accuracies in per cent differ by."""
    return abs(round(images * (ours - other) / 100))


if __name__ == "__main__":
    cli(main)
