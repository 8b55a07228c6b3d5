"""Turns a checkpoint of any family into a run folder: reads, stretches where asked, describes, writes."""

from __future__ import annotations

import dataclasses
import math
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrsclip_jax import config as configs
from lrsclip_jax import fitting, weights
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.run import checkpoint, workdir
from lrsclip_jax.sources.row_values import clean

_TOWERS = ("image", "text")
_EMBED_DIM = 512  # where neither tower has a projection: the dimensions of RSCLIP's and CLIP's B models


class Changes(NamedTuple):
    """Changes to the model that the sources hold; None: no change.

    Attributes:
      context_length: positions of the text tower; CLIP's table is stretched (KPS) or cut, BERT's cut.
      keep, ratio: of stretching, as `models.positions.stretch_positions` has them.
      size: side of the images in pixels; the table of positions is resized as its family does.
      embed_dim: dimensions of the space in which the towers meet; a projection into another one is initialised again.
      seed: of what is drawn.
    """

    context_length: int | None = None
    size: int | None = None
    embed_dim: int | None = None
    seed: int = 0
    keep: int = 20
    ratio: int | None = None


class Imported(NamedTuple):
    """A model of one or two sources: what each tower was found as, and what became of it; `drawn` is random."""

    found: dict[str, ReadCheckpoint]
    model: CLIP
    params: dict[str, Any]
    preprocessing: Preprocessing
    drawn: tuple[str, ...]


def import_checkpoint(sources: Mapping[str, str], folder: str, hints: Hints, changes: Changes) -> None:
    """Makes a run folder whose checkpoint 0 is the model of `sources`, and prints what that is.

    Args:
      sources: of weights, {"image": …, "text": …}: twice the same for a model of both towers.
      folder: to be made, empty, or where an import was stopped, which begins again.
      hints: for a source that doesn't tell all of itself.
      changes: to what the sources hold.

    Raises:
      InputError: the folder holds something; a source is damaged, unknown or needs a hint; the towers don't meet.
    """
    begun = time.perf_counter()
    workdir.check_new(folder)
    with workdir.at_work(folder, "lrsclip convert import"):
        imported = joined(sources, hints, changes)
        tokenizer = weights.tokenizer_of(imported.found["text"], sources["text"])
        print("\n".join(_description(sources, imported, tokenizer)), flush=True)
        config = config_of(sources, imported.model)
        if "logit_bias" in imported.params:
            config.loss.name = "sigmoid"  # a run with such a parameter
        about = checkpoint.metadata(config, imported.preprocessing, tokenizer)
        run = workdir.new(folder)
        _check_space(run, imported.params)
        checkpoint.write(run, imported.params, about)
        workdir.write_tokenizer(run, tokenizer.file)
        workdir.write_config(run, config)  # last: without it an import is unfinished
    seconds = time.perf_counter() - begun
    print(f"imported {_millions(imported.params)} in {seconds:.1f} s into {folder}; peak memory {_peak_memory()}")


def joined(sources: Mapping[str, str], hints: Hints, changes: Changes) -> Imported:
    """Returns the model that `sources` make together; arguments and errors as of `import_checkpoint`."""
    read = {source: weights.merged(weights.read(source, hints), source) for source in dict.fromkeys(sources.values())}
    found = {tower: read[source] for tower, source in sources.items()}
    fields = {tower: _fields(tower, found[tower], sources[tower]) for tower in _TOWERS}
    widths = {tower: fitting.projected_width(found[tower], tower) for tower in _TOWERS}
    embed_dim = changes.embed_dim or _common(widths, sources)
    fields["image"] |= {"embed_dim": embed_dim, "size": changes.size or fields["image"]["size"]}
    fields["text"] |= {
        "embed_dim": embed_dim,
        "context_length": changes.context_length or fields["text"]["context_length"],
        "keep": changes.keep,
        "ratio": changes.ratio,
    }
    model = zoo.create("custom", image=fields["image"], text=fields["text"])

    def draw() -> dict[str, Any]:
        return init_params(model, jax.random.key(changes.seed))

    like = jax.eval_shape(draw)
    others = [tower for tower in _TOWERS if widths[tower] != embed_dim]
    towers = [tower for tower in others if "projection" in like[tower]]
    projections = jax.jit(lambda: {tower: draw()[tower]["projection"] for tower in towers})()
    params = {}
    for tower in _TOWERS:
        source = found[tower]
        if tower in others:
            without = {name: value for name, value in source.params[tower].items() if name != "projection"}
            source = dataclasses.replace(source, params={tower: without})
        if tower in towers:
            like[tower] = like[tower] | {"projection": projections[tower]}
        params[tower] = fitting.fitted_tower(model, tower, source, sources[tower], like[tower])
    # A temperature belongs to two towers that were trained together.
    scale, bias = (
        found["image"].params.get(name) if len(read) == 1 else None for name in ("logit_scale", "logit_bias")
    )
    params["logit_scale"] = jnp.float32(model.logit_scale if scale is None else scale)
    if bias is not None:
        params["logit_bias"] = jnp.float32(bias)
    drawn = tuple(f"{tower}/projection" for tower in towers) + (("logit_scale",) if scale is None else ())
    preprocessing = found["image"].preprocessing or CLIP_PREPROCESSING
    return Imported(found, model, params, preprocessing.squares().at(model.image.size), drawn)


def _check_space(run: epath.Path, params: Any) -> None:
    """Raises InputError where the disk of a local run folder is too small for parameters."""
    needed = sum(np.size(leaf) * np.dtype(np.float32).itemsize for leaf in jax.tree.leaves(params))
    if "://" not in str(run) and (free := shutil.disk_usage(run).free) < needed:
        raise InputError(f"can't write {run}: {needed / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free")


def _fields(tower: str, found: ReadCheckpoint, source: str) -> dict[str, Any]:
    fields = getattr(found, tower)
    if fields is None:
        other = "text" if tower == "image" else "image"
        raise InputError(
            f"{source} ({found.family}) has no {tower} tower: name a source for each tower, "
            f"--{other}={source} --{tower}=SRC"
        )
    return dict(fields)


def _common(widths: Mapping[str, int | None], sources: Mapping[str, str]) -> int:
    known = {width for width in widths.values() if width}
    if len(known) > 1:
        raise InputError(
            f"{sources['image']} projects to {widths['image']} dimensions, {sources['text']} to {widths['text']}: "
            "choose with --embed-dim; a projection into another space is initialised again, to be trained"
        )
    return known.pop() if known else _EMBED_DIM


def config_of(sources: Mapping[str, str], model: CLIP) -> ConfigDict:
    """Returns a config that says what the model is and where each tower is from, and is otherwise the default one."""
    config = configs.defaults()
    image, text = zoo.fields(model)
    config.model.image.update(image)
    config.model.text.update(text | {"keep": model.text.keep, "ratio": model.text.ratio})
    with config.ignore_type():
        config.model.name = _name(model)
        sources = {tower: clean(source) for tower, source in sources.items()}  # a config holds text
        if sources["image"] == sources["text"]:
            config.model.init = sources["image"]
        else:
            config.model.init, config.model.image_init, config.model.text_init = "random", *map(sources.get, _TOWERS)
    return config


def _name(model: CLIP) -> str:
    """The entry of the zoo that a model is, but for the lengths of its position tables; "custom" if it is none."""
    lengths = {"size": model.image.size}, {"context_length": model.text.context_length}
    known = (name for name in zoo.names() if zoo.fields(zoo.create(name, *lengths)) == zoo.fields(model))
    return next(known, "custom")


def _description(sources: Mapping[str, str], imported: Imported, tokenizer: Tokenizer) -> list[str]:
    """Everything that was found, and why; what was made of it; what of it must be trained."""
    found, model, params, preprocessing, drawn = imported
    lines = []
    for tower, fields in zip(_TOWERS, zoo.fields(model), strict=True):
        lines.append(f"{tower} tower: {_millions(params[tower])}, {found[tower].family}, from {sources[tower]}")
        reasons = _reasons(tower, found[tower], fields)
        plain = [f"{name} {value}" for name, value in fields.items() if name not in reasons]
        lines.append(f"    {', '.join(plain)}")
        lines += [f"    {name} {fields[name]}: {why}" for name, why in reasons.items() if name in fields]
        lines += [f"    {name}: {why}" for name, why in reasons.items() if name not in fields]
    why = found["image"].reasons.get("preprocessing")
    lines.append(
        f"preprocessing{f' ({why})' if why else ''}: {preprocessing.words()}; "
        f"mean {_triple(preprocessing.mean)}, std {_triple(preprocessing.std)}"
    )
    lines.append(f"tokenizer: {tokenizer.name}, {tokenizer.vocab_size:,} ids")
    lines.append(
        f"model: {_name(model)}, {_millions(params)}, logit_scale {math.exp(float(params['logit_scale'])):.2f}"
        + (f", logit_bias {float(params['logit_bias']):.2f}" if "logit_bias" in params else "")
    )
    for source in dict.fromkeys(sources.values()):
        unused = next(found[tower].unused for tower in _TOWERS if sources[tower] == source)
        if unused:
            more = f" and {len(unused) - 10} more" if len(unused) > 10 else ""
            lines.append(f"not used of {source} ({len(unused)}): {', '.join(unused[:10])}{more}")
    if drawn:
        lines.append(f"drawn at random or by default, to be trained: {', '.join(drawn)}")
    if sources["image"] != sources["text"]:
        lines.append("The towers come from two sources: their rows mean nothing to each other before training.")
    return lines


def _reasons(tower: str, found: ReadCheckpoint, fields: Mapping[str, Any]) -> dict[str, str]:
    """Where a value comes from that the tensors don't show, or that was changed."""
    prefix = f"{tower}."
    reasons = {key.removeprefix(prefix): why for key, why in found.reasons.items() if key.startswith(prefix)}
    name = "size" if tower == "image" else "context_length"
    before, after = getattr(found, tower)[name], fields[name]
    if before != after:
        change = "resized" if tower == "image" else "stretched" if after > before else "cut"
        rotary = fields.get("rotary_base") is not None  # positions of any size
        reasons[name] = f"in place of {before}" if rotary else f"position table {change} from {before}"
    return reasons


def _millions(params: Any) -> str:
    return f"{sum(np.size(leaf) for leaf in jax.tree.leaves(params)) / 1e6:.1f} M parameters"


def _triple(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _peak_memory() -> str:
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.2f} GB"
