"""The command `lrsclip segment`: the class of every pixel, and how well it fits label images."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.command import add_subject, command_line, expanded, path, whole_number
from eval.facts import classes as class_facts
from eval.lock import alone
from eval.output import check_folder
from eval.reading import read_json
from eval.results import made_by, write_result
from eval.segmentation import OTHER, confusion, segmentation_metrics
from eval.whole import whole, write_text
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.localise.label_images import Classes, Labelled, labelled_images, read_classes, read_labels
from lrsclip_jax.sources.row_values import clean

EXAMPLES = """
examples:
  lrsclip segment LoveDA/img_dir/val --labels=LoveDA/ann_dir/val --classes=loveda --checkpoint=runs/b16 --out=found
  lrsclip segment uavid/images --labels=uavid/labels --classes=uavid.json --checkpoint=runs/b16 --heatmap-size=448 \\
      --out=found

classes.json names the classes, the words for each (the best of them counts), and their values in the label images, an
index or a colour; the names loveda, potsdam and vaihingen stand for the classes of these data sets:
  [{"name": "building", "words": ["building", "house"], "value": 1}, {"name": "road", "value": 2}]

A label image is a PNG, TIFF or BMP of the same name and size as its image, of indices, of a palette, or of colours.
Pixels of other values count nowhere. The maps are those of lrsclip localise --heatmap=patches: of windows as wide as
the shorter side, and at most 1,024 pixels, averaged; the class with the highest value is taken. No pixel is trained on.

in --out:
  predictions/       a PNG for each image: the place of the class in classes.json, from 0; 255 where there is no data
  segmentation.json  mIoU and the IoU of each class over all images, accuracy, confusion, in per cent
  report.html        the same as a page

Stopped at any moment, the same command continues. An image that can't be used is named, and the others are measured.

exit status: 0 done, 2 bad input (all that could be measured is)
"""
_PREDICTIONS, _RESULT = "predictions", "segmentation.json"
_NOTHING = 255


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Finds the class of every pixel by words alone, and measures mIoU against label images.",
        EXAMPLES,
        usage="IMAGES --labels=DIR --classes=FILE|NAME --checkpoint=SRC --out=DIR [options]",
    )
    add_subject(parse, "images", metavar="IMAGES", help="folder of images, at any depth", type=path)
    add = parse.add_argument
    add("--labels", metavar="DIR", required=True, type=path, help="folder of the label images")
    add("--classes", metavar="FILE|NAME", required=True, type=path, help="the classes, as JSON: see below")
    add("--checkpoint", metavar="SRC", required=True, type=expanded, help="weights, see lrsclip convert --help")
    add("--out", metavar="DIR", required=True, type=path, help="folder of the result")
    add(
        "--templates",
        metavar="NAME",
        default="lrsclip",
        help="a template with {} for the class, or a set of them: lrsclip (the default: 'a satellite photo of {}'), "
        "rsclip, itra, georsclip, skyscript",
    )
    add("--heatmap-size", type=whole_number(1, 2**14), metavar="N", help="pixels at which the tower sees a window")
    add("--window", type=whole_number(2, 2**14), metavar="N", help="side of the windows in pixels")
    add("--name", metavar="NAME", help="of the model in reports (default: the name of SRC)")
    add("--dataset", metavar="NAME", help="of the data set in reports (default: the name of the folder of images)")
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.localise.segment_command") -> None:
    """Segments the images that the command line names, and measures how well that fits their labels."""
    flags = parser(prog).parse_args(arguments)
    out: Path = check_folder(flags.out, lambda folder: (folder / _PREDICTIONS).is_dir())
    classes = read_classes(flags.classes)
    templates = class_facts.templates(flags.templates, flags.dataset)
    labelled = labelled_images(flags.images, flags.labels)

    import lrsclip_jax  # imports JAX, for which bad input should not wait
    from lrsclip_jax.localise.segment import segmenter

    model = lrsclip_jax.load(flags.checkpoint, batch_size=64)
    about = {
        "checkpoint": model.weights_hash,
        "classes": [list(own) for own in classes.words],
        "templates": list(templates),
        "heatmap_size": flags.heatmap_size,
        "window": flags.window,
    }
    with alone(out, prog):
        _claim(out / _PREDICTIONS, about)
        segment = segmenter(model, classes.words, templates, flags.heatmap_size, flags.window)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rasterio's, of TIFFs without a place
            counts, measured, failures = _measure(labelled, classes, segment, out / _PREDICTIONS)
        for line in failures:
            print(f"note: left out: {line}", file=sys.stderr)
        if not measured:
            raise InputError(f"{flags.images}: none of {len(labelled):,} images could be measured")
        result = {
            "task": "segmentation",
            "model": clean(flags.name or Path(model.source.rstrip("/")).stem.removeprefix("hf:")),
            "dataset": flags.dataset or clean(flags.images.absolute().name),
            "split": None,
            "features": "projected",
            **segmentation_metrics(counts, classes.names),
            "images": measured,
            "templates": list(templates),
            "heatmap_size": flags.heatmap_size,
            "made_by": made_by(),
        }
        write_result(out / _RESULT, result)
        from eval.html.segmentation_page import segmentation_page  # imports matplotlib

        write_text(out / "report.html", segmentation_page(result, model.source, [_RESULT]))
    for name, value in result["iou"].items():
        print(f"{name:{max(map(len, classes.names))}}  {value:6.2f}")
    print(f"mIoU {result['mIoU']:.2f} %, accuracy {result['accuracy']:.2f} %, {measured:,} images: {out}/report.html")
    if failures:
        raise InputError(f"{len(failures):,} of {len(labelled):,} images can't be used; all others are measured")


def _claim(predictions: Path, about: dict[str, Any]) -> None:
    """Says what the predictions depend on; InputError where those that are there depend on something else."""
    file = predictions / "about.json"
    predictions.mkdir(parents=True, exist_ok=True)
    other: dict[str, Any] = read_json(file, dict[str, Any]) if file.exists() else about
    if other != about:
        key = next(name for name in about if other.get(name) != about[name])
        raise InputError(f"{predictions} was made with another {key.replace('_', ' ')}: give another --out")
    if not file.exists():
        write_text(file, json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def _measure(
    labelled: Sequence[Labelled], classes: Classes, segment: Any, predictions: Path
) -> tuple[np.ndarray, int, list[str]]:
    """The confusion over all images that can be used, how many these are, and what is wrong with the others."""
    counts = np.zeros((len(classes.names),) * 2, np.int64)
    measured, failures = 0, []
    for one in tqdm(labelled, "segmenting", unit=" images", disable=None):
        try:
            if one.label is None:
                raise InputError(f"{one.image}: no label image of this name")
            predicted = _predicted(one, segment, predictions / f"{one.name}.png")
            height, width = predicted.shape
            counts += confusion(predicted, read_labels(one.label, height, width, classes.values), len(counts))
            measured += 1
        except InputError as error:
            failures.append(str(error))
    return counts, measured, failures


def _predicted(one: Labelled, segment: Any, file: Path) -> np.ndarray:
    """The class of each pixel, int16 [H, W]: from its file, or found now and written there."""
    from lrsclip_jax.data.rasters import open_scene

    scene = open_scene(one.image)
    if file.exists():
        try:
            indices = np.asarray(Image.open(file, formats=("PNG",)))
        except (OSError, SyntaxError, ValueError):
            raise InputError(f"{file} is damaged: delete it") from None
    else:
        found = segment(scene)
        indices = np.where(found == OTHER, _NOTHING, found).astype(np.uint8)
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as partial:
            Image.fromarray(indices).save(partial, "PNG")
    if indices.shape != (scene.height, scene.width):
        raise InputError(f"{file} is not of {one.image}: delete it")
    return np.where(indices == _NOTHING, OTHER, indices.astype(np.int16))


if __name__ == "__main__":
    cli(main)
