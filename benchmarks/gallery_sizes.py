"""R@10 of several models in the same small galleries: `python -m benchmarks.gallery_sizes RUN … --data=SET`.

R@10 depends on how many images there are to choose from. This draws galleries of 600 images out of a held-out set, by
seed, and asks of each model how often a caption's own image is among the best ten: mean and range over the galleries.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import lrsclip_jax
from eval import retrieval
from lrsclip_jax import heldout
from lrsclip_jax.data.images import read_image
from lrsclip_jax.errors import InputError, cli


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, one row for each model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery_sizes", description=__doc__.split("\n\n")[1])
    parser.add_argument("sources", nargs="+", metavar="RUN", help="sources of weights")
    parser.add_argument("--data", required=True, metavar="DIR:SPLIT", help="a prepared set with short texts")
    parser.add_argument("--images", type=int, default=600, help="images in a gallery; 600")
    parser.add_argument("--galleries", type=int, default=10, help="how many, seeds 0, 1, …; 10")
    options = parser.parse_args(arguments)

    print(f"| | R@10 among {options.images} images, mean of {options.galleries} galleries | lowest | highest |")
    print("|---|---:|---:|---:|")
    for source in options.sources:
        model = lrsclip_jax.load(source)
        held = heldout.load(options.data, model.tokenizer)
        if "short" not in held.texts or len(held.records) < options.images:
            raise InputError(f"{options.data}: {options.images} images with short texts are needed")
        texts = held.texts["short"]
        images = model.images(read_image(record.image) for record in held.records)
        rows = model.texts(texts.text)
        found = [
            recall(images, rows, texts.image, np.random.default_rng(seed).permutation(len(images))[: options.images])
            for seed in range(options.galleries)
        ]
        print(f"| {source} | {np.mean(found):.2f} | {min(found):.2f} | {max(found):.2f} |", flush=True)


def recall(images: np.ndarray, texts: np.ndarray, image_of_text: np.ndarray, gallery: np.ndarray) -> float:
    """R@10 of the texts of the images in `gallery` among these images, in per cent."""
    place = np.full(len(images), -1)
    place[gallery] = np.arange(len(gallery))
    asked = place[image_of_text] >= 0
    metrics = retrieval.retrieval_metrics(images[gallery], texts[asked], place[image_of_text[asked]])
    return metrics["text_to_image"]["R@10"]


if __name__ == "__main__":
    cli(main)
