"""Logistic regression on features of one common scale, as the linear probe and few-shot classification fit it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from eval.errors import InputError

MAX_ITERATIONS = 1000

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def root_mean_square(rows: np.ndarray) -> float:
    """Returns the root mean square of all values, by which features are divided; InputError where all are zero."""
    rms = float(np.sqrt(np.mean(np.square(rows, dtype=np.float64))))
    if rms == 0:
        raise InputError("all values of train are zero: there is nothing to learn from")
    return rms


def scaled(rows: np.ndarray, rms: float) -> np.ndarray:
    """Returns rows divided by `rms`, float64: lbfgs takes more steps, and other ones, in float32."""
    return rows.astype(np.float64) / rms


def fit(rows: np.ndarray, classes: np.ndarray, C: float, rms: float) -> LogisticRegression:
    """Returns scikit-learn's multinomial logistic regression, its defaults but for C and the iterations.

    Args:
      rows: to fit, divided by `rms`.
      classes: their numbers.
      C: inverse regularisation, on such rows.
      rms: the divisor. The model that comes back predicts from rows as they are.
    """
    model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS).fit(rows, classes)
    model.coef_ /= rms
    return model


def converged(model: LogisticRegression) -> bool:
    """Returns whether a fit ended before its last iteration."""
    return int(model.n_iter_.max()) < MAX_ITERATIONS


def fits(function: Callable[[Argument], Result], arguments: Sequence[Argument], name: str) -> list[Result]:
    """Returns the function's result for each argument; it fits a model, and all of them side by side.

    Every fit has one thread: the products of a step are so small that threads which share one wait for each other,
    ten times as long on busy cores.
    """
    with warnings.catch_warnings(), threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` tells
        warnings.filterwarnings("ignore", "The number of unique classes")  # where one shot is drawn
        results = threads.map(function, arguments)
        return list(tqdm(results, desc=name, total=len(arguments), unit="fit", disable=None, leave=False))
