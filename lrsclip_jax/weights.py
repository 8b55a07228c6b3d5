"""Reads sources of weights, builds their models, and fits them to the model that a run trains."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from eval.reading import convert
from lrsclip_jax.adapters import base, peft
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.bands import RGB, band, find
from lrsclip_jax.data.images import CLIP_PREPROCESSING, Preprocessing, check_side
from lrsclip_jax.data.tokenizer import Tokenizer, tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import adapt_rules, adaptation, zoo
from lrsclip_jax.models.clip import CLIP, init_params, plain
from lrsclip_jax.models.positions import resize_positions, stretch_positions
from lrsclip_jax.models.precision import compute_dtype
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch import read as pytorch
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.files import hub
from lrsclip_jax.pytorch.layout import is_finite
from lrsclip_jax.run import checkpoint

RUN = "lrsclip_jax"  # the family of lrsclip_jax's own runs
_OWN_TOKENIZER = "siglip"  # the kind of text tower whose tokenizer comes with the weights

# The fields that pretrained weights determine. The rest is a matter of choice (a position table is resized, a pooling
# or projection trained).
_IMAGE_FIELDS = (
    *("patch", "width", "layers", "heads", "mlp_width", "patch_bias", "pre_norm", "norm_eps", "activation"),
    *("registers", "rotary_base", "gated"),
)
_TEXT_FIELDS = (
    *("kind", "vocab_size", "width", "layers", "heads", "mlp_width", "norm_eps", "activation", "end_token"),
    "pad_token",
)


def build_model(config: ConfigDict, platform: str | None = None) -> CLIP:
    """Returns the model of a config (its `model`, and what `loss` says of temperature and bias), without parameters.

    It computes in `config.model.dtype`; "auto" depends on `platform`, see `models.precision.compute_dtype`.
    """
    loss = config.loss
    sigmoid = loss.get("name") == "sigmoid"  # absent in the configs of older runs
    adapt = adapt_rules.resolved(config.model.get("adapt", ()))
    return zoo.create(
        config.model.name,
        image=config.model.image.to_dict() | {"adapt": adapt["image"]},
        text=config.model.text.to_dict() | {"adapt": adapt["text"]},
        dtype=compute_dtype(config.model.dtype, platform),
        logit_scale=-math.log(loss.sigmoid_temperature if sigmoid else loss.temperature),
        logit_bias=loss.sigmoid_bias if sigmoid else None,
    )


def read(source: str, hints: Hints | None = None) -> ReadCheckpoint:
    """Returns what a source of weights holds.

    Args:
      source: a run folder (its newest checkpoint), one of its checkpoints, any file or folder that
        `lrsclip_jax.convert` knows, or "hf:owner/name".
      hints: for a source that doesn't tell all of itself.

    Raises:
      InputError: there is none, it is damaged or of an unknown family, or a hint is needed.
    """
    if folder := checkpoint.find(source):
        return _of_run(folder)
    hints, path = hints or Hints(), hub.local(source)
    if (path / peft.CONFIG).is_file():
        return peft.read(path, lambda named: read(named, dataclasses.replace(hints, base=None)), hints.base)
    if hints.base:
        raise InputError(f"--base={hints.base}: {source} is no adapter of PEFT")
    return pytorch.read_at(path, source, hints)


def model_of(found: ReadCheckpoint, dtype: Any = None) -> CLIP:
    """Returns the model of a source that `check_whole` accepts, computing in `dtype` (None: float32)."""
    return zoo.create("custom", image=found.image, text=found.text, dtype=dtype)


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


def tokenizer_of(found: ReadCheckpoint, source: str) -> Tokenizer:
    """Returns the tokenizer of a source that has a text tower; InputError where it should be there and is not."""
    assert found.text is not None
    if found.text["kind"] != _OWN_TOKENIZER:
        return tokenizer_for(found.text["kind"])
    return _checked(found.tokenizer, found.text, source)


def initial_tokenizer(model: CLIP, config: ConfigDict) -> Tokenizer:
    """Returns the tokenizer of the model that a config starts from; no weights are read.

    Raises InputError as `tokenizer_of`, and where a random text tower has none.
    """
    if zoo.text_kind(model) != _OWN_TOKENIZER:
        return tokenizer_for(zoo.text_kind(model))
    source = config.model.text_init or config.model.init
    if source in ("random", None):
        raise InputError(
            f"model.init={source!r}: a SigLIP text tower has the tokenizer of its weights, and there are none: name a "
            "source as model.init or model.text_init"
        )
    if folder := checkpoint.find(source):
        tokenizer = checkpoint.tokenizer_of_run(folder, checkpoint.read_metadata(folder))
    else:
        path = hub.local(source)
        tokenizer = tokenizer_file.in_folder(path if path.is_dir() else path.parent)
    return _checked(tokenizer, zoo.fields(model)[1], source)


def _checked(tokenizer: Tokenizer | None, text: Mapping[str, Any], source: str) -> Tokenizer:
    if tokenizer is None:
        raise InputError(
            f"{source} has no {tokenizer_file.FILE}, without which SigLIP's texts have no tokens: take that of the "
            "model's page, or of another copy of the model (a spiece.model alone is not read)"
        )
    tokenizer_file.check_fits(tokenizer, text, f"{source}: {tokenizer_file.FILE}")
    return tokenizer


def of_size(found: ReadCheckpoint, size: int) -> ReadCheckpoint:
    """Returns what a source holds for images of `size` pixels a side; its table of image positions is resized.

    Raises InputError unless `size` is a side that a tower may see, and a multiple of the image tower's patch.
    """
    if found.image is None or found.preprocessing is None:
        return found
    check_side(size, "--size")
    patch = found.image["patch"]
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


def initial_parameters(model: CLIP, config: ConfigDict) -> tuple[Any, Preprocessing]:
    """Returns the parameters of `model` that a config starts from, float32 on the host or a device, and preprocessing.

    `model.init` is "random" or a source of weights (see `read`); `model.image_init` and `model.text_init` give one
    tower alone, whose projection, if the source has none, stays random; with both, `model.init` may be None. A table
    of text positions of other length is stretched (KPS, by `model.text.keep` and `model.text.ratio`) or cut, for BERT
    as `positions` of `models.bert_tower.Bert` says; one of image positions of another grid is resized as its family
    does. Adapters of the model are drawn; where a source has LoRA, that becomes part of its kernels first.

    The patch embedding of `model.image.bands` is made of the source's, band by band (`model.new_bands`). Mean and std
    are () where neither the config nor a source tells those of its bands: the training sets do.

    Raises:
      InputError: an unknown source, or weights of another model.
    """
    if model.image.adapt or model.text.adapt:
        params, preprocessing = initial_parameters(plain(model), config)
        key = jax.random.key(config.seed)
        drawn = jax.jit(lambda: base.adapters(init_params(model, key)))()
        return base.joined(params, drawn), preprocessing

    def draw():
        return init_params(model, jax.random.key(config.seed))

    new_bands = config.model.get("new_bands", "zero")  # absent in the configs of older runs

    if config.model.init in ("random", None):
        params, preprocessing = jax.jit(draw)(), CLIP_PREPROCESSING
    else:
        found = _read_for(model, config.model.init, "image", "text")
        params = fitted(model, found, config.model.init, new_bands)
        preprocessing = found.preprocessing or CLIP_PREPROCESSING
    for tower in ("image", "text"):
        if source := config.model[f"{tower}_init"]:
            found = _read_for(model, source, tower)
            fit = fitted_tower(model, tower, found, source, params[tower], new_bands)
            params = params | {tower: fit}
            preprocessing = (found.preprocessing if tower == "image" else None) or preprocessing
    return params, _of_bands(model, config, preprocessing.at(model.image.size))


def _of_bands(model: CLIP, config: ConfigDict, preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing of a model's bands: the config's, else that of weights for the same bands, else unknown yet."""
    if not model.image.bands:
        return preprocessing
    given, known = config.model.band_mean is not None, preprocessing.bands == model.image.bands
    if known and not given:
        return preprocessing
    mean, std = (tuple(config.model[key] or ()) for key in ("band_mean", "band_std"))
    scale = float(config.model.band_scale)
    return dataclasses.replace(preprocessing, mean=mean, std=std, bands=model.image.bands, scale=scale)


def teacher_parameters(model: CLIP, config: ConfigDict, start: Any, preprocessing: Preprocessing) -> Any:
    """Returns the parameters of the teacher of `loss.preserve`: those of `loss.preserve_teacher`, or `start`.

    They have the tree of `start`, adapters included, which the step leaves out. Raises InputError as `fitted`, and
    where the teacher would see other pixels than the model.
    """
    if (source := config.loss.preserve_teacher) is None:
        return start
    found = merged(read(source), source)
    check_pixels(source, found.preprocessing, "the run", preprocessing)
    return base.joined(fitted(plain(model), found, source, config.model.new_bands), base.adapters(start))


def check_pixels(source: str, seen: Preprocessing | None, other: str, wanted: Preprocessing) -> None:
    """Raises InputError where a source normalises pixels by another mean or standard deviation than `other` does."""
    if seen and seen.bands != wanted.bands:
        raise InputError(
            f"{source} reads {_bands_of(seen)}, {other} {_bands_of(wanted)}: they can't see the same images"
        )
    if seen and any(not np.allclose(getattr(seen, name), getattr(wanted, name)) for name in ("mean", "std", "scale")):
        raise InputError(
            f"{source} normalises pixels by mean {seen.mean} and std {seen.std}, {other} by mean {wanted.mean} and "
            f"std {wanted.std}: they can't see the same images"
        )


def _bands_of(seen: Preprocessing) -> str:
    return f"bands {', '.join(seen.bands)}" if seen.bands else "RGB"


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
        theirs, kernel = tuple((found.image or {}).get("bands", ())), "patch_embedding/kernel"
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
    """A kernel [patch, patch, C, width] of the bands `theirs` as one of `ours`; () are red, green and blue."""
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
    theirs = getattr(found, tower)
    known = _IMAGE_FIELDS if tower == "image" else _TEXT_FIELDS
    ours = {field: getattr(getattr(model, tower), field, None) for field in known}
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


def _read_for(model: CLIP, source: str, *towers: str) -> ReadCheckpoint:
    """Reads a source of these towers of a model, which is a config's, and so says what a file leaves open."""
    try:
        found = read(source)  # what it tells itself goes first: `_check_fields` then says where the model differs
    except InputError:
        activations = {getattr(model, tower).activation for tower in towers}
        activation = activations.pop() if len(activations) == 1 else None
        found = read(source, Hints(None, activation, model.image.heads, model.text.heads))
    return merged(found, source)


def merged(found: ReadCheckpoint, source: str) -> ReadCheckpoint:
    """Returns what a source holds as a plain model: LoRA becomes part of the kernels that it is added to.

    Raises InputError for other adapters, which no kernel can express.
    """
    towers: dict[str, Any] = {"params": dict(found.params)}
    for tower in ("image", "text"):
        fields = getattr(found, tower) or {}
        if not (adapt := fields.get("adapt")):
            continue
        if words := adaptation.unmergeable(adapt):
            raise InputError(
                f"{source} has {words} in its {tower} tower, which no plain model can express: only LoRA merges"
            )
        blocks = adaptation.merged(found.params[tower]["blocks"], adapt)
        towers["params"][tower] = found.params[tower] | {"blocks": blocks}
        towers[tower] = {name: value for name, value in fields.items() if name != "adapt"}
    return dataclasses.replace(found, **towers)


def _of_run(folder: epath.Path) -> ReadCheckpoint:
    about = checkpoint.read_metadata(folder)
    try:
        config = ConfigDict(about["config"])
        model = build_model(config)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: its config is damaged ({error})") from None
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    params = jax.tree.map(np.asarray, checkpoint.load_params(folder, base.trained(about, shapes)))
    if "base" in about:
        params = _with_base(model, config, folder, about, params)
    for path, value in jax.tree.leaves_with_path(params):
        if not is_finite(value):
            raise InputError(f"{folder}: {path_of(path)} holds NaN or infinite numbers: the run diverged before it")
    image, text = zoo.fields(model)
    saved: Preprocessing = convert(about["preprocessing"], f"{folder}: preprocessing", Preprocessing)
    tokenizer = checkpoint.tokenizer_of_run(folder, about)
    of_base = about["base"] | {"adapt_with": tuple(config.model.adapt_with)} if "base" in about else None
    return ReadCheckpoint(RUN, params, image, text, saved, tokenizer, base=of_base)


def _with_base(model: CLIP, config: ConfigDict, folder: epath.Path, about: Any, params: Any) -> Any:
    """The parameters of an adapted run's checkpoint, with those that it left where they were."""
    try:
        start, _ = initial_parameters(plain(model), config)
    except InputError as error:
        raise InputError(f"{folder} holds adapters, and their base can't be read: {error}") from None
    base.check(folder, about, base.described(config, start))
    return base.joined(jax.tree.map(np.asarray, start), params)
