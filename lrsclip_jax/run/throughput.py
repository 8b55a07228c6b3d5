"""How fast a run trains: pairs, useful and executed FLOPs, MFU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrsclip_jax import chips
from lrsclip_jax.config.facts import towers_in_memory
from lrsclip_jax.flops import PairWork, Texts, frozen_towers, train_pair
from lrsclip_jax.losses import loss_options
from lrsclip_jax.models.clip import CLIP

Batch = Mapping[str, jax.Array]


@dataclass(frozen=True)
class Throughput:
    """The constants from which the rates of a run are computed.

    Attributes:
      pair: returns the FLOPs of a pair with given texts, and `images` of any shape, `flops.train_pair` for the run's
        model and settings.
      kinds: of text that are encoded: "long", "short" and "negative".
      batch_size: pairs in the global batch.
      devices: that share the work.
      peak: FLOP/s of one of them in bfloat16 (lrsclip_jax.chips), None if unknown.
    """

    pair: Callable[..., PairWork]
    kinds: tuple[str, ...]
    batch_size: int
    devices: int
    peak: float | None

    def texts(self, tokens: float, squares: float) -> Texts:
        """Returns the texts of a batch, by their tokens and the sum of their squared lengths.

        Every pair counts all kinds of text: the features of a missing text are projected and compared, too.
        """
        return Texts(len(self.kinds) * self.batch_size, tokens, squares)

    def slots(self, batch: Batch) -> Texts:
        """Returns the slots that the text tower computes for a batch, the empty ones included."""
        rows = text_rows(batch, self.kinds)
        return self.texts(sum(count * slots for count, slots in rows), sum(count * slots**2 for count, slots in rows))

    def image_slots(self, batch: Batch) -> Texts | None:
        """Returns the slots that the image tower computes for images of any shape; None for squares."""
        if "patches" not in batch:
            return None
        rows, slots = batch["patches"].shape[:2]
        return Texts(self.batch_size, rows * slots, rows * slots**2)

    def rates(
        self, steps: int, seconds: float, texts: Texts, slots: Texts, images: tuple[Texts, Texts] | None = None
    ) -> dict[str, float]:
        """Returns the rates of `steps` that took `seconds`, and had these texts and slots for them in total.

        `images` are those of any shape and the slots for them; None: all are squares.

        Useful arithmetic is that of the tokens. Executed arithmetic is all that the devices do, with padding, with
        what masks hide and with what is computed again. Both are TFLOP/s of one device; MFU is the useful share of its
        peak.
        """
        rate = steps * self.batch_size / seconds
        a_pair = 1 / (steps * self.batch_size)
        seen, computed = ({"images": each * a_pair} for each in images) if images else ({}, {})
        useful = self.pair([texts * a_pair], **seen).useful * rate / self.devices
        executed = self.pair([slots * a_pair], **computed).executed * rate / self.devices
        rates = {"pairs_per_second": rate, "tflops_useful": useful / 1e12, "tflops_executed": executed / 1e12}
        return rates | ({"mfu": useful / self.peak} if self.peak else {})


def of_run(config: ConfigDict, model: CLIP, trainable: Any, mesh: Mesh) -> Throughput:
    """Returns the throughput of a run; `trainable` says of each parameter whether it learns."""
    loss = loss_options(config.loss)
    pair = functools.partial(
        train_pair,
        model,
        batch_size=config.batch_size,
        microbatches=config.train.microbatches,
        loss=loss.name,
        more_terms=loss.more_terms,
        form=loss.form,
        frozen=frozen_towers(trainable),
        in_memory=towers_in_memory(config),
        teacher=loss.preserve > 0,
        views=loss.views,
    )
    chip = chips.find(mesh.devices.flat[0].device_kind)
    return Throughput(pair, loss.texts, config.batch_size, mesh.size, chip.flops if chip else None)


def text_rows(batch: Batch, kinds: Sequence[str] = ("long", "short")) -> list[tuple[int, int]]:
    """Returns (rows, slots of a row) of the token ids in a batch: of packed rows, or of each of `kinds` that it has."""
    found = [batch[key] for key in ("ids", *kinds) if key in batch]
    return [(ids.shape[0], ids.shape[1]) for ids in found]
