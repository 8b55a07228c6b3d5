"""LoRA in PEFT's files, adapter_config.json and adapter_model.safetensors, by the names of transformers' CLIPModel."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from safetensors import safe_open

from eval.reading import read_json
from lrsclip_jax.adapters import base as bases
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.adapt_rules import DENSE, TOWERS, Adapt, Lora
from lrsclip_jax.pytorch.contract import ReadCheckpoint
from lrsclip_jax.pytorch.families import huggingface
from lrsclip_jax.pytorch.files.tensors import Tensors, open_tensors
from lrsclip_jax.pytorch.layout import LINEAR, Leaf, is_finite

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ROOT = "base_model.model."  # before the names of all modules
SHA256 = "base_sha256"  # in the metadata of the weights that lrsclip_jax writes
PROJECTIONS = {"image/projection/kernel": "visual_projection", "text/projection/kernel": "text_projection"}
SAVED_WHOLE = ("(image|text)/projection/kernel", "logit_.*")  # what trains with LoRA in a model with these files

_QKV = {"attention/query": 0, "attention/key": 1, "attention/value": 2}
_UNKNOWN = {  # settings that change what LoRA computes, and their values that do not
    "use_dora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "use_bdlora": (False, None),
    "use_qalora": (False, None),
}


class _Config(TypedDict):
    peft_type: str
    r: int
    lora_alpha: float
    base_model_name_or_path: NotRequired[str | None]
    revision: NotRequired[str | None]
    alpha_pattern: NotRequired[dict[str, float] | None]
    use_rslora: NotRequired[bool | None]


def modules() -> dict[str, str]:
    """Returns the module of a CLIPModel at every place of LoRA, {"image/blocks/mlp/fc1": …}; `{}` is the layer."""
    keys = {leaf.path: leaf.keys for leaf in huggingface.table()}
    found = {}
    for tower in TOWERS:
        for place in DENSE:
            layer = "attention/qkv" if place in _QKV else place
            key = keys[f"{tower}/blocks/{layer}/kernel"][_QKV.get(place, 0)]
            found[f"{tower}/blocks/{place}"] = key.removesuffix(".weight")
    return found


def leaves(adapt: Mapping[str, Adapt]) -> list[Leaf]:
    """Returns where the LoRA of both towers and the projections stand in PEFT's file."""
    names = modules()
    found = [Leaf(path, (f"{ROOT}{name}.weight",), LINEAR) for path, name in PROJECTIONS.items()]
    for tower, parts in adapt.items():
        for place, _ in parts:
            path = f"{tower}/blocks/{place}"
            found += [
                Leaf(f"{path}/lora_{part.lower()}", (f"{ROOT}{names[path]}.lora_{part}.weight",), LINEAR)
                for part in "AB"
            ]
    return found


def read(folder: Path, read_base: Callable[[str], ReadCheckpoint], named: str | None) -> ReadCheckpoint:
    """Returns the model of a folder of PEFT: its base with LoRA apart from the kernels.

    Scales alpha/rank are made part of B, and ranks that differ by layer are filled up with zeros.

    Args:
      folder: with adapter_config.json and adapter_model.safetensors.
      read_base: reads a source of weights.
      named: the base as the user names it; None: the repository of the Hugging Face Hub that the folder names.

    Raises:
      InputError: a damaged folder, another method than LoRA, the adapter of another base.
    """
    config = _config(folder / CONFIG)
    found = read_base(named or _base(config, folder))
    if found.image is None or found.text is None or found.text["kind"] == "bert" or not found.image.get("pre_norm"):
        raise InputError(f"{folder}: its base is no CLIP, and LoRA is read by the names of a CLIPModel")
    if found.image.get("adapt") or found.text.get("adapt"):
        raise InputError(f"{folder}: its base has adapters of its own")
    tensors = open_tensors(folder / WEIGHTS)
    _check_hash(folder / WEIGHTS, found)
    places = {name: path for path, name in modules().items()}
    params: dict[str, Any] = {"image": {}, "text": {}}
    adapt: dict[str, list[tuple[str, Lora]]] = {"image": [], "text": []}
    layers = {tower: getattr(found, tower)["layers"] for tower in TOWERS}
    pairs = _pairs(tensors, places, layers)
    for path, by_layer in sorted(pairs.items()):
        tower, place = path.split("/blocks/")
        rank = max(len(a) for a, _, _ in by_layer.values())
        into, out = _sizes(found.params[tower]["blocks"], place)
        lora_a = np.zeros((layers[tower], into, rank), np.float32)
        lora_b = np.zeros((layers[tower], rank, out), np.float32)
        for layer, (a, b, module) in by_layer.items():
            if a.shape != (len(a), into) or b.shape != (out, len(a)):
                raise InputError(
                    f"{tensors.name}: {module} has LoRA for a matrix {a.shape[-1]} × {b.shape[0]}, "
                    f"the base's is {into} × {out}: an adapter of another base"
                )
            scale = _alpha(config, module) / (math.sqrt(len(a)) if config.get("use_rslora") else len(a))
            lora_a[layer, :, : len(a)], lora_b[layer, : len(a)] = a.T, scale * b.T
        part, name = place.split("/")
        params[tower].setdefault("blocks", {}).setdefault(part, {})[name] = {"lora_a": lora_a, "lora_b": lora_b}
        adapt[tower].append((place, Lora(rank, float(rank))))
    for path, name in PROJECTIONS.items():
        if (key := f"{ROOT}{name}.weight") in tensors:
            tower, kernel = path.split("/")[0], _finite(tensors, key).T
            if kernel.shape != found.params[tower]["projection"]["kernel"].shape:
                raise InputError(f"{tensors.name}: {name} is {list(kernel.shape)}: an adapter of another base")
            params[tower]["projection"] = {"kernel": kernel}
    return replace(
        found,
        family=f"PEFT's LoRA on {found.family}",
        params=bases.joined(found.params, params),
        image=found.image | {"adapt": tuple(adapt["image"])},
        text=found.text | {"adapt": tuple(adapt["text"])},
    )


def _config(file: Path) -> _Config:
    everything: dict[str, Any] = read_json(file, dict[str, Any])
    if everything.get("peft_type") != "LORA":
        raise InputError(f"{file}: peft_type is {everything.get('peft_type')!r:.40}, only LORA is read")
    for setting, plain in _UNKNOWN.items():
        if (value := everything.get(setting)) not in plain:
            raise InputError(f"{file}: {setting} is {value!r:.40}: this LoRA computes something else")
    return read_json(file, _Config)


def _base(config: _Config, folder: Path) -> str:
    name, revision = config.get("base_model_name_or_path") or "", config.get("revision")
    # A path in a file of others is not followed.
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InputError(f"{folder / CONFIG} names its base {name!r:.80}, no model of the Hub: name it with --base=SRC")
    return f"hf:{name}" + (f"@{revision}" if revision else "")


def _check_hash(file: Path, found: ReadCheckpoint) -> None:
    with safe_open(file, "np") as opened:
        wanted = (opened.metadata() or {}).get(SHA256)
    if wanted and wanted != (has := bases.sha256(found.params, SAVED_WHOLE)):
        raise InputError(f"{file} is an adapter of another base: its sha256 is {wanted[:12]}…, here it is {has[:12]}…")


_Pair = tuple[np.ndarray, np.ndarray, str]  # A [rank, in], B [out, rank], and their module


def _pairs(tensors: Tensors, places: Mapping[str, str], layers: Mapping[str, int]) -> dict[str, dict[int, _Pair]]:
    """A, B and the module's name of every place by layer."""
    patterns = {re.compile(re.escape(name).replace(r"\{\}", "([0-9]{1,4})")): path for name, path in places.items()}
    whole = {f"{ROOT}{name}.weight" for name in PROJECTIONS.values()}
    found: dict[str, dict[int, _Pair]] = {}
    for key in tensors:
        split = re.fullmatch(rf"{re.escape(ROOT)}(?P<module>.+)\.lora_(?P<part>[AB])(\.default)?\.weight", key)
        if key in whole or (split and split["part"] == "B"):
            continue
        matches = ((pattern.fullmatch(split["module"]), path) for pattern, path in patterns.items()) if split else ()
        match, path = next((pair for pair in matches if pair[0]), (None, ""))
        if not split or not match:
            raise InputError(f"{tensors.name}: {key:.120} is no LoRA of a CLIPModel: an adapter of another base")
        other, layer = key.replace(".lora_A.", ".lora_B."), int(match[1])
        if other not in tensors:
            raise InputError(f"{tensors.name} has {key} without {other}")
        if layer >= layers[path.split("/")[0]]:
            raise InputError(f"{tensors.name}: the base has no layer for {key}: an adapter of another base")
        found.setdefault(path, {})[layer] = _finite(tensors, key), _finite(tensors, other), split["module"]
    return found


def _alpha(config: _Config, module: str) -> float:
    patterns = config.get("alpha_pattern") or {}
    return next((alpha for name, alpha in patterns.items() if f".{module}".endswith(f".{name}")), config["lora_alpha"])


def _finite(tensors: Tensors, key: str) -> np.ndarray:
    value = tensors[key]
    if value.dtype.kind != "f" or value.ndim != 2 or not value.size or not is_finite(value):
        raise InputError(f"{tensors.name}: {key} is no matrix of finite numbers")
    return np.asarray(value, np.float32)


def _sizes(blocks: Mapping[str, Any], place: str) -> tuple[int, int]:
    """Width of the input and of the output of a dense layer."""
    part, name = place.split("/")
    if place in _QKV or name == "out":
        width = blocks["attention"]["out"]["kernel"].shape[-1]
        return width, width
    return tuple(blocks[part][name]["kernel"].shape[1:])
