"""A folder that timm loads as "local-dir:FOLDER": the image tower alone, under the name of timm's own equal model.

timm 1.0.31's definitions, models/vision_transformer.py: its names of layers, eps, activation and the entry points here.
torchgeo makes its models by timm, and so takes the same tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrsclip_jax.convert.formats.known_towers import tower_faults
from lrsclip_jax.convert.formats.output_files import counts, new_output, write_json, write_safetensors
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.pytorch.families import dinov2, mae
from lrsclip_jax.pytorch.layout import LINEAR, Leaf, norm, to_theirs

_SIZES = {(192, 12, 3): "tiny", (384, 12, 6): "small", (768, 12, 12): "base", (1024, 24, 16): "large"}
_SIZES |= {(1280, 32, 16): "huge"}  # by width, layers, heads

# Whether there is a norm before the blocks (then no bias on the patches), and the activation; the end of the name;
# size and patch of those that timm has. eps is 1e-5 in the first two, 1e-6 in the others.
_NAMES: tuple[tuple[bool, str, str, set[str]], ...] = (
    (True, "quick_gelu", "_clip_quickgelu_224", {"base_patch32", "base_patch16", "large_patch14", "huge_patch14"}),
    (True, "gelu", "_clip_224", {"base_patch32", "base_patch16", "large_patch14", "huge_patch14"}),
    (False, "gelu", "_dinov2", {"small_patch14", "base_patch14", "large_patch14"}),
    (
        *(False, "gelu", "_224"),
        {
            *("tiny_patch16", "small_patch32", "small_patch16", "base_patch32", "base_patch16", "large_patch16"),
            *("large_patch14", "huge_patch14"),
        },
    ),
)


def write(model: CLIP, params: Mapping[str, Any], preprocessing: Preprocessing, out: Path) -> list[str]:
    """Writes the folder `out`, and returns what to tell of it.

    The projection is timm's classifier, `head`, with a bias of zero: `model(pixels)` gives embeddings before they are
    made unit vectors, `num_classes=0` the features before the projection.

    Args:
      model, params, preprocessing: as for `export.export`.
      out: the folder, new or empty.

    Raises:
      InputError: no model of timm computes the same; `out` can't be written.
    """
    tower = model.image
    if isinstance(tower, ResNet):
        raise InputError("--format=timm writes ViTs, and the image tower is a ResNet: try --format=open_clip or openai")
    name, pool = _name(tower), "token" if tower.pool == "cls" else "avg"
    tensors = _tensors(params, tower, name)
    described = {
        "architecture": name,
        "num_classes": tower.embed_dim,
        "num_features": tower.width,
        "global_pool": pool,
        "model_args": {"img_size": tower.size, "global_pool": pool},
        "pretrained_cfg": {
            "input_size": [3, tower.size, tower.size],
            "fixed_input_size": True,
            "pool_size": None,
            "interpolation": preprocessing.interpolation,
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": tower.embed_dim,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    with new_output(out) as partial:
        partial.mkdir()
        write_json(partial / "config.json", described)
        write_safetensors(partial / "model.safetensors", tensors)
    return [
        f"{out}: the image tower as timm's {name}, img_size={tower.size}, {counts(tensors)}",
        f"timm.create_model('local-dir:{out}', pretrained=True)",
    ]


def _name(tower: ViT) -> str:
    def refused(reason: str) -> InputError:
        return InputError(f"--format=timm: no model of timm computes the same: {reason}")

    if fault := next(tower_faults("image", tower), None):
        raise refused(fault)
    if parts := tower.parts or ("attention pooling" if tower.pool == "map" else ""):
        raise refused(f"its image tower has {parts}")
    size = _SIZES.get((tower.width, tower.layers, tower.heads))
    if size is None or tower.mlp_width not in (None, 4 * tower.width):
        wide = tower.mlp_width or 4 * tower.width
        raise refused(f"width {tower.width}, {tower.layers} layers, {tower.heads} heads, an MLP of {wide}")
    if tower.pre_norm == tower.patch_bias or tower.norm_eps != (1e-5 if tower.pre_norm else 1e-6):
        said = "a norm" if tower.pre_norm else "no norm"
        bias = "a bias" if tower.patch_bias else "no bias"
        raise refused(f"{said} before the blocks, {bias} on the patches, norms' eps {tower.norm_eps:g}")
    whole = f"{size}_patch{tower.patch}"
    for pre_norm, activation, end, known in _NAMES:
        if (tower.pre_norm, tower.activation) == (pre_norm, activation) and whole in known:
            if end == "_dinov2" and tower.pool == "mean":
                continue
            return f"vit_{whole}{end}"
    raise refused(f"{whole} with {tower.activation}")


def _tensors(params: Mapping[str, Any], tower: ViT, name: str) -> dict[str, np.ndarray]:
    leaves = mae.table("norm" if tower.pool == "cls" else "fc_norm")
    if tower.pre_norm:
        leaves = [leaf for leaf in leaves if leaf.path != "image/patch_embedding/bias"]
        leaves += norm("image/pre_norm", "norm_pre")
    if name.endswith("_dinov2"):
        params = dinov2.with_unit_scales(params)
        leaves += [Leaf(f"image/blocks/scale{number}", (f"blocks.{{}}.ls{number}.gamma",)) for number in (1, 2)]
    leaves.append(Leaf("image/projection/kernel", ("head.weight",), LINEAR))
    return to_theirs(leaves, params) | {"head.bias": np.zeros(tower.embed_dim, np.float32)}
