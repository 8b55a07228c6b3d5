"""The train step that `benchmarks.step` compares with: LRSCLIP's, as one writes it with PyTorch.

CLIP with 248 positions and SDPA (`benchmarks.torch_clip`), both texts as padded rows, the dual InfoNCE loss, torch's
SGD. On a GPU bfloat16 by autocast and `torch.compile`; on a CPU float32 and eager.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict

from benchmarks.programs import TORCH, WEIGHTS, Job, Prepared, batch_of
from benchmarks.torch_clip import TorchCLIP
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.weights import build_model

Batch = Mapping[str, torch.Tensor]


def dual_loss(model: TorchCLIP, batch: Batch, long_weight: float) -> torch.Tensor:
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
    image = F.normalize(model.images(pixels).float(), dim=-1)
    labels = torch.arange(len(pixels), device=pixels.device)
    loss = 0
    for kind, weight in (("long", long_weight), ("short", 1 - long_weight)):
        text = F.normalize(model.texts(batch[kind]).float(), dim=-1)
        logits = model.logit_scale.exp() * image @ text.T
        loss = loss + weight * (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    return loss


def make_train_step(model: TorchCLIP, config: ConfigDict) -> Callable[[Batch], torch.Tensor]:
    """Returns an update of `model` in place, batch -> loss, with the SGD and the ω of a recipe of this package."""
    recipe = config.optimizer
    on_gpu = model.logit_scale.is_cuda
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
        torch.manual_seed(0)
        self._model = TorchCLIP(ours)
        self._weights = {name: value.clone() for name, value in self._model.state_dict().items()}
        np.savez(Path(folder, WEIGHTS), **{name: value.numpy() for name, value in self._weights.items()})
        device = "cuda" if self._on_gpu else "cpu"
        self._model.to(device)
        self._update = make_train_step(self._model, config)
        images = job.images(ours.image.size)
        self._batches: dict[str, list[Batch]] = {program: [] for program in TORCH}
        for index, (program, slots) in itertools.product(range(rounds), TORCH.items()):
            keys = job.config(("data.packed=False", f"data.short_length={slots}"))
            batch = batch_of(keys, images, *job.texts(index, ours.text.end_token))
            self._batches[program].append(
                {key: torch.from_numpy(batch[key]).to(device) for key in ("image", "long", "short")}
            )

    def device_name(self) -> str:
        return torch.cuda.get_device_name() if self._on_gpu else "cpu"

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
