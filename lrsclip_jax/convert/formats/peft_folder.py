"""A folder of PEFT: the LoRA of an adapted run, and the projections that trained with it, apart from their base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from lrsclip_jax.adapters import base as bases
from lrsclip_jax.adapters import peft
from lrsclip_jax.convert.formats import transformers_folder
from lrsclip_jax.convert.formats.output_files import counts, new_output, write_json, write_safetensors
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import adapt_rules, adaptation, zoo
from lrsclip_jax.models.adapt_rules import Lora
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch.contract import ReadCheckpoint
from lrsclip_jax.pytorch.layout import to_theirs


def write(found: ReadCheckpoint, out: Path, source: str) -> list[str]:
    """Writes the folder `out`, and returns what to tell of it.

    Args:
      found: what `source` holds, an adapted run's checkpoint.
      out: the folder, new or empty.
      source: for messages.

    Raises:
      InputError: no adapted run; adapters that are no LoRA; further parameters that trained; a model that transformers
        does not have.
    """
    model = zoo.create("custom", image=found.image, text=found.text)
    adapt = {"image": model.image.adapt, "text": model.text.adapt}
    if found.base is None:
        raise InputError(f"--format=peft: {source} holds no adapters apart from their base; try --format=hf")
    for tower, parts in adapt.items():
        if words := adaptation.unmergeable(parts):
            raise InputError(f"--format=peft: the {tower} tower of {source} has {words}, and this format LoRA alone")
    if model.image.bands:
        raise InputError(f"--format=peft: {source} reads bands {', '.join(model.image.bands)}, a CLIPModel RGB")
    if not transformers_folder.is_clip_model(model):
        raise InputError(f"--format=peft: {source} is no CLIPModel, by whose names LoRA is written; try --format=hf")
    leaves = peft.leaves(adapt)
    trains = re.compile(adapt_rules.trained(found.base["adapt_with"]))
    paths = [path_of(path) for path, _ in jax.tree.leaves_with_path(found.params)]
    others = [path for path in paths if trains.fullmatch(path) and path not in {leaf.path for leaf in leaves}]
    if others := [path for path in others if not path.startswith("logit_")]:
        raise InputError(f"--format=peft: {others[0]} trained, too, and PEFT's files hold LoRA and projections alone")
    tensors = to_theirs(leaves, found.params)
    modules = peft.modules()
    methods = {
        modules[f"{tower}/blocks/{place}"].format(layer): method
        for tower, parts in adapt.items()
        for place, method in parts
        for layer in range(getattr(model, tower).layers)
    }
    with new_output(out) as partial:
        partial.mkdir()
        write_json(partial / peft.CONFIG, _config(methods, found.base.get("init")))
        write_safetensors(partial / peft.WEIGHTS, tensors, {peft.SHA256: bases.sha256(found.params, peft.SAVED_WHOLE)})
    positions = f"{model.text.context_length} positions, images of {model.image.size} pixels"
    return [
        f"{out}: PEFT's LoRA of {len(methods)} modules and both projections, {counts(tensors)}",
        f"it belongs to {bases.sources(found.base)} with {positions}",
        f"left out: logit_scale, {float(found.params['logit_scale']):.6g}, for PEFT saves modules alone",
    ]


def _config(methods: Mapping[str, Any], base: str | None) -> dict[str, Any]:
    """The settings of modules by name; the first one's are those of all that no pattern names."""
    first: Lora = next(iter(methods.values()))
    return {
        "peft_type": "LORA",
        "auto_mapping": None,
        "base_model_name_or_path": base.removeprefix("hf:").split("@")[0] if base else None,
        "bias": "none",
        "inference_mode": True,
        "r": first.rank,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout,
        "rank_pattern": {name: lora.rank for name, lora in methods.items() if lora.rank != first.rank},
        "alpha_pattern": {name: lora.alpha for name, lora in methods.items() if lora.alpha != first.alpha},
        "target_modules": list(methods),
        "modules_to_save": list(peft.PROJECTIONS.values()),
        "task_type": None,
    }
