"""Several crops of every image, and all its turns, so that training from memory has some to choose from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from PIL import Image

from lrsclip_jax.data.band_image import AnyImage
from lrsclip_jax.data.batches.augmentation import random_box
from lrsclip_jax.data.directions import TURNS
from lrsclip_jax.data.draws import stream
from lrsclip_jax.embed.material import Material, Row
from lrsclip_jax.errors import InputError

_PURPOSE = 104  # of the stream of random numbers


def views_of(material: Material, count: int, crop_scale: tuple[float, ...], size: int) -> Material:
    """Returns a material with `count` crops in place of each image, one after the other, and without texts.

    A crop has the id "IMAGE#1", "IMAGE#2", …, and its image's under `image`. It depends on its number alone.

    Args:
      material: of whole images.
      count: of crops.
      crop_scale: the least and the greatest share of the area.
      size: side of the crops in pixels.

    Raises:
      InputError: no images, images that are windows of scenes, or shares that are none.
    """
    if len(crop_scale) != 2 or not 0 < crop_scale[0] <= crop_scale[1] <= 1:
        raise InputError(f"--crop-scale: write two shares of the area from 0 to 1, such as 0.8,1, not {crop_scale}")
    _check_images(material, "--views")

    def read(row: int) -> AnyImage:
        image = material.read(row // count)
        box = random_box(*image.size, (crop_scale[0], crop_scale[1]), stream(0, row, _PURPOSE))
        return image.resize((size, size), Image.Resampling.BICUBIC, box=box)

    numbers = range(1, count + 1)
    rows = [{**row, "id": f"{row['id']}#{n}", "image": row["id"]} for row in material.images for n in numbers]
    return replace(material, images=_unlabelled(rows), texts=[], read=read)


def turns_of(material: Material) -> Material:
    """Returns a material with every turn of each image in its place, one after the other, and without texts.

    A turn has the id "IMAGE@0" to "IMAGE@7", its number (`data.directions`) under `turn`, and under `image` the image's
    id. `read` gives the image as it is; `turned` turns what preprocessing makes of it, as training does on the device.
    Raises InputError for a material without images, or of windows of scenes.
    """
    _check_images(material, "--turns")
    every = TURNS["all"]
    rows = [{"image": row["id"], **row, "id": f"{row['id']}@{n}", "turn": n} for row in material.images for n in every]
    return replace(material, images=_unlabelled(rows), texts=[], read=lambda row: material.read(row // len(every)))


def turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Returns pixels [H, W, C] turned, of the shape [W, H, C] where `turn` has bit 1; see `data.directions`."""
    pixels = pixels.swapaxes(0, 1) if turn & 1 else pixels
    pixels = pixels[:, ::-1] if turn & 2 else pixels
    return np.ascontiguousarray(pixels[::-1] if turn & 4 else pixels)


def _unlabelled(rows: Iterable[Row]) -> list[Row]:
    """Returns rows without labels: a probe would train on one view of an image and be tested on another."""
    return [{key: value for key, value in row.items() if key != "label"} for row in rows]


def _check_images(material: Material, option: str) -> None:
    if not material.images or material.scenes:
        raise InputError(f"{option}: {material.name} has {'windows of scenes' if material.scenes else 'no images'}")
