import itertools
import operator
import os
import threading

import pytest

from lrsclip_jax.data.parallel import in_processes, in_threads
from lrsclip_jax.errors import InputError


def test_results_of_threads_come_in_order_and_arguments_are_drawn_as_needed():
    drawn, used = [], set()
    arguments = (drawn.append(i) or i for i in itertools.count())
    results = in_threads(lambda i: used.add(threading.current_thread()) or -i, arguments)
    assert list(itertools.islice(results, 30)) == [-i for i in range(30)]
    results.close()
    assert len(drawn) <= 30 + 4 * os.cpu_count()
    assert threading.current_thread() not in used
    assert list(in_threads(operator.neg, [])) == []


def test_an_error_of_a_thread_comes_when_its_result_is_due():
    results = in_threads(lambda i: 6 // i, iter((3, 2, 0, 1)))
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_of_processes_come_in_order_and_arguments_are_drawn_as_needed(workers):
    drawn = []
    arguments = (drawn.append(i) or i for i in itertools.count())
    results = in_processes(operator.neg, arguments, workers)
    assert list(itertools.islice(results, 30)) == [(i, -i) for i in range(30)]
    results.close()
    assert len(drawn) <= 30 + 4 * workers


def test_every_argument_has_its_result():
    assert list(in_processes(operator.neg, range(3), 2)) == [(0, 0), (1, -1), (2, -2)]
    assert list(in_processes(operator.neg, [], 2)) == []


def test_a_dead_worker_is_reported():
    with pytest.raises(InputError, match="a worker process died .* fewer --workers"):
        list(in_processes(os._exit, [1], 2))
