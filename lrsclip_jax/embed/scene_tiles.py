"""Large images cut into tiles, as `lrsclip index` cuts scenes; and how many are cropped without that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from lrsclip_jax.data.band_image import AnyImage, of_pixels
from lrsclip_jax.data.bands import rgb_numbers
from lrsclip_jax.data.images import size_of
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.rasters import AnyScene
from lrsclip_jax.data.shared_scenes import scene_opener
from lrsclip_jax.data.tiling import levels_of, windows
from lrsclip_jax.embed.material import Material, Row, seen_by
from lrsclip_jax.errors import InputError

_LOST = 0.2  # share of an image that a crop may leave out without a note: CLIP's own images have 3:4


def cut(material: Material, tile: int, overlap: float, levels: int = 1) -> Material:
    """Returns a material of which images with a side above `tile` pixels are tiles, the scene's name being the image's.

    A tile has neither the label nor the texts of its image: they may be true elsewhere only. Images that are no files,
    and those whose header can't be read, stay as they are.
    """
    rows: list[tuple[Row, int, int]] = []
    scenes: dict[str, Row] = {}
    for number, row in enumerate(tqdm(material.images, "cutting", unit=" images", leave=False, disable=None, delay=1)):
        try:
            width, height = size_of(Path(row["file"])) if "file" in row else (0, 0)
        except InputError:  # told when it is read
            width, height = 0, 0
        if max(width, height) <= tile:
            rows.append((row, number, 0))
            continue
        scenes[row["id"]] = {"height": height, "width": width, "file": row["file"]}
        rest = {key: row[key] for key in ("split",) if key in row}
        for level in levels_of(height, width, tile, overlap, levels):
            for r0, r1, c0, c1 in windows(height, width, level.side, level.step).tolist():
                name = f"{row['id']}#L{level.number}/r{r0},c{c0}"
                of_tile = {"id": name, **rest, "scene": row["id"], "window": [r0, r1, c0, c1]}
                rows.append((of_tile, number, level.pixels))

    def reader(
        whole: Callable[[int], AnyImage], opened: Callable[[Path | str, float], AnyScene]
    ) -> Callable[[int], AnyImage]:
        def read(chosen: int) -> AnyImage:
            row, number, pixels = rows[chosen]
            if not pixels:
                return whole(number)
            scene = opened(Path(scenes[row["scene"]]["file"]), 1)
            return of_pixels(scene.look(row["window"], pixels, pixels)[0])

        return read

    def read_bands(preprocessing: Preprocessing, layout: Sequence[str]) -> Callable[[int], AnyImage]:
        whole = seen_by(material, preprocessing, layout).read
        return reader(whole, scene_opener(rgb_numbers(layout), preprocessing.bands, layout))

    texts = [text for text in material.texts if text.get("image") not in scenes]
    return replace(
        material,
        images=[row for row, *_ in rows],
        texts=texts,
        read=reader(material.read, scene_opener()),
        scenes=material.scenes | scenes,
        read_bands=read_bands,
    )


def counting_crops(read: Callable[[int], AnyImage], cropped: list[int]) -> Callable[[int], AnyImage]:
    """Returns `read` such that it adds to `cropped` the numbers of images of which a crop loses more than a fifth."""

    def counted(row: int) -> AnyImage:
        image = read(row)
        if min(image.size) < (1 - _LOST) * max(image.size):
            cropped.append(row)
        return image

    return counted
