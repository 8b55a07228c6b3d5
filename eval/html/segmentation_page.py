"""A page about one segmentation: mIoU, the IoU of each class, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.html import elements
from eval.html.confusion import confusion_matrix, most_confused
from eval.html.frame import page, provenance


def segmentation_page(result: Mapping[str, Any], checkpoint: str = "", files: Sequence[str] = ()) -> elements.Html:
    """Returns a result of `eval.segmentation`, with model, data set and images, as one HTML document.

    `files` are those next to the page that it links.
    """
    rows = [[name, value] for name, value in result["iou"].items()]
    caption = f"Intersection over union in per cent, over {result['pixels']:,} pixels of {result['images']:,} images."
    if result["absent"]:
        caption += f" Neither in labels nor in predictions, and in no mean: {', '.join(result['absent'])}."
    metrics = [["mIoU", result["mIoU"]], ["accuracy of pixels", result["accuracy"]]]
    metrics += [["mean accuracy of classes", result["mean_accuracy"]]]
    matrix = elements.join(
        elements.paragraph(most_confused(result["confusion"], result["classes"])),
        confusion_matrix(result["confusion"], result["classes"]),
        elements.remark("Rows: classes of the labels; columns: predicted ones; per cent of the row."),
    )
    sections = [
        ("All classes", elements.table(metrics, ["", "%"])),
        ("Each class", elements.table(rows, ["", "IoU"], caption)),
        ("Confusion", matrix),
    ]
    templates = ", ".join(f"“{template}”" for template in result["templates"][:3])
    more = f" and {len(result['templates']) - 3} more templates" if len(result["templates"]) > 3 else ""
    return page(
        f"Segmentation of {result['dataset']} by {result['model']}",
        sections,
        f"The class of every pixel by words alone, with {templates}{more}; no pixel was trained on.",
        provenance({"Checkpoint": checkpoint}),
        files,
    )
