import gc

import jax
import numpy as np

from lrsclip_jax.data.batches.recycling import recycled


def test_memory_is_used_again_when_nobody_holds_it():
    take = recycled((4, 5, 3), np.uint8)
    first = take()
    assert first.shape == (4, 5, 3) and first.dtype == np.uint8 and first.flags.writeable
    place = first.ctypes.data
    part = first[1:].reshape(-1)[::2]
    del first
    gc.collect()
    part[:] = 7
    second = take()  # a view of the first is still held
    second[:] = 1
    assert second.ctypes.data != place and (part == 7).all()
    del part
    third = take()
    assert third.ctypes.data == place
    assert take().ctypes.data not in (second.ctypes.data, place)


def test_an_array_on_the_device_keeps_its_values():
    take = recycled((512, 1024), np.float32)
    kept = []
    for value in range(6):
        array = take()
        array[:] = value
        kept.append(jax.device_put(array))  # may share the memory
        del array
    for value, array in enumerate(kept):
        assert (np.asarray(array) == value).all()
