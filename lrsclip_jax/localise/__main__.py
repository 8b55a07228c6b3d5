"""The command `python -m lrsclip_jax.localise`: where a scene shows what texts say."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import lrsclip_jax
from eval import selo
from eval.selo.grid import STEPS
from eval.selo.v2 import coarse_windows
from lrsclip_jax.data.rasters import AnyScene, open_scene
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.localise.outputs import plan_files, write_files

EXAMPLES = """
examples:
  --checkpoint=runs/b16 --image=scene.tif --text="a harbour with two piers" --text="a parking lot" --out=found
  --checkpoint=runs/b16 --image=scene.tif --text="a stadium" --steps=128,256 --bands=4,3,2
  --checkpoint=runs/b16 --image=photo.jpg --text="a white plane" --heatmap=patches

Windows (--method=v1, of AIR-SLT's reference code): squares of several sizes, embedded once each however many texts;
a pixel's value is the mean cosine of its windows, scaled to 0 … 255 and median-filtered over 251 pixels. v2 looks at
windows of 512 pixels and, where they are best, at smaller ones around nine anchors; a query is the mean of the text
and four random orders of its words. Heat maps (--heatmap=patches) ask the patches of the image tower instead: the last
block's values, as texts see them, less the mean of neutral texts; windows are as wide as the shorter side of the
scene, and at most 1,024 pixels.

A TIFF or JPEG 2000 is read window by window. Bands of more than 8 bits are stretched from their percentiles 2 and 98
to 0 … 255. Where a scene has no data, windows are left out, and so is the map. Up to 268 megapixels a map has the
scene's pixels (heat maps: 67, all texts together); larger scenes get one reduced by a whole number, with coordinates to
match, and an overlay has at most 4,096 pixels a side.

exit status: 0 done, 2 bad input (one line says what and where)
"""
HEAT_WINDOW = 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the maps that the command line asks for, and says where its texts fit best."""
    flags = parser().parse_args(arguments)
    check(flags)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"note: {message}")
        scene = open_scene(flags.image, flags.bands)
        if scene.georeference and scene.georeference.points:
            print(
                f"note: {scene.path} is placed by {len(scene.georeference.points)} control points, and so is its map; "
                "coordinates said here are those of the nearest affine transform"
            )
        try:
            windows = windows_of(scene, flags)
        except InputError as error:
            raise InputError(f"{scene.path}: {error}") from None
        files = plan_files(flags.out, scene, flags.text)
        at_first = " at first" if flags.method == "v2" else ""
        print(f"{scene.path}: {scene.height}×{scene.width} pixels, {len(windows):,} windows{at_first}")
        for text, paths, found in zip(flags.text, files, finds(scene, windows, flags), strict=True):
            write_files(paths, scene, found.map, found.missing, found.factor)
            print(f"\n{text}")
            for box, score in found.best:
                print(f"  {score:.4f}  {words(scene, box)}")
            if found.peak:
                row, column = found.peak
                print(f"  hottest at {words(scene, (row, row, column, column))}")
            if found.factor > 1:
                print(f"  a pixel of the map is {found.factor}×{found.factor} of the scene")
            print("".join(f"  {what:8} {path}\n" for what, path in paths.items()), end="", flush=True)


def check(flags: argparse.Namespace) -> None:
    """Raises InputError for options that do not go together."""
    if not all(text.strip() for text in flags.text):
        raise InputError("--text is empty: say what to look for")
    if flags.batch_size < 1:
        raise InputError(f"--batch-size={flags.batch_size}: at least 1 is expected")
    if flags.seed < 0:
        raise InputError(f"--seed={flags.seed}: a whole number from 0 on is expected")
    if flags.heatmap and (flags.method or flags.crops):
        raise InputError("--heatmap=patches maps patches, not windows: leave --method and --crops out")
    if flags.heatmap_size and not flags.heatmap:
        raise InputError("--heatmap-size is of heat maps: add --heatmap=patches")
    if flags.method == "v2" and flags.steps:
        raise InputError("--method=v2 has windows of 512 pixels: leave --steps out")


def windows_of(scene: AnyScene, flags: argparse.Namespace) -> np.ndarray:
    """Returns the windows to begin with, int64 [N, 4]; InputError for a scene smaller than all."""
    if flags.method == "v2":
        return coarse_windows(scene.height, scene.width)
    usual = (min(scene.height, scene.width, HEAT_WINDOW),) if flags.heatmap else STEPS
    return selo.windows(scene.height, scene.width, flags.steps or usual)


def finds(scene: AnyScene, windows: np.ndarray, flags: argparse.Namespace) -> Iterator:
    """Yields a `finding.Found` for each text."""
    from lrsclip_jax.localise import finding  # imports JAX, which takes seconds

    model = lrsclip_jax.load(flags.checkpoint, batch_size=flags.batch_size)
    if flags.heatmap:
        return finding.by_patches(model, scene, flags.text, windows, flags.heatmap_size)
    reference = flags.crops == "reference"
    if flags.method == "v2":
        return finding.by_second_look(model, scene, flags.text, reference, flags.seed)
    return finding.by_windows(model, scene, flags.text, windows, reference)


def words(scene: AnyScene, box: Sequence[float]) -> str:
    """Returns where a box (r0, r1, c0, c1) of a scene lies, in pixels and, if it is georeferenced, on the map."""
    r0, r1, c0, c1 = box
    said = f"rows {r0}–{r1}, columns {c0}–{c1}" if r0 < r1 else f"row {r0}, column {c0}"
    if not scene.georeference:
        return said
    transform, crs = scene.georeference.transform, scene.georeference.crs
    corners = [transform * corner for corner in ((c0, r0), (c1, r0), (c0, r1), (c1, r1))]
    x, y = ([min(values), max(values)] for values in zip(*corners, strict=True))
    digits = max(2, int(np.ceil(-np.log10(abs(transform.determinant) ** 0.5))) + 1)  # a tenth of a pixel
    where = (f"{low:.{digits}f}" + (f"–{high:.{digits}f}" if r0 < r1 else "") for low, high in (x, y))
    return f"{said}; {crs or 'map'}: " + ", ".join(f"{axis} {value}" for axis, value in zip("xy", where, strict=True))


def parser() -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = argparse.ArgumentParser(
        prog="python -m lrsclip_jax.localise",
        description="Writes where a scene shows what texts say: a map, an overlay, and for a GeoTIFF a map as GeoTIFF.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parse.add_argument
    add("--checkpoint", metavar="SRC", required=True, help="a source of weights, see python -m lrsclip_jax.convert")
    add(
        "--image",
        metavar="FILE",
        required=True,
        type=Path,
        help="the scene: (Geo)TIFF, JPEG, PNG, WebP, BMP or JPEG 2000",
    )
    add("--text", metavar="TEXT", required=True, action="append", help="what to look for; may be given several times")
    add("--out", metavar="DIR", type=Path, default=Path("localised"), help="folder of the files (%(default)s)")
    add("--steps", metavar="N,N", type=_integers, help="sides of the windows in pixels (256,512,768)")
    add("--method", choices=("v1", "v2"), help="of AIR-SLT's reference code (v1)")
    add("--seed", type=int, default=0, metavar="N", help="of the orders of words in v2 (%(default)s)")
    add("--crops", choices=("direct", "reference"), help="as they are, or 256 px and JPEG as the reference's (direct)")
    add("--heatmap", choices=("patches",), help="a heat map of patches instead of windows")
    add("--heatmap-size", type=int, metavar="N", help="pixels at which the tower sees a window (24 patches)")
    add("--bands", type=_integers, metavar="B,B,B", help="one or three bands, e.g. 4,3,2 (the first three)")
    add("--batch-size", type=int, default=64, metavar="N", help="windows embedded at once (%(default)s)")
    return parse


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


if __name__ == "__main__":
    cli(main)
