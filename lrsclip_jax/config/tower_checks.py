"""Checks of a config's towers: fields that cannot work together, and inputs that they cannot take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from lrsclip_jax.config.facts import offloads, tower_fields, turns_images
from lrsclip_jax.config.keys import KEYS
from lrsclip_jax.config.tower_keys import IMAGE_FIELDS, TEXT_FIELDS
from lrsclip_jax.config.values import shown
from lrsclip_jax.models import adapt_rules


def tower_faults(config: ConfigDict) -> Iterator[str]:
    """Yields why the towers cannot be built; a value that the config does not set names its model."""
    towers = dict(zip(("image", "text"), tower_fields(config), strict=True))
    image, text = towers.values()

    def named(tower: str, field: str) -> str:
        own = field in config.model[tower]
        return f"model.{tower}.{field}={towers[tower][field]}" + (
            "" if own else f" (of model.name={config.model.name})"
        )

    for tower, by_kind in (("image", IMAGE_FIELDS), ("text", TEXT_FIELDS)):
        kind = towers[tower]["kind"]
        for name in towers[tower]:
            if name not in by_kind[kind] and name != "kind":
                other = next(other for other, fields in by_kind.items() if name in fields)
                of = "" if name in config.model[tower] else f" (of model.name={config.model.name})"
                key = f"model.{tower}.{name}{of}"
                yield f"{key}: a field of model.{tower}.kind={other!r} alone, and the kind is {kind!r}"
    if image["kind"] == "resnet":
        yield from _resnet(config, image)
    else:
        yield from _vit(image, named)
    for tower, fields in towers.items():
        width = 32 * fields["width"] if fields["kind"] == "resnet" else fields["width"]
        if width % fields["heads"]:
            yield f"{named(tower, 'width')} does not divide into {named(tower, 'heads')}"
        if fields.get("unroll", 1) > fields.get("layers", 1):
            yield f"{named(tower, 'unroll')} is more than {named(tower, 'layers')}"
    if image["embed_dim"] != text["embed_dim"]:
        yield f"{named('image', 'embed_dim')} and {named('text', 'embed_dim')} must be equal"
    if text["frozen_positions"] > text["context_length"]:
        yield f"{named('text', 'frozen_positions')} is more than {named('text', 'context_length')}"
    for token in ("end_token", "pad_token"):
        if token in text and text[token] >= text["vocab_size"]:
            yield f"{named('text', token)} is not below {named('text', 'vocab_size')}"
    yield from adapt_rules.faults(config.model.adapt, towers)


def _vit(image: Mapping[str, Any], named: Callable[[str, str], str]) -> Iterator[str]:
    """Yields why images can't be cut into patches, or patches have no positions; `named` is a key with its value."""
    if image["size"] % image["patch"]:
        yield f"{named('image', 'size')} is not a multiple of {named('image', 'patch')}"
    if image["rotary_base"] is not None and image["width"] // image["heads"] % 4:
        yield f"{named('image', 'rotary_base')} needs heads of a width that 4 divides: change {named('image', 'heads')}"
    patches = (image["size"] // image["patch"]) ** 2
    if round(image["patch_dropout"] * patches) >= patches:
        yield f"{named('image', 'patch_dropout')} leaves none of the {patches} patches"


def _resnet(config: ConfigDict, image: Mapping[str, Any]) -> Iterator[str]:
    """Yields why a ResNet can't be built."""
    if image["size"] % 32:
        yield f"model.image.size={image['size']} is not a multiple of 32, a ResNet's stride"
    if len(image["stages"]) != 4:
        yield f"model.image.stages={shown(image['stages'])}: a ResNet has four stages"
    if image["width"] % 2:
        yield f"model.image.width={image['width']} is odd: a ResNet begins with half of it"
    if image["remat"].startswith("names:"):
        yield f"model.image.remat={image['remat']!r}: a ResNet's is 'none', 'dense' or 'full'"
    if image["resolution"] == "native":
        yield "model.image.resolution='native' is of patches: a ResNet's images are squares, leave it at 'fixed'"


def native_faults(config: ConfigDict) -> Iterator[str]:
    """Yields why images can't keep their shape."""
    image = tower_fields(config)[0]
    least = image["min_patches"]
    if image["resolution"] != "native":
        if least is not None:
            yield f"model.image.min_patches={least} is about model.image.resolution='native', and that is 'fixed'"
        return
    budget = (image["size"] // image["patch"]) ** 2
    if least is not None and least > budget:
        yield f"model.image.min_patches={least} is more than the {budget} patches of model.image.size={image['size']}"
    why = "does not go with model.image.resolution='native'"
    if turns_images(config):
        yield f"data.augmentation.turns={shown(config.data.augmentation.turns)} {why}: set it to 'none'"
    if image["patch_dropout"]:
        yield f"model.image.patch_dropout={image['patch_dropout']} {why}: set it to 0.0"
    if offloads(config, "images"):
        yield f"train.offload={config.train.offload!r} {why}: set it to 'none' or 'optimizer'"
    if config.data.image_features is not None:
        yield f"data.image_features={shown(config.data.image_features)} {why}: leave it at None"


def band_faults(config: ConfigDict) -> Iterator[str]:
    """Yields why bands can't be read or normalised."""
    model, bands = config.model, tower_fields(config)[0]["bands"]
    if twice := [name for number, name in enumerate(bands) if name in bands[:number]]:
        yield f"model.image.bands={shown(bands)}: {shown(twice[0])} stands twice in it"
    if (model.band_mean is None) != (model.band_std is None):
        yield f"model.band_mean={shown(model.band_mean)}, model.band_std={shown(model.band_std)}: set both, or neither"
    for key in ("band_mean", "band_std"):
        if model[key] is not None and len(model[key]) != len(bands):
            yield f"model.{key}={shown(model[key])}: {len(model[key])} numbers for {len(bands)} of model.image.bands"


def siglip_faults(config: ConfigDict) -> Iterator[str]:
    """Yields why SigLIP's text tower can't have texts as the data makes them."""
    if tower_fields(config)[1]["kind"] != "siglip":
        return
    data, why = config.data, "SigLIP's tokenizers do not show"
    if data.packed:
        yield "data.packed=True: a SigLIP text fills all its positions and sees its padding, set it to False"
    for group in ("long_draw", "short_draw"):
        changed = [key for key in data[group] if data[group][key] != KEYS[f"data.{group}.{key}"].default]
        if changed == ["shift"]:
            yield f"data.{group}.shift={data[group].shift}: a SigLIP text fills all its positions, set it to 0"
        elif changed:
            yield f"data.{group}.{changed[0]}: {why} where sentences end, leave it at its default"
    if data.short_text == "sentences":
        yield f"data.short_text='sentences': {why} where sentences end, set it to 'first_sentence' or 'short'"
    if turns_images(config):
        turns = shown(data.augmentation.turns)
        yield f"data.augmentation.turns={turns}: {why} which words are directions, set it to 'none'"
