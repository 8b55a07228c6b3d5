"""Label PNGs of semantic segmentation: what is connected in a class becomes an object with its box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Thing
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.pictures import of_stem, size_of
from lrsclip_jax.errors import InputError


def read(
    path: Path,
    origin: Origin,
    names: Mapping[int, str] | None = None,
    ignore: Sequence[int] = (0, 255),
    suffix: str = "",
    min_pixels: int = 16,
) -> Iterator[CorpusRecord | SetAside]:
    """Reads a folder of label PNGs, in the order of their names.

    Args:
      path: the folder; its PNGs hold a class value a pixel (grey values, or the indices of a palette).
      origin: where it comes from; its root has the images.
      names: class name of each value.
      ignore: values without a class that are no error; those in `names` are classes all the same.
      suffix: what a mask's stem has at its end beyond the image's, such as "_mask".
      min_pixels: smaller parts are specks and left out.

    A mask of another size than its image, or with an unknown value, is set aside.
    """
    if not names:
        raise InputError(f"{path}: the option names is needed, such as {{1: 'building', 2: 'road'}}")
    files = sorted(file for file in path.glob(f"*{suffix}.png"))
    if not files:
        raise InputError(f"{path}: no masks *{suffix}.png there")
    for file in files:
        stem = file.stem.removesuffix(suffix)
        try:
            image, said = of_stem(origin.root, stem), size_of(file)
        except InputError as error:
            yield origin.set_aside(stem, str(error))
            continue
        yield origin.annotated(image, _things(file, names, ignore, min_pixels), file.name, said)


def _things(file: Path, names: Mapping[int, str], ignore: Sequence[int], min_pixels: int) -> Iterator[Thing]:
    from lrsclip_jax.corpus.rules import things_of_mask  # SciPy and OpenCV, which other sources do without

    try:
        with Image.open(file, formats=("PNG",)) as image:
            mask = np.asarray(image).astype(np.int64)
    except Exception as error:  # decoders of damaged files raise anything
        raise InputError(f"{file}: torn or damaged mask ({' '.join(str(error).split())})") from None
    if mask.ndim != 2:
        raise InputError(f"{file}: colours, where a class value a pixel is expected")
    unknown = sorted(set(np.unique(mask).tolist()) - set(names) - set(ignore))
    if unknown:
        raise InputError(f"{file}: unknown class values {', '.join(map(str, unknown[:20]))}")
    yield from things_of_mask(mask, names, min_pixels)
