"""The least time that a step can take on a chip, from what it must compute, move and send.

Four terms, of which the longest counts, as if they overlapped perfectly:

- arithmetic: all products that are executed, repetitions included, at the chip's bfloat16 peak, and the logits of the
  loss at its float32 one (they are multiplied at the highest precision);
- memory: every product reads its operands and writes its result once, everything elementwise is fused with one of
  them for free, attention is a kernel that keeps its scores on the chip and runs again for remat="full" alone, and
  the optimizer reads and writes its state;
- interconnect: what the compiled program's collectives send, over all links at once; None where that is not known;
- host: what `train.offload` keeps in host memory comes to the device, images in microbatches twice.

All but the second are lower bounds. The second is one unless a compiler keeps more results on the chip from one
product to the next. So the pairs per second and the MFU that follow are ceilings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lrsclip_jax import flops
from lrsclip_jax.chips import Chip
from lrsclip_jax.models.clip import CLIP

# Arrays like the queries that attention reads and writes: forward queries, keys, values and the result; backward the
# first three, the gradient of the result, and those of the three.
_FORWARD_ARRAYS, _BACKWARD_ARRAYS = 4, 7


class Rows(NamedTuple):
    """The rows of a pair in the text tower: `per_pair` rows of `slots` tokens, with `texts` texts."""

    slots: int
    per_pair: float = 1.0
    texts: float = 1.0

    @property
    def work(self) -> flops.Texts:
        """The texts that cost the same FLOPs: attention computes whole rows."""
        tokens = self.slots * self.per_pair
        return flops.Texts(self.texts, tokens, self.slots * tokens)


@dataclass(frozen=True)
class Job:
    """The facts of a training job from which its time is estimated.

    Attributes:
      model: its fields are read.
      rows: of the text tower, for each kind of text at its own length, or for all that share rows.
      texts: of a pair, by their true lengths where these are known; None: they fill their rows.
      batch_size: pairs in the global batch.
      microbatches: `train.microbatches`.
      loss: `loss.name`.
      more_terms: of the loss, besides one for each of the texts.
      form: `loss.form`.
      frozen: towers in which nothing learns.
      in_memory: towers whose features come from memory.
      devices: how many share the work, in equal shares.
      state_bytes: parameters and optimizer state on one device.
      gradient_bytes: the gradient on one device.
      hosted_bytes: of the state of one device, what lies in host memory between steps.
      image_words: bytes of a device's images, where these lie in host memory.
      teacher: whether another model encodes the same pairs, for `loss.preserve`.
      views: of an image that the tower encodes, 2 for `loss.patches`.
    """

    model: CLIP
    rows: tuple[Rows, ...]
    texts: flops.Texts | None
    batch_size: int
    microbatches: int
    loss: str
    more_terms: int
    form: str
    frozen: frozenset[str]
    in_memory: tuple[str, ...]
    devices: int
    state_bytes: int
    gradient_bytes: int
    hosted_bytes: int = 0
    image_words: int = 0
    teacher: bool = False
    views: int = 1

    @property
    def from_host(self) -> int:
        """The bytes that come to one device from host memory in a step."""
        return self.hosted_bytes + 2 * self.image_words

    @property
    def pair(self) -> flops.PairWork:
        """The FLOPs of one pair, as its rows make them."""
        return self._train_pair([rows.work for rows in self.rows])

    @property
    def useful(self) -> float:
        """The FLOPs of one pair that MFU counts."""
        return self._train_pair([self.texts]).useful if self.texts else self.pair.useful

    def _train_pair(self, texts: Sequence[flops.Texts]) -> flops.PairWork:
        return flops.train_pair(
            self.model,
            texts,
            batch_size=self.batch_size,
            microbatches=self.microbatches,
            loss=self.loss,
            more_terms=self.more_terms,
            form=self.form,
            frozen=self.frozen,
            in_memory=self.in_memory,
            teacher=self.teacher,
            views=self.views,
        )


@dataclass(frozen=True)
class Estimate:
    """Lower bounds in seconds, and the ceilings that follow from the longest; `mfu` is a fraction of the peak.

    `interconnect` is None where it is not known, `host` where nothing comes from host memory.
    """

    arithmetic: float
    memory: float
    interconnect: float | None
    host: float | None
    seconds: float
    bound: str
    pairs_per_second: float
    mfu: float


def estimate(job: Job, chip: Chip, sent: int | None) -> Estimate:
    """Returns the estimate for a job on `job.devices` chips of this kind; each sends `sent` bytes a step."""
    pair, share = job.pair, job.batch_size / job.devices
    terms = {
        "arithmetic": share * (pair.towers.executed / chip.flops + pair.loss / chip.float32),
        "memory": traffic(job) / chip.bandwidth,
    }
    if sent is not None:
        terms["interconnect"] = sent / chip.interconnect
    if job.from_host:
        terms["host"] = job.from_host / chip.host
    bound = max(terms, key=lambda name: terms[name])
    seconds = terms[bound]
    return Estimate(
        arithmetic=terms["arithmetic"],
        memory=terms["memory"],
        interconnect=terms.get("interconnect"),
        host=terms.get("host"),
        seconds=seconds,
        bound=bound,
        pairs_per_second=job.batch_size / seconds,
        mfu=share * job.useful / (seconds * chip.flops),
    )


def traffic(job: Job) -> float:
    """Returns the bytes between one chip and its memory in a step, by the module docstring's assumptions."""
    share = job.batch_size / job.devices
    image, views = job.model.image, float(job.views)
    towers: list[tuple[str, flops.Tower, int, float]] = [("image", image, flops.tokens(image), views)]
    towers += [("text", job.model.text, rows.slots, rows.per_pair) for rows in job.rows]
    total = 2 * (job.state_bytes + job.hosted_bytes + job.gradient_bytes)
    for name, tower, length, per_pair in towers:
        forward = flops.products(tower, length, name in job.in_memory)
        passes = list(forward)
        if name not in job.frozen:
            passes += forward * flops.BACKWARD + flops.recomputed(tower, forward)
            passes += forward * (job.microbatches > 1)
        itemsize = tower.dtype.itemsize
        activations = sum(_activation_bytes(product, itemsize) for product in passes)
        arrays = _FORWARD_ARRAYS
        if name not in job.frozen:
            again = (tower.remat == "full") + (job.microbatches > 1)
            arrays += _BACKWARD_ARRAYS + again * _FORWARD_ARRAYS
        activations += arrays * sum(_queries(product, itemsize) for product in forward)
        weights = sum(product.k * product.n * product.count for product in passes if product.weights) * itemsize
        total += share * per_pair * activations + job.microbatches * weights
    # Logits are float32; every product writes them once.
    terms, float32 = job.more_terms + sum(rows.texts for rows in job.rows), 4
    return total + float32 * terms * flops.LOGIT_PRODUCTS[job.loss][job.form] * share * job.batch_size


def _activation_bytes(product: flops.Product, itemsize: int) -> int:
    """Returns the bytes that one example's product reads and writes, without weights and those of attention."""
    if product.name in ("scores", "values"):
        return 0
    operands = product.m * product.k // product.taps + (0 if product.weights else product.k * product.n)
    return product.count * (operands + product.m * product.n) * itemsize


def _queries(product: flops.Product, itemsize: int) -> int:
    """Returns the bytes of the queries, for attention's first product; 0 for another one."""
    return product.count * product.m * product.k * itemsize if product.name == "scores" else 0
