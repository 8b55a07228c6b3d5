import jax
import numpy as np
import pytest

from lrsclip_jax import flops
from lrsclip_jax.config import defaults
from lrsclip_jax.flops import Texts
from lrsclip_jax.models import zoo
from lrsclip_jax.run import throughput
from lrsclip_jax.sharding import make_mesh


@pytest.fixture(scope="module")
def clip():
    return zoo.create("tiny", image={"size": 64}, text={"context_length": 64})


def speed_of(clip, *, peak=None, devices=1, frozen=(), kinds=("long", "short"), batch_size=8):
    def pair(texts):
        return flops.train_pair(clip, texts, batch_size=batch_size, frozen=frozen)

    return throughput.Throughput(pair, kinds, batch_size, devices, peak)


def test_full_rows_give_the_flops_of_the_plan(clip):
    """Three steps of eight pairs in two seconds on four devices, every slot with a token."""
    texts = Texts.of([64, 32] * 8 * 3)
    rates = speed_of(clip, devices=4, peak=1e9).rates(3, 2.0, texts, texts)
    pair = flops.train_pair(clip, (64, 32), batch_size=8)
    assert rates["pairs_per_second"] == 12
    assert rates["tflops_useful"] == pytest.approx(12 / 4 * pair.useful / 1e12)
    assert rates["tflops_executed"] == pytest.approx(12 / 4 * pair.executed / 1e12)
    assert rates["mfu"] == pytest.approx(rates["tflops_useful"] * 1e12 / 1e9)


def test_padding_is_executed_and_not_useful(clip):
    speed = speed_of(clip)
    slots = Texts.of([64, 32] * 8)
    full, half = (speed.rates(1, 1.0, texts, slots) for texts in (slots, Texts.of([32, 16] * 8)))
    assert full["tflops_executed"] == half["tflops_executed"]
    assert full["tflops_useful"] > half["tflops_useful"]
    assert "mfu" not in full  # no peak is known


def test_slots_of_a_batch(clip):
    pairs = np.zeros((8, 64, 64, 3))
    padded = {"image": pairs, "long": np.zeros((8, 64)), "short": np.zeros((8, 32)), "has_long": np.zeros(8)}
    packed = {"image": pairs, "ids": np.zeros((5, 96)), "positions": np.zeros((5, 96)), "long_span": np.zeros((8, 2))}
    assert speed_of(clip).slots(padded) == Texts.of([64, 32] * 8)
    assert speed_of(clip, kinds=("short",)).slots(padded) == Texts.of([32] * 8)
    assert speed_of(clip).slots(packed) == Texts(16, 5 * 96, 5 * 96**2)
    assert speed_of(clip).texts(100.0, 900.0) == Texts(16, 100, 900)


def test_a_run_is_reckoned_with_its_own_settings(clip):
    config = defaults()
    config.batch_size, config.train.microbatches, config.loss.form, config.loss.long_weight = 8, 2, "ring", 1.0
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    trainable = {"image": {"a": False, "b": False}, "text": {"a": True, "b": False}, "logit_scale": True}
    speed = throughput.of_run(config, clip, trainable, mesh)
    assert (speed.kinds, speed.batch_size, speed.devices, speed.peak) == (("long",), 8, 1, None)
    expected = flops.train_pair(clip, [64], batch_size=8, microbatches=2, form="ring", frozen=("image",))
    assert speed.pair([Texts.of([64])]) == expected
