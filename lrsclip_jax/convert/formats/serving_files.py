"""What stands next to towers that run without this package: what goes in and comes out, and the tokenizer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrsclip_jax.convert.formats.output_files import write_json
from lrsclip_jax.convert.formats.tokenizer_files import serving_tokenizer
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer, tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.zoo import text_kind

ABOUT, TOKENIZER = "model.json", "tokenizer.json"


def write_serving_files(
    model: CLIP,
    params: Mapping[str, Any],
    preprocessing: Preprocessing,
    folder: Path,
    *,
    tokenizer: Tokenizer | None,
    image: Mapping[str, Any],
    text: Mapping[str, Any],
    runtime: Mapping[str, Any],
) -> None:
    """Writes model.json and tokenizer.json (`tokenizer_files.serving_tokenizer`) into `folder`.

    Args:
      model: that is exported.
      params: its parameters.
      preprocessing: of its images.
      folder: to write into.
      tokenizer: of its texts; None: the one that ships for its kind of text tower.
      image, text: what is to be said of the towers' files.
      runtime: what is to be said of the program that runs them.

    Raises:
      InputError: the tower's vocabulary is not that of the tokenizer, or none ships for it.
    """
    tower = model.text
    tokenizer = tokenizer or tokenizer_for(text_kind(model))
    if (tower.vocab_size, getattr(tower, "end_token", tokenizer.end)) != (tokenizer.vocab_size, tokenizer.end):
        raise InputError(f"the text tower has {tower.vocab_size} tokens, and they are not those of {tokenizer.name}")
    engine = serving_tokenizer(tokenizer, tower.context_length)
    (folder / TOKENIZER).write_text(engine.to_str(), encoding="utf-8")
    size, seen = preprocessing.size, dataclasses.asdict(preprocessing)
    seen = {name: value for name, value in seen.items() if name not in ("patch", "min_patches")}  # images are squares
    about = {
        "embed_dim": model.image.embed_dim,
        "logit_scale": math.exp(float(params["logit_scale"])),
        **({"logit_bias": float(params["logit_bias"])} if "logit_bias" in params else {}),
        "image": {
            "input": {"name": "images", "dtype": "uint8", "shape": ["batch", size, size, 3]},
            "output": "image_embeddings",
            "preprocessing": seen | {"channels": "RGB", "mean_and_std": "in the tower"},
        }
        | dict(image),
        "text": {
            "output": "text_embeddings",
            "tokenizer": TOKENIZER,
            "context_length": tower.context_length,
            "end_token": tokenizer.end,
            "pad_token": tokenizer.pad,
        }
        | dict(text),
        "runtime": dict(runtime),
    }
    write_json(folder / ABOUT, about)
