"""Reads sources of weights and builds their models; the weights and the tokenizer that a run starts from."""

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
from lrsclip_jax import fitting
from lrsclip_jax.adapters import base, peft
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer, tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import adapt_rules, adaptation, zoo
from lrsclip_jax.models.clip import CLIP, init_params, plain
from lrsclip_jax.models.precision import compute_dtype
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch import read as pytorch
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.files import hub
from lrsclip_jax.pytorch.layout import is_finite
from lrsclip_jax.run import checkpoint_reader

RUN = "lrsclip_jax"  # the family of lrsclip_jax's own runs
_OWN_TOKENIZER = "siglip"  # the kind of text tower whose tokenizer comes with the weights


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
    if folder := checkpoint_reader.find(source):
        return _of_run(folder)
    hints, path = hints or Hints(), hub.local(source)
    if (path / peft.CONFIG).is_file():
        return peft.read(path, lambda named: read(named, dataclasses.replace(hints, base=None)), hints.base)
    if hints.base:
        raise InputError(f"--base={hints.base}: {source} is no adapter of PEFT")
    return pytorch.read_at(path, source, hints)


def model_of(found: ReadCheckpoint, dtype: Any = None) -> CLIP:
    """Returns the model of a source that `fitting.check_whole` accepts, computing in `dtype` (None: float32)."""
    return zoo.create("custom", image=found.image, text=found.text, dtype=dtype)


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
    if folder := checkpoint_reader.find(source):
        tokenizer = checkpoint_reader.tokenizer_of_run(folder, checkpoint_reader.read_metadata(folder))
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
        params = fitting.fitted(model, found, config.model.init, new_bands)
        preprocessing = found.preprocessing or CLIP_PREPROCESSING
    for tower in ("image", "text"):
        if source := config.model[f"{tower}_init"]:
            found = _read_for(model, source, tower)
            fit = fitting.fitted_tower(model, tower, found, source, params[tower], new_bands)
            params = params | {tower: fit}
            preprocessing = (found.preprocessing if tower == "image" else None) or preprocessing
    return params, _of_bands(model, config, _of_shape(model, preprocessing.at(model.image.size)))


def _of_shape(model: CLIP, preprocessing: Preprocessing) -> Preprocessing:
    """The preprocessing of a model's images: squares, or of any shape."""
    if model.image.resolution == "native":
        return preprocessing.native(model.image.patch, model.image.min_patches)
    return preprocessing.squares()


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
    return base.joined(fitting.fitted(plain(model), found, source, config.model.new_bands), base.adapters(start))


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


def _read_for(model: CLIP, source: str, *towers: str) -> ReadCheckpoint:
    """Reads a source of these towers of a model, which is a config's, and so says what a file leaves open."""
    try:
        found = read(source)  # what it tells itself goes first: `_check_fields` then says where the model differs
    except InputError:
        activation = zoo.activation(*(getattr(model, tower) for tower in towers))
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
    about = checkpoint_reader.read_metadata(folder)
    try:
        config = ConfigDict(about["config"])
        model = build_model(config)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: its config is damaged ({error})") from None
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    params = jax.tree.map(np.asarray, checkpoint_reader.load_params(folder, base.trained(about, shapes)))
    if "base" in about:
        params = _with_base(model, config, folder, about, params)
    for path, value in jax.tree.leaves_with_path(params):
        if not is_finite(value):
            raise InputError(f"{folder}: {path_of(path)} holds NaN or infinite numbers: the run diverged before it")
    image, text = zoo.fields(model)
    saved: Preprocessing = convert(about["preprocessing"], f"{folder}: preprocessing", Preprocessing)
    tokenizer = checkpoint_reader.tokenizer_of_run(folder, about)
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
