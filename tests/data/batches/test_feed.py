import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from lrsclip_jax.data.batches.feed import feed, recycled
from lrsclip_jax.errors import InputError


def numbered(positions, images):
    """Images that hold their positions, and the positions."""
    images[:] = np.asarray(positions)[:, None] % 251
    return positions


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("grain-")}


def ended() -> bool:
    return any(not threads() or time.sleep(0.01) for _ in range(500))


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batches_are_in_order_from_the_step_asked_for(batch_size, count):
    def read(positions, images):
        time.sleep(0.002 * (positions[0] % 3 == 0))  # so that they end in another order than they begin
        return numbered(positions, images)

    batches = feed(read, np.arange(batch_size), batch_size, (3,), start=3, threads=count)
    for step, (images, found) in enumerate(itertools.islice(batches, 4), start=3):
        expected = list(range(step * batch_size, (step + 1) * batch_size))
        assert [position for run in found for position in run] == expected
        np.testing.assert_array_equal(images, np.repeat(np.asarray(expected)[:, None] % 251, 3, axis=1))
    batches.close()
    assert ended()


def test_a_host_reads_its_rows_of_the_global_batch():
    rows = np.asarray([7, 0, 1, 30, 12])
    batches = feed(numbered, rows, 32, (1,), start=10, threads=2)
    for step, (images, found) in enumerate(itertools.islice(batches, 3), start=10):
        assert [position for run in found for position in run] == (step * 32 + rows).tolist()
        assert images[:, 0].tolist() == ((step * 32 + rows) % 251).tolist()


def test_every_thread_works_on_a_batch_and_few_batches_are_begun():
    seen, together = set(), threading.Barrier(4)

    def read(positions, images):
        seen.update(position // 8 for position in positions)
        if positions[0] < 8:
            together.wait(timeout=20)  # passed only by four threads, each at the begin of its part
        return positions

    batches = feed(read, np.arange(8), 8, (1,), threads=4)
    next(batches)
    deadline = time.monotonic() + 10
    while seen != {0, 1, 2} and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert seen == {0, 1, 2}  # the reader's and the two ahead of it
    batches.close()


def test_errors_reach_the_reader_in_their_place():
    def read(positions, images):
        if 21 in positions:
            raise ValueError("record 21")
        return positions

    batches = feed(read, np.arange(10), 10, (1,), threads=3)
    assert [sum(next(batches)[1], []) for _ in range(2)] == [list(range(10)), list(range(10, 20))]
    with pytest.raises(ValueError, match="record 21"):
        next(batches)
    assert ended()
    with pytest.raises(StopIteration):
        next(batches)


def test_threads_end_with_an_iterator_that_nobody_holds():
    batches = feed(numbered, np.arange(4), 4, (1,), threads=2)
    next(batches)
    assert threads()
    assert sys.getrefcount(batches) == 2
    del batches
    assert ended()


def test_few_arrays_are_made_however_long_the_run():
    places = set()
    for images, _ in itertools.islice(feed(numbered, np.arange(8), 8, (3000,), threads=2), 30):
        places.add(images.ctypes.data)
    assert len(places) <= 4  # the reader's, the two ahead of it, and the next


def test_memory_is_used_again_when_nobody_holds_it():
    take = recycled((4, 5, 3))
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
    take = recycled((2048, 1024))
    kept = []
    for value in range(6):
        array = take()
        array[:] = value
        kept.append(jax.device_put(array))  # may share the memory
        del array
    for value, array in enumerate(kept):
        assert (np.asarray(array) == value).all()


def children() -> set[str]:
    """The worker processes of this one that are still there."""
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return {child for child in path.read_text().split() if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def test_processes_make_the_same_batches_and_end():
    def read(positions, images):
        backends = sys.modules["jax._src.xla_bridge"]._backends if "jax" in sys.modules else {}
        return os.getpid(), len(backends), numbered(positions, images)

    before = children()
    batches = feed(read, np.arange(40), 50, (3,), start=2, threads=2, workers=2)
    found = list(itertools.islice(batches, 3))
    batches.close()
    for step, (images, runs) in enumerate(found, start=2):
        positions = [position for _, _, run in runs for position in run]
        assert positions == list(range(step * 50, step * 50 + 40))
        assert images[:, 0].tolist() == [position % 251 for position in positions]
        assert len({process for process, _, _ in runs} - {os.getpid()}) == 2
        assert all(backends == 0 for _, backends, _ in runs)  # Grain imports JAX; no device is touched
    assert children() == before


@pytest.mark.parametrize("case", ["an error", "one that can't be pickled"])
def test_an_error_of_a_process_reaches_the_reader_in_its_place(case):
    def read(positions, images):
        if 17 in positions:
            error = OSError(28, "No space left on device", "record 17")
            if case != "an error":
                error = ValueError("record 17")
                error.lock = threading.Lock()
            raise error
        return positions

    expected, message = {
        "an error": (OSError, "No space left on device: 'record 17'"),
        "one that can't be pickled": (RuntimeError, "ValueError: record 17"),
    }[case]
    before = children()
    batches = feed(read, np.arange(8), 8, (1,), threads=1, workers=1)
    assert [sum(next(batches)[1], []) for _ in range(2)] == [list(range(8)), list(range(8, 16))]
    with pytest.raises(expected, match=message):
        next(batches)
    assert children() == before


def test_the_end_of_a_process_is_an_error_that_says_what_to_do():
    def read(positions, images):
        if 17 in positions:
            os._exit(9)
        return positions

    before = children()
    with pytest.raises(InputError, match="a data worker died .* fewer data.workers continues"):
        list(itertools.islice(feed(read, np.arange(8), 8, (1,), threads=1, workers=1), 3))
    assert children() == before


ENDLESS = """
import signal
import time
import numpy as np
from lrsclip_jax.data.batches.feed import feed

def read(positions, images):
    time.sleep(0.02)
    return positions

if __name__ == "__main__":
    try:
        for images, _ in feed(read, np.arange(8), 8, (1,), threads=2, workers=2):
            print("batch", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("end", ["kill", "interrupt"])
def test_processes_end_with_their_parent(tmp_path, end):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    parent = subprocess.Popen([sys.executable, str(script)], start_new_session=True, **pipes)
    assert parent.stdout.readline() == "batch\n"
    if end == "kill":
        parent.kill()
    else:
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: the workers hear it, too
    output, errors = parent.communicate(timeout=120)
    if end == "interrupt":
        assert (parent.returncode, output.splitlines()[-1], errors) == (0, "interrupted", "")
    deadline = time.monotonic() + 60
    while group(parent.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not group(parent.pid)


def group(number: int) -> list[str]:
    """The processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z" and int(fields[2]) == number:
            found.append(path.parent.name)
    return found
