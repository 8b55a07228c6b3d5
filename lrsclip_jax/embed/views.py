"""Several crops of every image, drawn as training draws them, so that training from memory has some to choose from."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from lrsclip_jax.data.band_image import AnyImage
from lrsclip_jax.data.batches.augmentation import random_box
from lrsclip_jax.data.draws import stream
from lrsclip_jax.embed.material import Material
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
    if not material.images or material.scenes:
        raise InputError(f"--views: {material.name} has {'windows of scenes' if material.scenes else 'no images'}")

    def read(row: int) -> AnyImage:
        image = material.read(row // count)
        box = random_box(*image.size, (crop_scale[0], crop_scale[1]), stream(0, row, _PURPOSE))
        return image.resize((size, size), Image.Resampling.BICUBIC, box=box)

    numbers = range(1, count + 1)
    rows = [{**row, "id": f"{row['id']}#{n}", "image": row["id"]} for row in material.images for n in numbers]
    return replace(material, images=rows, texts=[], read=read)
