import itertools
import operator
import os

import pytest

from lrsclip_jax.data.workers import ordered_map
from lrsclip_jax.errors import InputError


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_arguments_are_drawn_as_needed(workers):
    drawn = []
    arguments = (drawn.append(i) or i for i in itertools.count())
    results = ordered_map(operator.neg, arguments, workers)
    assert list(itertools.islice(results, 30)) == [(i, -i) for i in range(30)]
    results.close()
    assert len(drawn) <= 30 + 4 * workers


def test_every_argument_has_its_result():
    assert list(ordered_map(operator.neg, range(3), 2)) == [(0, 0), (1, -1), (2, -2)]
    assert list(ordered_map(operator.neg, [], 2)) == []


def test_a_dead_worker_is_reported():
    with pytest.raises(InputError, match="a worker process died .* fewer --workers"):
        list(ordered_map(os._exit, [1], 2))
