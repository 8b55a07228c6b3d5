"""The command `lrsclip localise`: where a scene shows what texts say."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval.command import add_subject, command_line, expanded, integers, path, whole_number
from lrsclip_jax.data.bands import add_layout
from lrsclip_jax.errors import InputError, cli

EXAMPLES = """
examples:
  lrsclip localise scene.tif --checkpoint=runs/b16 --text="a harbour with two piers" --text="a parking lot" --out=found
  lrsclip localise scene.tif --checkpoint=runs/b16 --text="a stadium" --steps=128,256 --bands=4,3,2
  lrsclip localise photo.jpg --checkpoint=runs/b16 --text="a white plane" --heatmap=patches
  lrsclip localise scene.tif --checkpoint=runs/b16 --text="a stadium" --scale=background

Windows (--method=v1, of AIR-SLT's reference code): squares of several sizes, embedded once each however many texts;
a pixel's value is the mean cosine of its windows, scaled to 0 … 255 and median-filtered over 251 pixels. v2 looks at
windows of 512 pixels and, where they are best, at smaller ones around nine anchors; a query is the mean of the text
and four random orders of its words. Heat maps (--heatmap=patches) ask the patches of the image tower instead: the last
block's values, as texts see them, less the mean of neutral texts; windows are as wide as the shorter side of the
scene, and at most 1,024 pixels.

A map is scaled from its own lowest to its own highest value, so that it has a brightest place even where the thing is
absent. --scale=background compares the text with neutral texts and with texts of things that no scene shows, as
`lrsclip search` does: the map is of z, dark up to the highest z of those absent things, so that what is absent stays
dark. A thing that fills a scene evenly does not stand out of it either: lrsclip_jax/localise/background.py.

A TIFF or JPEG 2000 is read window by window. Bands of more than 8 bits are stretched from their percentiles 2 and 98
to 0 … 255. Where a scene has no data, windows are left out, and so is the map. Up to 268 megapixels a map has the
scene's pixels (heat maps: 67, all texts together); larger scenes get one reduced by a whole number, with coordinates to
match, and an overlay has at most 2,048 pixels a side. The best windows, with their cosines, are also written as JSON
and, for a GeoTIFF, as GeoJSON.

exit status: 0 done, 2 bad input (one line says what and where)
"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.localise") -> None:
    """Writes the maps that the command line asks for, and says where its texts fit best."""
    flags = parser(prog).parse_args(arguments)
    check(flags)
    from lrsclip_jax.localise.run import run  # imports SciPy and OpenCV, for which --help should not wait

    run(flags)


def check(flags: argparse.Namespace) -> None:
    """Raises InputError for options that do not go together."""
    if not all(text.strip() for text in flags.text):
        raise InputError("--text is empty: say what to look for")
    if flags.heatmap and (flags.method or flags.crops):
        raise InputError("--heatmap=patches maps patches, not windows: leave --method and --crops out")
    if flags.heatmap_size and not flags.heatmap:
        raise InputError("--heatmap-size only applies with --heatmap=patches")
    if flags.method == "v2" and flags.scale == "background":
        raise InputError("--method=v2 maps two looks, which no absent thing is compared with: leave --scale out")
    if flags.method == "v2" and flags.steps:
        raise InputError("--method=v2 has windows of 512 pixels: leave --steps out")


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Writes where a scene shows what texts say: a map, an overlay, and for a GeoTIFF a map as GeoTIFF.",
        EXAMPLES,
        usage="SCENE --checkpoint=SRC --text=TEXT [--out=DIR] [options]",
    )
    add_subject(parse, "image", metavar="SCENE", help="a file: (Geo)TIFF, JPEG, PNG, WebP, BMP, JPEG 2000", type=path)
    add = parse.add_argument
    add("--checkpoint", metavar="SRC", required=True, type=expanded, help="weights, see lrsclip convert --help")
    add("--text", metavar="TEXT", required=True, action="append", help="what to look for; may be given several times")
    add("--out", metavar="DIR", type=path, default=Path("localised"), help="folder of the files (%(default)s)")
    add("--steps", metavar="N,N", type=integers, help="sides of the windows in pixels (256,512,768)")
    add("--method", choices=("v1", "v2"), help="of AIR-SLT's reference code (v1)")
    add("--seed", type=whole_number(), default=0, metavar="N", help="of the orders of words in v2 (%(default)s)")
    add("--crops", choices=("direct", "reference"), help="as they are, or 256 px and JPEG as the reference's (direct)")
    add("--heatmap", choices=("patches",), help="a heat map of patches instead of windows")
    add(
        "--heatmap-size",
        type=whole_number(1, 2**14),
        metavar="N",
        help="pixels at which the tower sees a window (24 patches)",
    )
    add(
        "--scale",
        choices=("extremes", "background"),
        default="extremes",
        help="what a map is scaled by: its own extremes (the default), or texts of absent things",
    )
    add(
        "--bands",
        type=integers,
        metavar="B,B,B",
        help="one or three bands that are shown, and seen by a model of RGB, e.g. 4,3,2 (the first three)",
    )
    add_layout(add)
    add(
        "--batch-size",
        type=whole_number(1, 2**24),
        default=64,
        metavar="N",
        help="windows embedded at once (%(default)s)",
    )
    return parse


if __name__ == "__main__":
    cli(main)
