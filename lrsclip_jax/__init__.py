"""Vision-language models for remote sensing that read long captions, in JAX and Flax.

import lrsclip_jax
model = lrsclip_jax.load("runs/b16")
images = model.images(["harbour.tif", "forest.jpg"])
texts = model.texts(["An aerial photo of a harbour with two piers.", "A dense forest."])
scores = model.logit_scale * images @ texts.T
print(scores.argmax(axis=1))
"""

from __future__ import annotations

import eval  # noqa: F401  # first of all: lets Ctrl-C end a command while it imports the rest

# isort: split
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrsclip_jax.pretrained import Pretrained

__all__ = ["load"]


def load(
    source: str | os.PathLike[str],
    *,
    dtype: Any = None,
    batch_size: int = 64,
    model: str | None = None,
    activation: str | None = None,
    image_heads: int | None = None,
    text_heads: int | None = None,
    base: str | None = None,
    layout: str | Sequence[str] = (),
) -> Pretrained:
    """Loads a pretrained model of two towers, to embed images and texts with.

        model = lrsclip_jax.load("hf:openai/clip-vit-base-patch16")
        images = model.images(["a.jpg", "b.tif"])       # float32 [2, E], unit rows
        texts = model.texts(["a harbour", "a forest"])  # float32 [2, E], unit rows
        print(images @ texts.T)                         # cosines

    Args:
      source: a run folder, one of its checkpoints, a checkpoint file or folder of OpenAI's CLIP, open_clip, Long-CLIP,
        LRSCLIP, RemoteCLIP, GeoRSCLIP, SkyCLIP, Hugging Face's transformers or PEFT, or "hf:owner/name[@revision]". A
        text tower of 77 positions reads 77 tokens; `lrsclip convert import --context-length=248` stretches it.
      dtype: of the towers' arithmetic. None: float32 on a CPU, bfloat16 on accelerators. "float32" is full float32
        everywhere, where accelerators would otherwise round the factors of products.
      batch_size: rows that pass a tower at once, over all local devices; fewer rows take a smaller batch.
      model: a published model's name (`lrsclip_jax.pytorch.families.known_models`), for a file that doesn't tell.
      activation: "quick_gelu" or "gelu", of both towers, for a file that doesn't tell.
      image_heads, text_heads: numbers of attention heads, for a file that doesn't tell.
      base: the source of weights that a folder of PEFT belongs to, where that names no model of the Hub.
      layout: for a model that reads bands by name, the bands of files that do not name them, in their order: names, or
        "sentinel2-l1c", "sentinel2-l2a", "eurosat".

    Returns:
      A `lrsclip_jax.pretrained.Pretrained`.

    Raises:
      InputError: there is nothing, something damaged or unknown, one tower alone, or one of the five before `layout`
        is needed.
    """
    from lrsclip_jax import pretrained  # imports JAX, which takes seconds
    from lrsclip_jax.pytorch.contract import Hints

    hints = Hints(model, activation, image_heads, text_heads, base)
    return pretrained.load(source, hints, dtype=dtype, batch_size=batch_size, layout=layout)
