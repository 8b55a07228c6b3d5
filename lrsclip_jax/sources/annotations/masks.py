"""Label PNGs of semantic segmentation: what is connected in a class becomes an object with its box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lrsclip_jax.data.images import size_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.annotated import annotated
from lrsclip_jax.sources.annotations.image_files import of_stem
from lrsclip_jax.sources.annotations.mask_objects import things_of_mask
from lrsclip_jax.sources.item import Fault, Item, Thing
from lrsclip_jax.sources.listing import passed_over
from lrsclip_jax.sources.row_values import clean_name


def read(
    path: Path,
    root: Path,
    source: str,
    names: Mapping[int, str] | None = None,
    ignore: Sequence[int] = (0, 255),
    suffix: str = "",
    min_pixels: int = 16,
) -> Iterator[Item | Fault]:
    """Reads a folder of label PNGs, in the order of their names.

    Args:
      path: the folder; its PNGs hold a class value a pixel (grey values, or the indices of a palette).
      root: the folder of the images.
      source: its name.
      names: class name of each value.
      ignore: values without a class that are no error; those in `names` are classes all the same.
      suffix: the end of a mask's stem that the image's stem lacks, such as "_mask".
      min_pixels: smaller parts are specks and left out.

    A mask of another size than its image, or with an unknown value, is a fault.
    """
    if not names:
        raise InputError(f"{path}: the option names is needed, such as {{1: 'building', 2: 'road'}}")
    files = sorted(file for file in path.glob(f"*{suffix}.png") if not passed_over(file.name))
    if not files:
        raise InputError(f"{path}: no masks *{suffix}.png there")
    for file in files:
        where, stem = clean_name(file.name), file.stem.removesuffix(suffix)
        try:
            image, said = of_stem(root, stem), size_of(file)
        except InputError as error:
            yield Fault(where, str(error), clean_name(stem))
            continue
        yield annotated(image, root, source, _things(file, where, names, ignore, min_pixels), where, said)


def _things(
    file: Path, where: str, names: Mapping[int, str], ignore: Sequence[int], min_pixels: int
) -> Iterator[Thing | Fault]:
    try:
        with Image.open(file, formats=("PNG",)) as image:
            mask = np.asarray(image).astype(np.int64)
    except Exception as error:  # decoders of damaged files raise anything
        yield Fault(where, f"torn or damaged mask ({' '.join(str(error).split())})")
        return
    if mask.ndim != 2:
        yield Fault(where, "colours, where a class value a pixel is expected")
    elif unknown := sorted(set(np.unique(mask).tolist()) - set(names) - set(ignore)):
        yield Fault(where, f"unknown class values {', '.join(map(str, unknown[:20]))}")
    else:
        yield from things_of_mask(mask, names, min_pixels)
