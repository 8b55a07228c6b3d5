"""The train step that `benchmarks.step` compares with: LRSCLIP's, as one writes it with PyTorch and transformers.

`CLIPModel` with 248 positions and SDPA, both texts as padded rows, the dual InfoNCE loss, torch's SGD. On a GPU
bfloat16 by autocast and `torch.compile`; on a CPU float32 and eager.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from transformers import CLIPConfig, CLIPModel
from transformers.utils.logging import disable_progress_bar

from benchmarks.programs import TORCH, Job, Prepared, batch_of
from lrsclip_jax.data.images import CLIP_PREPROCESSING
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.weights import build_model

Batch = Mapping[str, torch.Tensor]


def clip_model(model: CLIP) -> CLIPModel:
    """Returns transformers' model of the same dimensions, its weights drawn as transformers draws them (seed 0)."""
    torch.manual_seed(0)
    image, text = model.image, model.text
    config = CLIPConfig(
        vision_config=_tower(image) | {"image_size": image.size, "patch_size": image.patch},
        text_config=_tower(text)
        | {
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "bos_token_id": text.end_token - 1,
            "eos_token_id": text.end_token,
        },
        projection_dim=image.embed_dim,
        logit_scale_init_value=model.logit_scale,
        attn_implementation="sdpa",
    )
    return CLIPModel(config)


def _tower(tower) -> dict:
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.mlp_width or 4 * tower.width,
        "hidden_act": tower.activation,
        "layer_norm_eps": tower.norm_eps,
    }


def dual_loss(model: CLIPModel, batch: Batch, long_weight: float) -> torch.Tensor:
    """LRSCLIP's loss on one device: InfoNCE of images with long texts and with short ones, weighted ω and 1 − ω.

    Args:
      model: encodes images and both texts, each kind in a call of its own as the reference does.
      batch: "image" uint8 [B, H, W, 3], "long" and "short" int [B, L].
      long_weight: ω.
    """
    mean, std = (
        torch.tensor(values, device=batch["image"].device).view(3, 1, 1)
        for values in (CLIP_PREPROCESSING.mean, CLIP_PREPROCESSING.std)
    )
    pixels = (batch["image"].permute(0, 3, 1, 2) / 255 - mean) / std
    image = F.normalize(model.get_image_features(pixels).pooler_output.float(), dim=-1)
    labels = torch.arange(len(pixels), device=pixels.device)
    loss = 0
    for kind, weight in (("long", long_weight), ("short", 1 - long_weight)):
        text = F.normalize(model.get_text_features(batch[kind]).pooler_output.float(), dim=-1)
        logits = model.logit_scale.exp() * image @ text.T
        loss = loss + weight * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    return loss


def make_train_step(model: CLIPModel, config: ConfigDict) -> Callable[[Batch], torch.Tensor]:
    """Returns an update of `model` in place, batch -> loss, with the SGD and the ω of a recipe of this package."""
    recipe = config.optimizer
    on_gpu = model.device.type == "cuda"
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        dampening=recipe.dampening,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    # A program for each length of the short text; by default torch would make a slower one for any length.
    objective = torch.compile(dual_loss, dynamic=False) if on_gpu else dual_loss
    precision = torch.autocast("cuda", torch.bfloat16) if on_gpu else contextlib.nullcontext()

    def update(batch: Batch) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with precision:
            loss = objective(model, batch, config.loss.long_weight)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return update


class Side:
    """PyTorch's programs in the process that makes it: they take turns in updating one model."""

    def __init__(self, job: Job, rounds: int, folder: str):
        """Draws the weights and writes them to `folder`, from which ours are read."""
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.set_float32_matmul_precision("high")  # what autocast leaves in float32 may use a GPU's TF32
        self._on_gpu = torch.cuda.is_available()
        config = job.config()
        ours = build_model(config, "cpu")
        self._model = clip_model(ours)
        disable_progress_bar()
        self._model.save_pretrained(folder)
        self._weights = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._model.to("cuda" if self._on_gpu else "cpu")
        self._update = make_train_step(self._model, config)
        images = job.images(ours.image.size)
        self._batches: dict[str, list[Batch]] = {program: [] for program in TORCH}
        for index, (program, slots) in itertools.product(range(rounds), TORCH.items()):
            keys = job.config(("data.packed=False", f"data.short_length={slots}"))
            batch = batch_of(keys, images, *job.texts(index, ours.text.end_token))
            self._batches[program].append(
                {key: torch.from_numpy(batch[key]).to(self._model.device) for key in ("image", "long", "short")}
            )

    def prepare(self, name: str) -> Prepared:
        """Begins with the first weights and does two steps of a program, so that all is compiled and allocated."""
        self._model.load_state_dict(self._weights)
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        loss = self._update(self._batches[name][0]).item()
        self._wait()
        first = time.perf_counter() - begun
        second = self.seconds(name, 0, 1)
        if not self._on_gpu:
            return Prepared(loss, None, None)
        return Prepared(loss, first - second, torch.cuda.max_memory_allocated())

    def seconds(self, name: str, index: int, steps: int) -> float:
        """Returns how long `steps` steps with batch `index` take."""
        begun = time.perf_counter()
        for _ in range(steps):
            self._update(self._batches[name][index])
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()
