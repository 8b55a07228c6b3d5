"""The parameters of a model out of those of a source: what must be equal, and what is made to fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from lrsclip_jax.data.bands import RGB, band, find
from lrsclip_jax.data.preprocessing import check_side
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.models.positions import resize_positions, stretch_positions
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch.contract import ReadCheckpoint

# The fields that pretrained weights determine. The rest is a matter of choice (a position table is resized, a pooling
# or projection trained).
_IMAGE_FIELDS = (
    *("kind", "stages"),
    *("patch", "width", "layers", "heads", "mlp_width", "patch_bias", "pre_norm", "norm_eps", "activation"),
    *("registers", "rotary_base", "gated"),
)
_TEXT_FIELDS = (
    *("kind", "vocab_size", "width", "layers", "heads", "mlp_width", "norm_eps", "activation", "end_token"),
    "pad_token",
)


def check_whole(found: ReadCheckpoint, source: str) -> None:
    """Raises InputError unless `found`, in `source`, has two towers that meet in one space."""
    missing = []
    for tower, article in (("image", "an"), ("text", "a")):
        if getattr(found, tower) is None:
            missing.append(f"{article} {tower} tower")
        elif projected_width(found, tower) is None:
            missing.append(f"the {tower} tower's projection")
    if not missing and "logit_scale" not in found.params:
        missing = ["the temperature (logit_scale)"]
    if missing:
        raise InputError(
            f"{source} ({found.family}) lacks {' and '.join(missing)}: `lrsclip convert import "
            "--image=… --text=… --workdir=DIR` joins two towers, and training fits them to each other"
        )


def projected_width(found: ReadCheckpoint, tower: str) -> int | None:
    """Returns the dimensions of the space in which a source's tower ends; None for one pretrained alone."""
    fields, params = getattr(found, tower), found.params[tower]
    if "projection" in params:
        return params["projection"]["kernel"].shape[1]
    return fields["width"] if fields.get("pool") == "map" else None  # SigLIP's head needs no projection


def of_size(found: ReadCheckpoint, size: int) -> ReadCheckpoint:
    """Returns what a source holds for images of `size` pixels a side; its table of image positions is resized.

    Raises InputError unless `size` is a side that a tower may see, and a multiple of the image tower's patch.
    """
    if found.image is None or found.preprocessing is None:
        return found
    check_side(size, "--size")
    patch = zoo.tower("image", found.image).patch
    if size % patch:
        raise InputError(f"--size={size} is no multiple of the image tower's patch, {patch}")
    image = dict(found.params["image"])
    if "position_embedding" in image:
        image["position_embedding"] = _resized(image["position_embedding"], size // patch, found.antialias)
    return dataclasses.replace(
        found,
        params=found.params | {"image": image},
        image=found.image | {"size": size},
        preprocessing=found.preprocessing.at(size),
    )


def fitted(model: CLIP, found: ReadCheckpoint, source: str, new_bands: str = "zero") -> dict[str, Any]:
    """Returns the parameters of `model` out of a source that has both towers; its position tables are made to fit.

    A model with a bias of the logits starts from its own where the source has none. `new_bands` is as in
    `fitted_tower`.

    Raises:
      InputError: the source is of another model, or lacks a part of this one.
    """
    check_whole(found, source)
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    towers = {tower: fitted_tower(model, tower, found, source, shapes[tower], new_bands) for tower in ("image", "text")}
    bias = {} if model.logit_bias is None else {"logit_bias": found.params.get("logit_bias", model.logit_bias)}
    return (
        towers
        | {name: np.float32(value) for name, value in bias.items()}
        | {"logit_scale": np.float32(found.params["logit_scale"])}
    )


def fitted_tower(
    model: CLIP, tower: str, found: ReadCheckpoint, source: str, params: Any, new_bands: str = "zero"
) -> Any:
    """Returns the parameters of one tower of `model`, "image" or "text", out of a source.

    Args:
      model: to be given parameters.
      tower: which of its towers.
      found: in `source`.
      source: for messages.
      params: of the tower, or their shapes. Where the source has no projection, the one here is taken.
      new_bands: how the patch embedding of a band starts that the source's does not know: "zero", or "mean" of those
        that it does.
    """
    values = found.params.get(tower)
    if values is None:
        raise InputError(f"{source} ({found.family}) has no {tower} tower")
    _check_fields(model, tower, found, source)
    values = {path_of(path): np.asarray(value, np.float32) for path, value in jax.tree.leaves_with_path(values)}
    if tower == "image":
        check_side(model.image.size, source)
        side = model.image.size // model.image.patch
        if "position_embedding" in values:  # rotary ones are of any size
            values["position_embedding"] = _resized(values["position_embedding"], side, found.antialias)
        theirs = tuple((found.image or {}).get("bands", ()))
        kernel = "stem/conv1/kernel" if isinstance(model.image, ResNet) else "patch_embedding/kernel"
        values[kernel] = _by_bands(values[kernel], theirs, model.image.bands, new_bands, source)
    else:
        values["position_embedding"] = _of_length(values["position_embedding"], model.text, source)
        if getattr(model.text, "pool", None) == "cls":
            values = {name: value for name, value in values.items() if not name.startswith("pooler/")}

    def fit(path: tuple, param: Any) -> Any:
        name = path_of(path)
        if name not in values:
            if name.startswith("projection/") and not isinstance(param, jax.ShapeDtypeStruct):
                return param
            advice = "; --config.model.text.pool=cls needs none" if name.startswith("pooler/") else ""
            raise InputError(f"{source} ({found.family}) has no {tower}/{name}{advice}")
        value = values.pop(name)
        if value.shape != param.shape:
            raise InputError(
                f"{source}: {tower}/{name} is {list(value.shape)}, the model's {list(param.shape)}; another model.name?"
            )
        return value

    params = jax.tree.map_with_path(fit, params)
    if values:
        raise InputError(f"{source} ({found.family}) contains {tower}/{min(values)}, which this model does not have")
    return params


def _resized(table: np.ndarray, side: int, antialias: bool) -> np.ndarray:
    # With a class token's row or without: no two squares are neighbours.
    table = np.asarray(table)
    return table if len(table) - side * side in (0, 1) else resize_positions(table, side, antialias)


def _by_bands(kernel: np.ndarray, theirs: tuple[str, ...], ours: tuple[str, ...], new: str, source: str) -> np.ndarray:
    """A kernel [side, side, C, width] of the bands `theirs` as one of `ours`; () are red, green and blue."""
    if theirs == ours:
        return kernel
    if not ours:
        raise InputError(f"{source} reads bands {', '.join(theirs)}: set model.image.bands, by default it is RGB")
    places = find(ours, [band(name) for name in theirs or RGB])
    if all(place is None for place in places):
        raise InputError(
            f"{source} has weights of {', '.join(theirs or RGB)}, and none of model.image.bands={ours} is one of them: "
            "name bands as B04, red or 665nm, or set model.init='random'"
        )
    unknown = np.zeros_like(kernel[:, :, 0]) if new == "zero" else kernel.mean(axis=2)
    return np.stack([unknown if place is None else kernel[:, :, place] for place in places], axis=2)


def _of_length(table: np.ndarray, text: Any, source: str) -> np.ndarray:
    length, positions = text.context_length, getattr(text, "positions", "")
    if positions == "stretched" and len(table) != length:
        table = table[:77]
    if isinstance(text, SiglipText) and len(table) > length:
        raise InputError(
            f"{source}: model.text.context_length={length} is less than the {len(table)} positions of its text tower, "
            "which pools the last one: a SigLIP's can be stretched, not cut"
        )
    if positions == "native" or len(table) >= length:
        return table[:length]
    try:
        if isinstance(text, SiglipText):  # the last row stays the last: there texts are pooled
            return np.concatenate([stretch_positions(table[:-1], text.keep, text.ratio, length - 1), table[-1:]])
        return stretch_positions(table, text.keep, text.ratio, length)
    except InputError as error:
        raise InputError(f"{source}: {error} (model.text.keep={text.keep}, model.text.ratio={text.ratio})") from None


def _check_fields(model: CLIP, tower: str, found: ReadCheckpoint, source: str) -> None:
    unsaid = {"kind": "vit"} if tower == "image" else {}
    theirs = unsaid | getattr(found, tower)
    known = _IMAGE_FIELDS if tower == "image" else _TEXT_FIELDS
    ours = {field: getattr(getattr(model, tower), field, None) for field in known} | unsaid
    ours |= dict(zip(("image", "text"), zoo.fields(model), strict=True))[tower]
    other = [field for field in known if theirs.get(field, ours.get(field)) != ours.get(field)]
    if other:
        other = ["kind"] if "kind" in other else other
        said = ", ".join(f"{field} {theirs[field]}" + _because(found, f"{tower}.{field}") for field in other)
        keys = " ".join(f"--config.model.{tower}.{field}={theirs[field]}" for field in other)
        wanted = ", ".join(f"{ours.get(field)}" for field in other)
        raise InputError(
            f"{source} ({found.family}): its {tower} tower has {said}, the model {wanted}; "
            f"another model.name, or {keys}"
        )


def _because(found: ReadCheckpoint, field: str) -> str:
    return f" ({found.reasons[field]})" if field in found.reasons else ""
