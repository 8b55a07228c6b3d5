"""The work of `lrsclip localise`: open a scene, find where each text fits best, write the files, print the places."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

import lrsclip_jax
from eval import selo
from eval.selo.grid import STEPS
from eval.selo.v2 import coarse_windows
from lrsclip_jax.data.bands import rgb_numbers
from lrsclip_jax.data.rasters import AnyScene, open_bands, open_scene
from lrsclip_jax.errors import InputError
from lrsclip_jax.localise.outputs import begun_by, check_out, plan_files, unfinished, write_files

HEAT_WINDOW = 1024


def run(flags: argparse.Namespace) -> None:
    """Writes the maps of the texts in `flags` (the parsed command line), and prints where the texts fit best."""
    check_out(flags.out, flags.image)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"note: {message}")
        scene = open_scene(flags.image, flags.bands or rgb_numbers(flags.layout))
        if scene.georeference and scene.georeference.points:
            print(
                f"note: {scene.path} is placed by {len(scene.georeference.points)} control points, and so is its map; "
                "the coordinates here are those of the nearest affine transform"
            )
        try:
            windows = windows_of(scene, flags)
        except InputError as error:
            raise InputError(f"{scene.path}: {error}") from None
        begun = begun_by(flags.out, {name: repr(value) for name, value in vars(flags).items() if name != "out"})
        files = plan_files(flags.out, scene, flags.text, begun)
        at_first = " at first" if flags.method == "v2" else ""
        print(f"{scene.path}: {scene.height}×{scene.width} pixels, {len(windows):,} windows{at_first}")
        with unfinished(begun, files):
            for text, paths, found in zip(flags.text, files, finds(scene, windows, flags), strict=True):
                write_files(paths, scene, text, found)
                print(f"\n{text}")
                for place, (box, score) in enumerate(found.best):
                    print(f"  {score:.4f}  {f'z {found.z[place]:.1f}  ' if found.level else ''}{words(scene, box)}")
                if found.peak:
                    row, column = found.peak
                    print(f"  hottest at {words(scene, (row, row, column, column))}")
                if found.level:
                    print(f"  {verdict(max(found.z), found.level.absent)}")
                if found.factor > 1:
                    print(f"  a pixel of the map is {found.factor}×{found.factor} of the scene")
                print("".join(f"  {what:8} {path}\n" for what, path in paths.items()), end="", flush=True)


def windows_of(scene: AnyScene, flags: argparse.Namespace) -> np.ndarray:
    """Returns the windows to begin with, int64 [N, 4]; InputError for a scene smaller than all."""
    if flags.method == "v2":
        return coarse_windows(scene.height, scene.width)
    usual = (min(scene.height, scene.width, HEAT_WINDOW),) if flags.heatmap else STEPS
    return selo.windows(scene.height, scene.width, flags.steps or usual)


def finds(scene: AnyScene, windows: np.ndarray, flags: argparse.Namespace) -> Iterator:
    """Yields a `finding.Finding` for each text."""
    from lrsclip_jax.localise import finding  # imports JAX, which takes seconds

    model = lrsclip_jax.load(flags.checkpoint, batch_size=flags.batch_size, layout=flags.layout)
    if bands := model.preprocessing.bands:
        if flags.crops == "reference":
            raise InputError("--crops=reference is by way of JPEG files, which have none of the bands of this model")
        scene = open_bands(flags.image, bands, flags.layout)
    background = flags.scale == "background"
    if flags.heatmap:
        return finding.by_patches(model, scene, flags.text, windows, flags.heatmap_size, background)
    reference = flags.crops == "reference"
    if flags.method == "v2":
        return finding.by_second_look(model, scene, flags.text, reference, flags.seed)
    return finding.by_windows(model, scene, flags.text, windows, reference, background)


def verdict(best: float, absent: float) -> str:
    """Returns a sentence that tells "nothing here" from "found"."""
    if best > absent:
        return f"found: the best z is {best:.1f}, texts of absent things reach {absent:.1f} at most"
    return f"maybe nothing: the best z is {best:.1f}, texts of absent things reach up to {absent:.1f}"


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
