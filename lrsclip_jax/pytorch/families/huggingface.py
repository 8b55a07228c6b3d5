"""CLIP as Hugging Face's `CLIPModel`, and Long-CLIP as `LongCLIPModel`: their towers, and the two together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import strangers, tower_fields
from lrsclip_jax.pytorch.families.preprocessor import preprocessing
from lrsclip_jax.pytorch.families.tower_fields import (
    FIRST_ROWS,
    first_positions,
    image_sizes,
    shared_width,
    text_sizes,
    two_tables,
)
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, LINEAR, Leaf

FAMILY = "Hugging Face CLIPModel"
LONG_CLIP = "Hugging Face LongCLIPModel"  # github.com/creative-graphic-design/longclip-transformers

_FIRST_TABLE, _SECOND_TABLE = (f"text_model.embeddings.position_embedding{end}" for end in (".weight", "_res"))

# Older files hold what is only the numbers 0, 1, 2, …
POSITION_IDS = ("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids")


def recognises(tensors: Tensors) -> bool:
    """Whether these are a CLIPModel's tensors, or those of a dual encoder of CLIP's two towers, which are the same."""
    keys = set(with_current_names(tensors))
    return {"vision_model.embeddings.class_embedding", "text_model.embeddings.token_embedding.weight"} <= keys


def with_current_names(tensors: Tensors) -> Tensors:
    """Returns the tensors under the names of transformers 5: in dual encoders, CLIP's towers had their prefix twice."""
    return tensors.renamed(lambda key: re.sub(r"^(vision_model|text_model)\.\1\.", r"\1.", key))


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns what a folder of a `CLIPModel` or `LongCLIPModel` holds; of the latter's two tables one is made.

    Heads, activations, eps and the end token are taken from config.json, where a key that is absent has transformers'
    default.

    Args:
      tensors: of a file that `recognises` accepts.
      config: config.json.
      hints: what the user says, which must be the same.
      folder: where the file lies.

    Raises:
      InputError: no config.json or one of another model; missing, unexpected or misshapen tensors; a setting that our
        towers have not; a hint that says otherwise.
    """
    if config is None:
        raise InputError(f"{tensors.name}: a CLIPModel comes with a config.json, which alone says heads and activation")
    if config.get("model_type") not in ("clip", "longclip", "vision-text-dual-encoder"):
        said = config.get("model_type")
        raise InputError(f"{tensors.name}: config.json has model_type {said!r:.80}, a CLIPModel 'clip'")
    tensors = with_current_names(tensors)
    strangers.refuse(tensors.renamed(lambda key: None if key == "logit_bias" else key))  # which is no SigLIP's alone
    long = _SECOND_TABLE in tensors
    text_config = tower_config(tensors, config, "text")
    image, image_reasons = image_fields(tensors, tower_config(tensors, config, "vision"), hints)
    text, text_reasons = text_fields(tensors, text_config, hints)
    embed_dim = {"embed_dim": shared_width(tensors)}
    image, text = image | embed_dim, text | embed_dim
    leaves = table(_SECOND_TABLE if long else _FIRST_TABLE)
    shapes = layout.shapes(zoo.create("custom", image=image, text=text))
    unused = tuple(key for key in POSITION_IDS if key in tensors)
    family, ignored = (LONG_CLIP, (_FIRST_TABLE, *unused)) if long else (FAMILY, unused)
    layout.check(leaves, shapes, tensors, f"a {family.split()[-1]}", ignored)
    params = layout.to_ours(leaves, shapes, tensors)
    if long:
        rows = text_config.get("interpolation_keep_length", FIRST_ROWS)
        params["text"]["position_embedding"][:rows] = first_positions(tensors, _FIRST_TABLE, _SECOND_TABLE)[:rows]
        text_reasons["text.position_embedding"] = two_tables(_FIRST_TABLE, _SECOND_TABLE, rows)
    pixels, reason = preprocessing(folder, image["size"], CLIP_PREPROCESSING)
    return ReadCheckpoint(
        family=family,
        params=params,
        image=image,
        text=text,
        preprocessing=pixels,
        reasons=image_reasons | text_reasons | {"preprocessing": reason},
        unused=unused,
    )


def table(positions: str = _FIRST_TABLE) -> list[Leaf]:
    """Returns where every parameter of a model with CLIP's towers stands in a CLIPModel; see `text_table`."""
    return [*image_table(), *text_table(positions), *shared_table()]


def shared_table() -> list[Leaf]:
    """The projections and the temperature, which every dual encoder has under the same names."""
    return [
        Leaf("image/projection/kernel", ("visual_projection.weight",), LINEAR),
        Leaf("text/projection/kernel", ("text_projection.weight",), LINEAR),
        Leaf("logit_scale", ("logit_scale",)),
    ]


def image_table() -> list[Leaf]:
    """The image tower without its projection."""
    embeddings = "vision_model.embeddings"
    return [
        Leaf("image/patch_embedding/kernel", (f"{embeddings}.patch_embedding.weight",), CONVOLUTION),
        Leaf("image/class_embedding", (f"{embeddings}.class_embedding",)),
        Leaf("image/position_embedding", (f"{embeddings}.position_embedding.weight",)),
        *layout.norm("image/pre_norm", "vision_model.pre_layrnorm"),  # sic
        *blocks("image", "vision_model"),
        *layout.norm("image/post_norm", "vision_model.post_layernorm"),
    ]


def text_table(positions: str = _FIRST_TABLE) -> list[Leaf]:
    """The text tower without its projection; `positions` is the key of its table of positions."""
    return [
        Leaf("text/token_embedding", ("text_model.embeddings.token_embedding.weight",)),
        Leaf("text/position_embedding", (positions,)),
        *blocks("text", "text_model"),
        *layout.norm("text/final_norm", "text_model.final_layer_norm"),
    ]


def blocks(tower: str, prefix: str) -> list[Leaf]:
    """The blocks of a tower, "image" or "text", whose module is `prefix`."""
    ours, theirs = f"{tower}/blocks", f"{prefix}.encoder.layers.{{}}"
    return [
        *layout.norm(f"{ours}/norm1", f"{theirs}.layer_norm1"),
        *layout.attention(
            f"{ours}/attention", [f"{theirs}.self_attn.{part}_proj" for part in "qkv"], f"{theirs}.self_attn.out_proj"
        ),
        *layout.norm(f"{ours}/norm2", f"{theirs}.layer_norm2"),
        *layout.dense(f"{ours}/mlp/fc1", f"{theirs}.mlp.fc1"),
        *layout.dense(f"{ours}/mlp/fc2", f"{theirs}.mlp.fc2"),
    ]


def tower_config(tensors: Tensors, config: dict[str, Any], tower: str) -> dict[str, Any]:
    """Returns the settings of the "vision" or "text" tower; the `_dict` of old files goes first, as in transformers."""
    old, new = config.get(f"{tower}_config_dict"), config.get(f"{tower}_config")
    found = (new if old is None else old) or {}
    if not isinstance(found, dict):
        raise InputError(f"{tensors.name}: config.json has {tower}_config {found!r:.80}, it holds settings by name")
    return tower_fields.checked(tensors, found)


def image_fields(tensors: Tensors, config: dict[str, Any], hints: Hints) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the fields of `models.vit.ViT` but embed_dim, and where they come from.

    Args:
      tensors: with current names.
      config: of the image tower.
      hints: must agree with it.
    """
    sizes = image_sizes(image_table(), tensors)
    told, reasons = _told(tensors, "image", sizes["width"], {"num_attention_heads": 12} | config, hints)
    return sizes | told | {"patch_bias": False, "pre_norm": True, "pool": "cls"}, reasons


def text_fields(tensors: Tensors, config: dict[str, Any], hints: Hints) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the fields of `models.text.TextTransformer` but embed_dim, "kind", and where they come from.

    Arguments as of `image_fields`. Raises InputError for another vocabulary than CLIP's, too.
    """
    sizes = text_sizes(text_table(), tensors)
    tokenizer = clip_tokenizer()
    if sizes["vocab_size"] != tokenizer.vocab_size:
        raise InputError(
            f"{tensors.name}: a vocabulary of {sizes['vocab_size']} tokens, "
            f"supported is CLIP's of {tokenizer.vocab_size}"
        )
    end = config.get("eos_token_id", tokenizer.end)
    if type(end) is not int or not 0 <= end < tokenizer.vocab_size:
        raise InputError(f"{tensors.name}: config.json has eos_token_id {end!r:.80}, it is the number of one token")
    # Configs had a 2 there by mistake; it makes transformers pool at the highest id of a text, which is CLIP's end.
    end_token = tokenizer.end if end == 2 else end
    told, reasons = _told(tensors, "text", sizes["width"], {"num_attention_heads": 8} | config, hints)
    fields = {"kind": "transformer"} | sizes | told | {"end_token": end_token}
    return fields, reasons | {"text.end_token": tower_fields.CONFIG}


def _told(
    tensors: Tensors, tower: str, width: int, config: dict[str, Any], hints: Hints
) -> tuple[dict[str, Any], dict[str, str]]:
    hint = {"image": hints.image_heads, "text": hints.text_heads}[tower]
    heads, _ = tower_fields.heads(tensors, tower, width, config["num_attention_heads"], tower_fields.CONFIG, hint)
    said = config.get("hidden_act", "quick_gelu")
    activation, _ = tower_fields.activation(tensors, said, tower_fields.CONFIG, hints.activation)
    fields = {"heads": heads, "activation": activation, "norm_eps": config.get("layer_norm_eps", 1e-5)}
    return fields, {f"{tower}.{field}": tower_fields.CONFIG for field in fields}
