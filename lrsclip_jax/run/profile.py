"""A trace of a few steps, of the host and of the devices, by JAX's profiler."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
from etils import epath


class Profile:
    """Traces some steps of a run into its folder.

    Use it as a context around the loop; a trace that is still running ends with it.
    """

    def __init__(
        self, span: tuple[int, int] | None, run: epath.Path, aside: Callable[[], AbstractContextManager] = nullcontext
    ):
        """Begins without a trace.

        Args:
          span: the first and the last step to trace, `config.log.profile`; None: no steps.
          run: the run's folder.
          aside: returns a context for the time that a trace takes to begin and to end.
        """
        self._first, self._last = span or (1, 0)
        self._folder = run / "profile"
        self._aside = aside
        self._scratch: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            self._end(self._scratch)

    def before(self, step: int) -> None:
        """Begins the trace if this is one of its steps; call it before anything of the step."""
        if self._scratch is None and self._first <= step <= self._last:
            with self._aside():
                self._scratch = tempfile.TemporaryDirectory()  # the profiler writes to local disks only
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0  # tracing Python would slow all of it
                jax.profiler.start_trace(self._scratch.name, profiler_options=options)

    def after(self, step: int, results: Any) -> None:
        """Ends the trace if this is its last step, once the step's `results` are computed."""
        if self._scratch is not None and step == self._last:
            jax.block_until_ready(results)
            with self._aside():
                self._end(self._scratch)

    def _end(self, scratch: tempfile.TemporaryDirectory) -> None:
        self._scratch = None
        with scratch as traced:
            jax.profiler.stop_trace()
            for file in filter(Path.is_file, Path(traced).rglob("*")):
                copy = self._folder / file.relative_to(traced).as_posix()
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
        print(
            f"profile of steps {self._first} to {self._last}: {self._folder}; to look at it: pip install xprof, "
            f"xprof --logdir={self._folder}, or drop its …trace.json.gz on ui.perfetto.dev",
            file=sys.stderr,
        )


def annotated(step: int) -> jax.profiler.StepTraceAnnotation:
    """A context that a trace shows as this step."""
    return jax.profiler.StepTraceAnnotation("train", step_num=step)
