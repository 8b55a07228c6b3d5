"""Checkpoints with OpenAI's key names: OpenAI's CLIP, open_clip and what was tuned from them, Long-CLIP and LRSCLIP."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import known_models, open_clip_config, resnet, strangers, tower_fields
from lrsclip_jax.pytorch.families.tower_fields import FIRST_ROWS, first_positions, image_sizes, text_sizes, two_tables
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import CONVOLUTION, OUT, QKV, QKV_BIAS, Leaf

CONFIG = "open_clip_config.json"
OPENAI_CLIP, OPEN_CLIP, LONG_CLIP = "OpenAI CLIP", "open_clip", "Long-CLIP"

_FIRST_TABLE, _SECOND_TABLE = "positional_embedding", "positional_embedding_res"

BIAS = "logit_bias"  # of the sigmoid loss, which open_clip's code has for any model

# Numbers that OpenAI keeps as tensors in its archives, and buffers that older code saved.
_NUMBERS = ("input_resolution", "context_length", "vocab_size")
_BUFFERS = (*_NUMBERS, "attn_mask", "position_ids", "num_batches_tracked")

# Not visible in tensors; only open_clip's config can change them: torch's default of LayerNorm, OpenAI's architecture.
_IMAGE = {"patch_bias": False, "pre_norm": True, "norm_eps": 1e-5, "pool": "cls"}
_TEXT = {"norm_eps": 1e-5}


class Prefixes(NamedTuple):
    """Prefixes of the keys of the image tower and of the text tower."""

    image: str
    text: str


OPENAI = Prefixes("visual.", "")
_PREFIXES = (
    Prefixes("image_backbone.", "text_backbone."),  # ITRA, which trained RemoteCLIP and GeoRSCLIP
    Prefixes("visual.", "text."),  # open_clip's CustomTextCLIP
)
_KEYS = re.compile(
    r"(visual|image_backbone)\.(conv1\.|class_embedding|positional_embedding|ln_p|transformer\.|proj$)"
    r"|(text\.|text_backbone\.)?(transformer\.resblocks\.|token_embedding\.|ln_final\.)"
)


def table(model: CLIP, prefixes: Prefixes = OPENAI, positions: str = _FIRST_TABLE) -> list[Leaf]:
    """Returns where the parameters of a model stand under OpenAI's key names.

    Args:
      model: its text tower is a `TextTransformer`, its image tower a `ResNet`, or a `ViT` without patch bias.
      prefixes: of each tower's keys.
      positions: the key of the text tower's position table.
    """
    image, text = prefixes
    tower = model.image
    return [
        *(resnet.table(tower.stages, image) if isinstance(tower, ResNet) else _vit_table(image, tower.pre_norm)),
        Leaf("text/token_embedding", (f"{text}token_embedding.weight",)),
        Leaf("text/position_embedding", (f"{text}{positions}",)),
        *blocks("text/blocks", f"{text}transformer.resblocks.{{}}"),
        *layout.norm("text/final_norm", f"{text}ln_final"),
        Leaf("text/projection/kernel", (f"{text}text_projection",)),
        Leaf("logit_scale", ("logit_scale",)),
    ]


def _vit_table(image: str, pre_norm: bool) -> list[Leaf]:
    return [
        Leaf("image/patch_embedding/kernel", (f"{image}conv1.weight",), CONVOLUTION),
        Leaf("image/class_embedding", (f"{image}class_embedding",)),
        Leaf("image/position_embedding", (f"{image}positional_embedding",)),
        *(layout.norm("image/pre_norm", f"{image}ln_pre") if pre_norm else []),
        *blocks("image/blocks", f"{image}transformer.resblocks.{{}}"),
        *layout.norm("image/post_norm", f"{image}ln_post"),
        Leaf("image/projection/kernel", (f"{image}proj",)),  # x @ proj, as in a Flax kernel
    ]


def blocks(path: str, key: str) -> list[Leaf]:
    """Returns where the parameters of blocks stand in OpenAI's and open_clip's; `key` names one, `{}` its number."""
    return [
        *layout.norm(f"{path}/norm1", f"{key}.ln_1"),
        Leaf(f"{path}/attention/qkv/kernel", (f"{key}.attn.in_proj_weight",), QKV),
        Leaf(f"{path}/attention/qkv/bias", (f"{key}.attn.in_proj_bias",), QKV_BIAS),
        Leaf(f"{path}/attention/out/kernel", (f"{key}.attn.out_proj.weight",), OUT),
        Leaf(f"{path}/attention/out/bias", (f"{key}.attn.out_proj.bias",)),
        *layout.norm(f"{path}/norm2", f"{key}.ln_2"),
        *layout.dense(f"{path}/mlp/fc1", f"{key}.mlp.c_fc"),
        *layout.dense(f"{path}/mlp/fc2", f"{key}.mlp.c_proj"),
    ]


def open_clip_tensors(params: Mapping[str, Any], model: CLIP) -> dict[str, np.ndarray]:
    """Returns parameters as open_clip saves them, float32; the bias of the sigmoid loss, too, if there is one."""
    bias = {BIAS: np.asarray(params[BIAS], np.float32)} if BIAS in params else {}
    return layout.to_theirs(table(model), params) | bias


def longclip_tensors(params: Mapping[str, Any], model: CLIP) -> dict[str, np.ndarray]:
    """Returns parameters as Long-CLIP and LRSCLIP save them, float32: both position tables are that of `params`."""
    tensors = layout.to_theirs(table(model), params)
    return tensors | {_SECOND_TABLE: tensors[_FIRST_TABLE].copy()}


def openai_tensors(params: Mapping[str, Any], model: CLIP) -> dict[str, np.ndarray]:
    """Returns parameters, float32, with the three numbers that OpenAI's archives also hold."""
    numbers = (model.image.size, model.text.context_length, model.text.vocab_size)
    return layout.to_theirs(table(model), params) | {
        name: np.asarray(number) for name, number in zip(_NUMBERS, numbers, strict=True)
    }


def recognises(tensors: Tensors) -> bool:
    """Returns whether the keys are OpenAI's, with any prefixes."""
    return any(_KEYS.match(key) for key in tensors)


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Reads both towers and the logit scale.

    Sizes are those of the tensors. The activation and the numbers of heads, which tensors do not show, are what
    open_clip_config.json says. Without it, OpenAI's and Long-CLIP's own code builds QuickGELU and heads of 64; for
    other files `published` knows the heads of the widths that open_clip has, and the rest is asked for. `hints` must
    not contradict any of these.

    Args:
      tensors: a file that `recognises` accepts.
      config: open_clip_config.json next to it, or None.
      hints: what the user says.
      folder: of the file.

    Raises:
      InputError: missing or unexpected tensors, shapes that do not belong together, another vocabulary than CLIP's, an
        activation or a number of heads that nothing tells, or that two sources tell differently.
    """
    bias = {BIAS: np.float32(_bias(tensors))} if BIAS in tensors else {}
    tensors = tensors.renamed(lambda key: None if key == BIAS else key)
    strangers.refuse(tensors)
    image, text, pixels = open_clip_config.towers(config, str(folder / CONFIG)) if config else ({}, {}, {})
    prefixes = _prefixes(tensors)
    family = _family(tensors, prefixes)
    long = family == LONG_CLIP
    is_resnet = resnet.recognises(tensors, prefixes.image)
    sketch = resnet.sketch(tensors, prefixes.image) if is_resnet else ViT(pre_norm=image.get("pre_norm", True))
    leaves = table(CLIP(sketch, TextTransformer()), prefixes, _SECOND_TABLE if long else _FIRST_TABLE)
    shown = _shown(tensors, leaves, prefixes)
    said_kind = {"kind": image.get("kind", "vit")} if image else {}
    compare(tensors.name, "image", {"kind": shown["image"].get("kind", "vit")}, said_kind)
    for tower, said in (("image", image), ("text", text), ("image", {"size": pixels.get("size")})):
        compare(tensors.name, tower, shown[tower], said)

    activation, reason = _activation(tensors, family, shown, text.get("activation"), hints)
    fields = {"image": ({} if is_resnet else _IMAGE) | image | shown["image"], "text": _TEXT | text | shown["text"]}
    reasons = {"preprocessing": CONFIG if pixels else "CLIP's, as in all of these families"}
    for tower, said, hint in (("image", image, hints.image_heads), ("text", text, hints.text_heads)):
        reasons |= {f"{tower}.{field}": CONFIG for field in said.keys() - shown[tower].keys()}
        width = sketch.feature_width if tower == "image" and is_resnet else shown[tower]["width"]
        heads, reasons[f"{tower}.heads"] = _heads(tensors, family, tower, width, said.get("heads"), hint)
        fields[tower]["heads"] = heads
        if tower == "text" or not is_resnet:  # which has ReLU
            fields[tower]["activation"], reasons[f"{tower}.activation"] = activation, reason

    shapes = layout.shapes(zoo.create("custom", fields["image"], fields["text"]))
    unused = tuple(sorted(key for key in tensors if key.split(".")[-1] in _BUFFERS))
    first = f"{prefixes.text}{_FIRST_TABLE}"
    layout.check(leaves, shapes, tensors, f"a checkpoint of {family}", (first, *unused) if long else unused)
    params = layout.to_ours(leaves, shapes, tensors)
    resnet.check_variances(tensors, leaves)
    if long:
        tables = first, f"{prefixes.text}{_SECOND_TABLE}"
        params["text"]["position_embedding"][:FIRST_ROWS] = first_positions(tensors, *tables)[:FIRST_ROWS]
        reasons["text.position_embedding"] = two_tables(*tables, FIRST_ROWS)
    return ReadCheckpoint(
        family=family,
        params=params | bias,
        image=fields["image"],
        text={"kind": "transformer"} | fields["text"],
        preprocessing=dataclasses.replace(CLIP_PREPROCESSING, **pixels | {"size": fields["image"]["size"]}),
        reasons=reasons,
        unused=unused,
    )


def _bias(tensors: Tensors) -> float:
    if np.prod(tensors.shape(BIAS), dtype=int) != 1 or not np.isfinite(bias := float(tensors[BIAS].item())):
        raise InputError(f"{tensors.name}: {BIAS} of shape {list(tensors.shape(BIAS))} is not one finite number")
    return bias


def _prefixes(tensors: Tensors) -> Prefixes:
    for prefixes in _PREFIXES:
        if any(key.startswith(prefixes.text) for key in tensors):
            return prefixes
    return OPENAI


def _family(tensors: Tensors, prefixes: Prefixes) -> str:
    if f"{prefixes.text}{_SECOND_TABLE}" in tensors:
        return LONG_CLIP
    return OPENAI_CLIP if any(key in tensors for key in _NUMBERS) else OPEN_CLIP


def _shown(tensors: Tensors, leaves: layout.Table, prefixes: Prefixes) -> dict[str, dict[str, Any]]:
    """The fields of each tower that the tensors show."""
    projection = f"{prefixes.text}text_projection"
    if projection not in tensors or len(tensors.shape(projection)) != 2:
        raise InputError(f"{tensors.name} has no {projection} of two dimensions")
    image: dict[str, Any]
    if resnet.recognises(tensors, prefixes.image):
        image = resnet.image_fields(resnet.sketch(tensors, prefixes.image))
    else:
        image = image_sizes(leaves, tensors)
    text = text_sizes(leaves, tensors)
    tokenizer = clip_tokenizer()
    if text["vocab_size"] != tokenizer.vocab_size:
        raise InputError(
            f"{tensors.name}: {prefixes.text}token_embedding.weight has {text['vocab_size']} rows, CLIP's tokenizer "
            f"{tokenizer.vocab_size} ids: a text tower of another tokenizer can't be converted"
        )
    both = {"embed_dim": tensors.shape(projection)[1]}
    # They pool a text at its highest id, which in this vocabulary is end-of-text.
    return {"image": image | both, "text": text | both | {"end_token": tokenizer.end}}


def compare(name: str, tower: str, shown: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Raises InputError where a config says another field of a tower than the tensors of the file `name` show."""
    for field in said:
        if field in shown and said[field] not in (None, shown[field]):
            raise InputError(
                f"{name}: the {tower} tower's {field} is {shown[field]} by its tensors, {said[field]} by {CONFIG}"
            )


def _activation(
    tensors: Tensors, family: str, shown: Mapping[str, Any], said: str | None, hints: Hints
) -> tuple[str, str]:
    """The activation of both towers, and what says it."""
    source = CONFIG
    if said is None and family != OPEN_CLIP:
        said, source = "quick_gelu", f"{family}'s model code"
    image = shown["image"]
    architecture = known_models.Architecture(
        image["width"], image.get("patch", ResNet.patch), shown["text"]["width"], image.get("stages", ())
    )
    if hints.model:
        known = known_models.model(hints.model)
        known_models.check_architecture(hints.model, architecture, tensors.name)
        if said not in (None, known.activation):
            raise InputError(f"{tensors.name}: {source} says {said}, --model={hints.model} {known.activation}")
        said, source = known.activation, f"--model={hints.model}, {known.why}"
    if said is not None:
        return tower_fields.activation(tensors, said, source, hints.activation)
    if hints.activation is None:
        raise InputError(
            f"{tensors.name}: tensors don't show the activation: say --activation=quick_gelu or --activation=gelu, or "
            f"--model=… ({known_models.activations(architecture)})"
        )
    return hints.activation, "--activation"


def _heads(
    tensors: Tensors, family: str, tower: str, width: int, said: int | None, hint: int | None
) -> tuple[int, str]:
    """The number of heads of a tower, and what says it."""
    source = CONFIG
    if said is None and family == OPEN_CLIP:
        said, source = known_models.heads(tower, width), f"open_clip's table of {tower} towers {width} wide"
    elif said is None:
        said, source = width // 64, f"{family}'s model code (width // 64)"
    return tower_fields.heads(tensors, tower, width, said, source, hint)
