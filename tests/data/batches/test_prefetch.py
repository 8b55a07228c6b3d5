import threading

import pytest

from lrsclip_jax.data.batches import prefetch


def test_batches_come_in_order_and_are_put_by_another_thread():
    threads = set()

    def put(batch: int) -> int:
        threads.add(threading.current_thread())
        return -batch

    assert [*prefetch.ahead(iter(range(7)), put)] == [-batch for batch in range(7)]
    assert len(threads) == 1 and threading.current_thread() not in threads
    assert [*prefetch.ahead(iter(()), put)] == []


def test_it_is_so_many_batches_ahead_and_no_more():
    read, more = [], threading.Semaphore(0)

    def batches():
        for batch in range(100):
            read.append(batch)
            more.release()
            yield batch

    ahead = prefetch.ahead(batches(), lambda batch: batch, depth=2)
    assert read == []  # nothing before it is asked for
    for batch in range(3):
        assert next(ahead) == batch
        while len(read) < batch + 3:
            assert more.acquire(timeout=10)
    ahead.close()
    assert read == [0, 1, 2, 3, 4]


def test_an_error_comes_when_its_batch_is_due():
    def batches():
        yield from (1, 2)
        raise OSError("torn")

    ahead = prefetch.ahead(batches(), lambda batch: batch)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="torn"):
        next(ahead)
    ahead = prefetch.ahead(iter((1, 0, 2)), lambda batch: 1 // batch)
    assert next(ahead) == 1
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_closing_ends_its_thread():
    ahead = prefetch.ahead(iter(range(9)), lambda _: threading.current_thread())
    thread = next(ahead)
    assert thread.is_alive()
    ahead.close()
    thread.join(10)
    assert not thread.is_alive()
