"""Opens what a run's frozen towers gave, and refuses what another tower, preprocessing or data set gave."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from ml_collections import ConfigDict

from eval.embeddings import EmbeddingSet, check_set, open_set
from eval.file_names import named
from eval.reading import Positive, convert
from lrsclip_jax.data.batches import mixture
from lrsclip_jax.data.batches.saved_features import ImageFeatures, TextFeatures, image_features, text_features
from lrsclip_jax.data.batches.turns import turns_of_sources
from lrsclip_jax.data.prepared.records import KINDS, Records
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.losses import loss_options
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.encoder_hash import encoder_hash


class _Encoder(TypedDict):
    """What meta.json of a set of a tower's own features says of the tower, see `lrsclip_jax.embed.about_model`."""

    tower: str
    hash: str
    positions: Positive


def of_images(
    config: ConfigDict, model: CLIP, params: Any, preprocessing: Preprocessing, sources: Sequence[tuple[Records, float]]
) -> list[ImageFeatures]:
    """Returns the features that `data.image_features` names, one for each source; none where it is None.

    Args:
      config: of the run.
      model, params: of the run at its start, whose image tower is frozen.
      preprocessing: of the images.
      sources: from `mixture.open_sources(config)`.

    Raises:
      InputError: a set is torn, or of another tower, preprocessing, crop, or data set, or lacks the turns of images.
    """

    def opened(folder: Path, records: Records, source: str) -> ImageFeatures:
        found = _opened(folder, "image")
        _check_preprocessing(found, preprocessing)
        _check_encoder(found, "image", model.image, params["image"])
        _check_crops(found, config.data.crop_scale)
        return image_features(found, records, source)

    found = _of_sources(config, "image", sources, opened)
    for features, turns in zip(found, turns_of_sources(config), strict=False):
        if turns != "none" and features.turns == 1:
            raise InputError(
                f"data.image_features: {features.rows.folder} has one turn of each image, and "
                f"data.augmentation.turns={turns!r}: embed with --turns"
            )
    return found


def of_texts(
    config: ConfigDict, model: CLIP, params: Any, sources: Sequence[tuple[Records, float]]
) -> list[TextFeatures]:
    """Returns the features that `data.text_features` names, one for each source; as `of_images`."""
    if config.data.sampling == "pairs":  # all texts are in the place of long ones
        limits = dict.fromkeys(KINDS, ("data.long_length", config.data.long_length))
    else:
        lengths = {kind: f"{kind}_length" for kind in loss_options(config.loss).kinds}
        limits = {kind: (f"data.{key}", config.data[key]) for kind, key in lengths.items()}

    def opened(folder: Path, records: Records, source: str) -> TextFeatures:
        found = _opened(folder, "text")
        _check_encoder(found, "text", model.text, params["text"])
        return text_features(found, records, source, limits)

    return _of_sources(config, "text", sources, opened)


def _of_sources(config: ConfigDict, tower: str, sources: Sequence[tuple[Records, float]], opened: Any) -> list[Any]:
    key = f"{tower}_features"
    folders = config.data[key]
    if folders is None:
        return []
    found, folders = [], [folders] if isinstance(folders, str) else folders
    names = [name for name, _ in mixture.weighted(config.data.sources)]
    for folder, (records, _), name in zip(folders, sources, names, strict=True):
        try:
            found.append(opened(Path(os.path.expanduser(named(folder))), records, name))
        except InputError as error:
            raise InputError(f"data.{key}: {error}") from None
    return found


def _opened(folder: Path, tower: str) -> EmbeddingSet:
    """Returns a set of features of a tower's own; all of it is read once, for its checksums."""
    found, remedy = open_set(folder), f"embed with --features=encoder --tower={tower}"
    if found.features != "encoder" or "encoder" not in found.meta:
        raise InputError(f"{folder} holds {found.features} features, or does not name their tower: {remedy}")
    about: _Encoder = convert(found.meta["encoder"], f"{folder}/meta.json: encoder", _Encoder)
    if about["tower"] != tower:
        raise InputError(f"{folder} is of {about['tower']} features: {remedy}")
    check_set(folder)
    return found


def _check_preprocessing(found: EmbeddingSet, preprocessing: Preprocessing) -> None:
    where = f"{found.path}/meta.json: preprocessing"
    theirs: Preprocessing = convert(found.meta.get("preprocessing"), where, Preprocessing)
    if theirs.size != preprocessing.size:
        raise InputError(
            f"{found.path} is of images of {theirs.size} pixels, and model.image.size={preprocessing.size}: "
            f"embed with --size={preprocessing.size}"
        )
    if theirs != preprocessing:
        ours, other = dataclasses.asdict(preprocessing), dataclasses.asdict(theirs)
        field = next(field for field in ours if ours[field] != other[field])
        raise InputError(f"{found.path} is of images with {field} {other[field]}, the run's have {ours[field]}")


def _check_encoder(found: EmbeddingSet, kind: str, tower: Any, params: Any) -> None:
    about = found.meta["encoder"]
    positions, there = about["positions"], len(params.get("position_embedding", ()))
    if positions > there:
        raise InputError(
            f"{found.path} has a text of {positions} tokens, and model.text.context_length={there}: "
            "embed with the weights of this length, or raise it"
        )
    if encoder_hash(tower, params, positions) != about["hash"]:
        raise InputError(
            f"{found.path} was made by {found.meta.get('checkpoint')}, whose {kind} tower is not the one that this run "
            "starts from: embed with the run's weights"
        )


def _check_crops(found: EmbeddingSet, crop_scale: Sequence[float] | None) -> None:
    theirs = found.meta.get("crop_scale")
    if (None if crop_scale is None else list(crop_scale)) != theirs:
        made = "the central square of each image" if theirs is None else f"crops of {tuple(theirs)} of the area"
        views = "without --views" if crop_scale is None else "with --views=K --crop-scale={},{}".format(*crop_scale)
        remedy = f"embed {views}, or set data.crop_scale={theirs and tuple(theirs)}"
        raise InputError(f"{found.path} holds {made}, and data.crop_scale={crop_scale}: {remedy}")
