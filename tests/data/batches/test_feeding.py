import gc
import itertools
import sys
import threading
import time

import pytest

from lrsclip_jax.data.batches.feeding import feed


def made(example, batch_size, assemble):
    """Begins batches of assemble(step, example of each position)."""

    def begin(step):
        examples = [None] * batch_size

        def fill(rows):
            for row in rows:
                examples[row] = example(step * batch_size + row)

        return fill, lambda: assemble(step, examples)

    return begin


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("feed")}


def ended() -> bool:
    return any(not threads() or time.sleep(0.01) for _ in range(500))


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batches_are_in_order_from_the_step_asked_for(batch_size, count):
    def example(position: int) -> int:
        time.sleep(0.001 * (position % 3 == 0))  # so that they end in another order than they begin
        return position**2

    batches = feed(
        made(example, batch_size, lambda step, examples: (step, examples)), batch_size, start=3, threads=count
    )
    for step, batch in enumerate(itertools.islice(batches, 4), start=3):
        assert batch == (step, [position**2 for position in range(step * batch_size, (step + 1) * batch_size)])
    batches.close()
    assert ended()


def test_every_thread_works_on_a_batch_and_few_batches_are_begun():
    seen, together = set(), threading.Barrier(4)

    def example(position: int) -> int:
        seen.add(position // 8)
        if position in (0, 2, 4, 6):
            together.wait(timeout=20)  # passed only by four threads, each at the begin of its part
        return position

    batches = feed(made(example, 8, lambda step, examples: examples), 8, threads=4)
    assert next(batches) == list(range(8))
    deadline = time.monotonic() + 10
    while seen != {0, 1, 2} and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert seen == {0, 1, 2}  # the reader's and the two ahead of it
    batches.close()


@pytest.mark.parametrize("where", ["example", "assemble"])
def test_errors_reach_the_reader_in_their_place(where):
    def example(position: int) -> int:
        if where == "example" and position == 21:
            raise ValueError("record 21")
        return position

    def assemble(step: int, examples: list[int]) -> int:
        if where == "assemble" and step == 2:
            raise ValueError("record 21")
        return step

    batches = feed(made(example, 10, assemble), 10, threads=3)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match="record 21"):
        next(batches)
    assert ended()
    with pytest.raises(StopIteration):
        next(batches)


def test_what_was_there_before_is_left_out_of_collections_meanwhile():
    batches = feed(made(int, 4, lambda step, examples: examples), 4, threads=2)
    next(batches)
    assert gc.get_freeze_count() > 0
    batches.close()
    assert gc.get_freeze_count() == 0


def test_threads_end_with_an_iterator_that_nobody_holds():
    batches = feed(made(int, 4, lambda step, examples: examples), 4, threads=2)
    assert next(batches) == [0, 1, 2, 3] and threads()
    assert sys.getrefcount(batches) == 2
    del batches
    assert ended()
