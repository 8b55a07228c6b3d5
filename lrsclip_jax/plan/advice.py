"""Advice for a job that does not fit: settings that save memory and leave the curve as it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from lrsclip_jax import flops
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.plan.roofline import Job, Rows

FLOAT32 = 4
ROOM = 0.9  # the share of the memory that an estimate may fill
WORTH = 0.99  # the share of the bytes that a change worth naming leaves at most


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that decide how much memory a job takes, by their keys in the config."""

    model: CLIP
    rows: tuple[Rows, ...]
    batch_size: int
    mesh: dict[str, int]
    microbatches: int
    form: str
    chunk: int
    parameters: int  # in bytes, on all devices together
    state: int

    @property
    def share(self) -> int:
        """Pairs of a batch on one device."""
        return self.batch_size // (self.mesh["data"] * self.mesh["fsdp"])


def settings(job: Job, mesh: dict[str, int], chunk: int) -> Settings:
    """Returns the settings of a job on a mesh, axes to sizes, with `loss.chunk`."""
    split = mesh["fsdp"] * mesh["tensor"]
    return Settings(
        job.model,
        job.rows,
        job.batch_size,
        mesh,
        job.microbatches,
        job.form,
        chunk,
        job.gradient_bytes * split,
        job.state_bytes * split,
    )


def parts(now: Settings) -> dict[str, float]:
    """Returns an estimate of the bytes on one device by their purpose: "state", "loss", "image", "text".

    They are parameters with their optimizer state and gradient; logits and gathered features; and for each tower the
    arrays that its blocks store for the backward pass, and those of the one block that is at work.
    """
    split = now.mesh["fsdp"] * now.mesh["tensor"]
    rows = {"full": now.share, "gather": now.chunk or now.share, "ring": now.chunk or now.share}[now.form]
    columns = now.share if now.form == "ring" else now.batch_size
    kinds, width = sum(rows.texts for rows in now.rows), now.model.image.embed_dim
    logits = FLOAT32 * min(rows, now.share) * columns * (4 * kinds if now.form == "full" else 4)
    features = 2 * FLOAT32 * columns * width * (1 + kinds)
    image, text = now.model.image, now.model.text
    return {
        "state": (now.state + now.parameters) / split,
        "loss": logits + features,
        "image": _activations(image, [Rows(flops.tokens(image))], now),
        "text": _activations(text, now.rows, now),
    }


def changes(now: Settings, wanted: int, memory: int) -> tuple[list[str], float]:
    """Returns flags that should make a job fit, and the bytes on a device that they should leave.

    The largest part that can still shrink is shrunk, again and again. Without flags, only the batch or the devices are
    left to change.

    Args:
      now: settings of the job.
      wanted: bytes that it wants on a device.
      memory: bytes that a device has.
    """
    flags: dict[str, str] = {}
    before = sum(parts(now).values())
    expected = float(wanted)
    while expected > ROOM * memory:
        sizes = parts(now)
        for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
            flag, then = _remedy(name, now)
            if sum(parts(then).values()) < WORTH * sum(sizes.values()):
                break
        else:
            break
        now = then
        key, _, value = flag.partition("=")
        flags[key] = value
        expected = wanted * sum(parts(now).values()) / before
    return [f"--config.{key}={value}" for key, value in flags.items()], expected


def _remedy(part: str, now: Settings) -> tuple[str, Settings]:
    """Returns the next change that shrinks a part, first the one that costs least time; unchanged if there is none."""
    if part == "state":
        factor = next((factor for factor in (2, 3, 5, 7) if now.mesh["data"] % factor == 0), 1)
        mesh = now.mesh | {"data": now.mesh["data"] // factor, "fsdp": now.mesh["fsdp"] * factor}
        return f"mesh.fsdp={mesh['fsdp']}", dataclasses.replace(now, mesh=mesh)
    if part == "loss":
        chunk = min(now.chunk or now.share, now.share)
        if now.form == "full":
            return "loss.form=gather", dataclasses.replace(now, form="gather")
        if chunk > 128:
            chunk = 2 ** (math.ceil(math.log2(chunk)) - 1)
            return f"loss.chunk={chunk}", dataclasses.replace(now, chunk=chunk)
        return "loss.form=ring", dataclasses.replace(now, form="ring")
    tower = getattr(now.model, part)
    if tower.remat != "full":
        remat = "dense" if tower.remat == "none" else "full"
        model = dataclasses.replace(now.model, **{part: dataclasses.replace(tower, remat=remat)})
        return f"model.{part}.remat={remat}", dataclasses.replace(now, model=model)
    more = range(now.microbatches + 1, now.share + 1)
    count = next((count for count in more if now.share % count == 0), now.microbatches)
    return f"train.microbatches={count}", dataclasses.replace(now, microbatches=count)


def _activations(tower: flops.Tower, rows: Sequence[Rows], now: Settings) -> float:
    if isinstance(tower, ResNet):
        return _of_resnet(tower) * now.share / now.microbatches
    width, hidden, itemsize = tower.width, tower.mlp_width or 4 * tower.width, tower.dtype.itemsize
    hidden *= 2 if getattr(tower, "gated", False) else 1  # a gate is as wide as what it multiplies
    kind, _, names = tower.remat.partition(":")
    total = 0
    for length, per_pair, _ in rows:
        scores = tower.heads * length**2 * (FLOAT32 + itemsize)
        dense = (5 * width + hidden) * length * itemsize
        block = dense + (hidden + 2 * width) * length * itemsize + scores
        named = {"qkv": 3 * width, "attention": width, "mlp_hidden": hidden}
        stored = {
            "none": block,
            "dense": dense,
            "full": 0,
            "names": sum(size for name, size in named.items() if name in names.split(",")) * length * itemsize,
        }[kind]
        total += per_pair * (tower.layers * (stored + width * length * itemsize) + 2 * block)
    return total * now.share / now.microbatches / now.mesh["tensor"]


def _of_resnet(tower: ResNet) -> float:
    """Bytes of one image: what enters the bottlenecks is two thirds of their convolutions' results."""
    products = flops.products(tower, flops.tokens(tower))
    results = sum(each.m * each.n * each.count for each in products if each.name == "convolution")
    return {"none": 2 + 2 / 3, "dense": 1 + 2 / 3, "full": 2 / 3}[tower.remat] * results * tower.dtype.itemsize
