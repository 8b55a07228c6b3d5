"""The fields of the towers' classes, which `model.image` and `model.text` take as keys.

They are repeated here, because the classes need JAX, which takes seconds to import. A test holds them equal.
"""

from __future__ import annotations

from lrsclip_jax.config.allowed import (
    BANDS,
    BANDS_READ,
    DEPTH,
    DTYPES,
    KEEP,
    MIN_PATCHES,
    RATIO,
    RATIOS,
    REMAT,
    RESOLUTION,
    RESOLUTION_READ,
    ROWS,
    SIDE,
    TOKEN_COUNT,
    TOKENS,
    WIDTH,
)
from lrsclip_jax.config.values import Flag, Key, Many, Number, OrNone, Whole, choice

_COMPUTED = (
    Key("layers", 12, Whole(1, DEPTH), "blocks of the tower"),
    Key("mlp_width", None, OrNone(Whole(1, 4 * WIDTH)), "hidden units of a block's MLP; None: four times the width"),
    Key("remat", "dense", REMAT, "what the blocks store for the backward pass"),
    Key(
        "attention",
        "auto",
        choice("auto", "xla", "cudnn", "splash", "triton", "rows"),
        "which implementation computes attention; auto: the fastest on this device, timed when it is first met",
    ),
    Key("unroll", 1, Whole(1, DEPTH), "blocks in one round of their loop"),
    Key(
        "products", "float", choice("float", "int8"), "arithmetic of dense layers: the tower's dtype, or 8-bit integers"
    ),
    Key("dtype", "float32", choice(*DTYPES), "of this tower's arithmetic, in place of model.dtype"),
)
_ACTIVATIONS = choice("quick_gelu", "gelu", "silu", "gelu_tanh")
_EPS = Number(1e-12, 1.0)


def _shape(width: int, heads: int, embed_dim: int = 512) -> tuple[Key, ...]:
    return (
        Key("width", width, Whole(1, WIDTH), "width of a token; a multiple of heads"),
        Key("heads", heads, Whole(1, WIDTH), "heads of attention"),
        Key("embed_dim", embed_dim, Whole(1, WIDTH), "width of the embedding, the same for both towers"),
    )


def _texts(vocab_size: int, context_length: int) -> tuple[Key, ...]:
    return (
        Key("vocab_size", vocab_size, Whole(1, ROWS), "rows of the token table"),
        Key("context_length", context_length, TOKEN_COUNT, "rows of the position table"),
        Key("frozen_positions", 0, Whole(0, TOKENS), "first rows of the position table that are not trained"),
        Key("keep", 20, Whole(0, TOKENS), KEEP),
        Key("ratio", None, RATIOS, RATIO),
    )


def _fields(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


_SEEN = (
    Key("resolution", "fixed", RESOLUTION, RESOLUTION_READ),
    Key("min_patches", None, OrNone(Whole(1, ROWS)), MIN_PATCHES),
    Key("bands", (), BANDS, BANDS_READ),
)


# Fields of the towers' classes with their defaults; an entry of the zoo and the config go before these.
_VIT = _fields(
    Key("size", 224, Whole(1, SIDE), "side of the images in pixels; a multiple of patch"),
    Key("patch", 32, Whole(1, SIDE), "side of a patch in pixels"),
    *_shape(768, 12),
    *_COMPUTED,
    Key("patch_bias", False, Flag(), "whether the patch embedding has a bias"),
    Key("pre_norm", True, Flag(), "whether a norm precedes the blocks"),
    Key("norm_eps", 1e-5, _EPS, "epsilon of the norms"),
    Key("activation", "quick_gelu", _ACTIVATIONS, "activation of the MLPs"),
    Key(
        "pool",
        "cls",
        choice("cls", "mean", "map"),
        "an image's token: the class token, the mean of the patches, or what SigLIP's head makes of them (map)",
    ),
    Key("registers", 0, Whole(0, 1024), "tokens behind the class token that no patch has"),
    Key(
        "rotary_base", None, OrNone(Number(1.0, 1e9)), "longest period of rotary positions; None: a table of positions"
    ),
    Key("gated", False, Flag(), "whether the MLPs have a gate"),
    Key("token_multiple", 1, Whole(1, 1024), "tokens are padded to a multiple of it"),
    Key("patch_dropout", 0.0, Number(0.0, 1.0, below=True), "share of the patches that training leaves out"),
    *_SEEN,
)
_RESNET = _fields(
    Key("size", 224, Whole(1, SIDE), "side of the images in pixels; a multiple of 32"),
    Key(
        "stages",
        (3, 4, 6, 3),
        Many(Whole(1, DEPTH), "four numbers", "(3, 4, 6, 3)"),
        "of a ResNet (kind='resnet'): bottlenecks in each of its stages",
    ),
    *_shape(64, 32, 1024),
    *(key for key in _COMPUTED if key.name in ("remat", "dtype")),
    *_SEEN,
)
IMAGE_FIELDS = {"vit": _VIT, "resnet": _RESNET}
TEXT_FIELDS = {
    "transformer": _fields(
        *_texts(49408, 77),
        *_shape(512, 8),
        *_COMPUTED,
        Key("norm_eps", 1e-5, _EPS, "epsilon of the norms"),
        Key("activation", "quick_gelu", _ACTIVATIONS, "activation of the MLPs"),
        Key("end_token", 49407, Whole(0, ROWS), "the id that ends a text, where it is pooled"),
    ),
    "bert": _fields(
        *_texts(30522, 248),
        *_shape(768, 12),
        *_COMPUTED,
        Key("norm_eps", 1e-12, _EPS, "epsilon of the norms"),
        Key("activation", "gelu", _ACTIVATIONS, "activation of the MLPs"),
        Key("pool", "pooler", choice("pooler", "cls"), "a text's token: through BERT's pooler, or itself"),
        Key("positions", "native", choice("native", "stretched"), "which rows pretrained weights bring"),
        Key("pad_token", 0, Whole(0, ROWS), "the id that follows a text"),
    ),
    "siglip": _fields(
        *_texts(32000, 64),
        *_shape(768, 12, 768),
        *_COMPUTED,
        Key("norm_eps", 1e-6, _EPS, "epsilon of the norms"),
        Key("activation", "gelu_tanh", _ACTIVATIONS, "activation of the MLPs"),
        Key("pad_token", 1, Whole(0, ROWS), "the id that follows a text, up to the context length"),
    ),
}
IMAGE_KIND = Key("kind", "vit", choice(*IMAGE_FIELDS), "class of the image tower: a ViT, or CLIP's ResNet")
KIND = Key("kind", "transformer", choice(*TEXT_FIELDS), "class of the text tower: CLIP's, BERT, or SigLIP's")


def tower_keys() -> dict[str, Key]:
    """Returns the fields of the towers of all kinds by their full keys."""
    kinds = {"model.image": (IMAGE_FIELDS, IMAGE_KIND), "model.text": (TEXT_FIELDS, KIND)}
    towers = {
        tower: {name: key for fields in reversed(by_kind.values()) for name, key in fields.items()} | {"kind": kind}
        for tower, (by_kind, kind) in kinds.items()
    }
    return {f"{tower}.{name}": key for tower, fields in towers.items() for name, key in fields.items()}
