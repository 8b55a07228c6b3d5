import pytest

from lrsclip_jax import chips
from lrsclip_jax.chips import GIB
from lrsclip_jax.errors import InputError


def test_chips_are_found_by_the_name_that_jax_gives():
    assert chips.find("TPU v5 lite").name == "TPU v5e"
    assert chips.find("NVIDIA H100 80GB HBM3").flops == 989e12
    assert chips.find("cpu") is None


@pytest.mark.parametrize("kind", chips._CHIPS)
def test_units(kind):
    chip = chips.find(kind)
    assert 50e12 < chip.flops < 3e15
    assert chip.float32 < chip.flops
    assert 15 * GIB < chip.memory < 200 * GIB
    assert 0.2e12 < chip.bandwidth < 10e12
    assert 10e9 < chip.interconnect < 1e12
    assert 10e9 < chip.host < 100e9 < chip.bandwidth
    assert chip.source.startswith("https://")


def test_chips_are_named_as_people_write():
    assert chips.named("h100-sxm") is chips.find("NVIDIA H100 80GB HBM3")
    assert chips.named("TPU v5e") is chips.find("TPU v5 lite")
    with pytest.raises(InputError, match="unknown chip 'h100-sxn', did you mean 'h100-sxm'"):
        chips.named("h100-sxn")
