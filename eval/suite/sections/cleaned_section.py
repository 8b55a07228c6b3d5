"""Cleaned sets in the report: which images left, near which training images, and how far chance alone goes."""

from __future__ import annotations

from collections.abc import Sequence

from eval.html import elements
from eval.suite.sections.result_groups import Result, data_of, model_of, told_once


def section(results: Sequence[Result]) -> list[tuple[str, elements.Html]]:
    """Returns how many images left each cleaned set, and the nearest pairs; nothing where no set was cleaned."""
    of_data = {data_of(result): result for result in results if "cleaned" in result}
    if not of_data:
        return []
    rows = [_row(data, result) for data, result in of_data.items()]
    explained = (
        "Rows marked “cleaned” are without the images that are near a training image by their perceptual hashes, and "
        "without the texts of those. Among fewer images each is easier to find: compare them with the rows of as many "
        "images at random, the means of several draws, and not with those of the whole set."
    )
    columns = ["", "Images", "Near training images", "Left", "At most bits apart", "Training data"]
    pairs = [
        elements.fold(f"The nearest pairs: {data}", _pairs(result))
        for data, result in of_data.items()
        if result["cleaned"]["near"]
    ]
    table = elements.table(rows, columns, worded=True)
    return [("Images near training images", elements.join(elements.paragraph(explained), table, *pairs))]


def spread_at_random(rows: Sequence[Result], score: str) -> elements.Html:
    """Returns a remark on how much `score` differs between the random parts that a cleaned set is compared with."""
    told = ((model_of(row), row["cleaned"]["random"]) for row in rows if "random" in row.get("cleaned", {}))
    said = "the row at random is the mean of {} draws, with a standard deviation of {:.2f}"
    return told_once((name, said.format(random["draws"], random[f"{score}_std"])) for name, random in told)


def _row(data: str, result: Result) -> list[str | int]:
    cleaned, images = result["cleaned"], result["images"]
    sources = (f"{train['source']} ({train['images']:,} images)" for train in cleaned["train"])
    left = images - cleaned["left_out"]
    return [data, images, cleaned["left_out"], left, cleaned["distance"], ", ".join(sources)]


def _pairs(result: Result) -> elements.Html:
    rows = [[pair["id"], pair["train"], pair["source"], pair["distance"]] for pair in result["cleaned"]["near"]]
    shown, of = len(rows), result["cleaned"]["left_out"]
    caption = f"{shown} of {of:,}; the leaks file has all." if shown < of else ""
    return elements.table(rows, ["Image", "Training image", "Training data", "Bits apart"], caption, worded=True)
