"""Models of a few thousand numbers, and the files that hold them: what tests of whole programs load."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

from lrsclip_jax.convert.export import export
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.pytorch.families import bert, mae
from lrsclip_jax.pytorch.layout import to_theirs

PREPROCESSING = Preprocessing(32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
_TOWER = {"width": 64, "layers": 1, "heads": 1, "embed_dim": 16}


def model(image: dict | None = None, text: dict | None = None) -> CLIP:
    """A CLIP of 32-pixel images in 4 patches and texts of 77 tokens."""
    return zoo.create("custom", image=_TOWER | {"size": 32, "patch": 16} | (image or {}), text=_TOWER | (text or {}))


def parameters(of: CLIP, seed: int = 0) -> dict:
    """Random ones, norms and biases too, so large that rows differ."""
    shapes = jax.eval_shape(lambda: init_params(of, jax.random.key(0)))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes)


def clip_folder(folder: Path, of: CLIP | None = None, seed: int = 0) -> dict:
    """Writes a CLIPModel folder of transformers, and returns its parameters in our layout."""
    of = of or model()
    params = parameters(of, seed)
    preprocessing = replace(PREPROCESSING, size=of.image.size)
    export(of, params, preprocessing, format="hf", out=folder, source="a test")
    return params


def bert_file(folder: Path) -> dict:
    """Writes a BERT of 100 positions without a config, and returns its parameters."""
    of = model(text={"kind": "bert", "context_length": 100, "embed_dim": 16})
    params = parameters(of, seed=1)
    save_file(to_theirs(bert.table(), params), folder / "bert.safetensors")
    return params["text"]


def mae_file(folder: Path) -> dict:
    """Writes a ViT of MAE without a config, and returns its parameters."""
    plain = {"activation": "gelu", "norm_eps": 1e-6, "patch_bias": True, "pre_norm": False}
    params = parameters(model(image=plain), seed=2)
    save_file(to_theirs(mae.table(), params), folder / "mae.safetensors")
    return params["image"]
