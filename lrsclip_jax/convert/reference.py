"""A model as PyTorch computes it, from the folder that its own library loads: what exports are compared with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eval.reading import read_json
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.families.openai import CONFIG as OPEN_CLIP_CONFIG


class ReferenceTower(NamedTuple):
    """A tower: unit rows of a batch of images or texts, float32 [B, E], and what it sees of each.

    That is pixels uint8 [S, S, 3] before normalisation, or the ids of the tokens without padding.
    """

    embed: Callable[[Sequence[Any]], np.ndarray]
    inputs: Callable[[Sequence[Any]], Iterable[Any]]


class Side(NamedTuple):
    """A model of two towers, of RGB PIL images and of strings, and who computes it."""

    name: str
    images: ReferenceTower
    texts: ReferenceTower


def twin(path: str) -> Side | None:
    """Returns the model of a folder, computed by its own library with its own tokenizer and image processor.

    Args:
      path: a folder of transformers' CLIPModel, SiglipModel or VisionTextDualEncoderModel, or one with
        open_clip_config.json.

    Returns:
      None if it is anything else, or the library or torch is not installed.

    Raises:
      InputError: the library can't load the folder.
    """
    folder = Path(path)
    if not importlib.util.find_spec("torch"):
        return None
    if _model_type(folder) in ("clip", "vision-text-dual-encoder", "siglip"):
        return _transformers(folder)
    if (folder / OPEN_CLIP_CONFIG).is_file() and importlib.util.find_spec("open_clip"):
        return _open_clip(folder)
    return None


def _model_type(folder: Path) -> str | None:
    try:
        config: dict[str, Any] = read_json(folder / "config.json", dict[str, Any])
    except InputError:
        return None
    return config.get("model_type")


def _transformers(folder: Path) -> Side:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()

    def load(kind: Any, **options: Any) -> Any:
        return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **options)

    def everything() -> tuple[Any, Any, Any]:
        # torchvision's processor, the default where it is installed, resizes to other values than Pillow's.
        processor = load(transformers.AutoImageProcessor, backend="pil")
        return load(transformers.AutoModel), load(transformers.AutoTokenizer), processor

    model, tokenizer, processor = _loaded(folder, "transformers", everything)
    model = model.eval().float()

    def pixel_values(images: Sequence[Any]) -> np.ndarray:
        return np.asarray(processor(list(images), return_tensors="np")["pixel_values"], np.float32)

    def unit(features: Callable, **inputs: Any) -> np.ndarray:
        with torch.inference_mode():
            return torch.nn.functional.normalize(features(**inputs).pooler_output, dim=-1).numpy()

    def images(batch: Sequence[Any]) -> np.ndarray:
        return unit(model.get_image_features, pixel_values=torch.from_numpy(pixel_values(batch)))

    length = model.config.text_config.max_position_embeddings
    rows = {"padding": "max_length", "max_length": length} if _model_type(folder) == "siglip" else {"padding": True}

    def texts(batch: Sequence[str]) -> np.ndarray:
        inputs = tokenizer(list(batch), truncation=True, return_tensors="pt", **rows)
        return unit(model.get_text_features, **inputs)

    def pixels(batch: Sequence[Any]) -> np.ndarray:
        return _pixels(pixel_values(batch), processor.image_mean, processor.image_std)

    def ids(batch: Sequence[str]) -> list[list[int]]:
        return tokenizer(list(batch), truncation=True)["input_ids"]

    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    return Side(f"{type(model).__name__} of {versions}", ReferenceTower(images, pixels), ReferenceTower(texts, ids))


def _open_clip(folder: Path) -> Side:
    import open_clip
    import torch

    name = f"local-dir:{folder}"
    model, _, transform = _loaded(
        folder, "open_clip", lambda: open_clip.create_model_and_transforms(name, precision="fp32")
    )
    model, tokenizer = model.eval(), open_clip.get_tokenizer(name)

    def stacked(batch: Sequence[Any]) -> Any:
        return torch.stack([transform(image) for image in batch])

    def images(batch: Sequence[Any]) -> np.ndarray:
        with torch.inference_mode():
            return model.encode_image(stacked(batch), normalize=True).numpy()

    def texts(batch: Sequence[str]) -> np.ndarray:
        with torch.inference_mode():
            return model.encode_text(tokenizer(list(batch)), normalize=True).numpy()

    def pixels(batch: Sequence[Any]) -> np.ndarray:
        return _pixels(stacked(batch).numpy(), model.visual.image_mean, model.visual.image_std)

    def ids(batch: Sequence[str]) -> list[list[int]]:
        rows = tokenizer(list(batch)).tolist()
        return [row[: row.index(tokenizer.eot_token_id) + 1] for row in rows]

    versions = f"open_clip {open_clip.__version__}, torch {torch.__version__}"
    return Side(f"{type(model).__name__} of {versions}", ReferenceTower(images, pixels), ReferenceTower(texts, ids))


def _loaded(folder: Path, library: str, load: Callable[[], Iterable[Any]]) -> list[Any]:
    try:
        return list(load())
    except Exception as error:  # both raise many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"{folder}: {library} can't load it ({reason})") from error


def _pixels(values: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Normalised [N, 3, S, S] as the uint8 [N, S, S, 3] that it was."""
    return np.rint(255 * (values.transpose(0, 2, 3, 1) * np.asarray(std) + np.asarray(mean))).astype(np.uint8)
