"""Spans encoded by all machines of a Ray cluster: the parts of an index that `indexing.here` makes on one.

An encoder is an actor, one for each GPU or, without any, for each machine; it loads the checkpoint and reads the scenes
itself. lrsclip_jax is installed on every machine, and all of them see checkpoint and scenes under the same names. The
driver writes the parts. Another machine does again the work of a lost one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrsclip_jax.corpus.stages.ray_engine import started
from lrsclip_jax.errors import InputError
from lrsclip_jax.pretrained import Pretrained
from lrsclip_jax.search.catalogues import Entry, Unreadable, unreadable
from lrsclip_jax.search.index_parts import PART, Covered
from lrsclip_jax.search.index_settings import Settings
from lrsclip_jax.search.scene_tiles import TiledScene, tiled
from lrsclip_jax.search.tile_reading import Span

_AHEAD = 2  # tasks of an encoder
_ATTEMPTS = 3
Task = Sequence[tuple[Entry, int, int]]  # tiles of scenes


class _Done(NamedTuple):
    """What an encoder has made of a task: parts, faults that may pass, and tiles with those that are empty."""

    parts: list[tuple[list[Covered], list[dict[str, Any]], np.ndarray]]
    passing: dict[str, Unreadable]
    tiles: int
    empty: int


def on_ray(
    model: Pretrained, spans: Sequence[Span], settings: Settings, save: Any, progress: Any
) -> dict[str, Unreadable]:
    """Does what `indexing.here` does, on the cluster at RAY_ADDRESS or, without one, on this machine.

    Raises:
      InputError: Ray is not installed, there is no such cluster, an encoder was lost too often, and errors of `save`.
    """
    ray = started()
    gpus = int(ray.cluster_resources().get("GPU", 0))
    machines = sum(node["Alive"] for node in ray.nodes())
    tasks = list(_tasks(spans))
    options = {"max_restarts": _ATTEMPTS, "max_task_retries": _ATTEMPTS, "scheduling_strategy": "SPREAD"}
    actor = ray.remote(**options, num_cpus=1, num_gpus=1 if gpus else 0)(_Encoder)
    count = min(gpus or machines, len(tasks))
    encoders = [actor.remote(model.source, model.dtype, model.batch_size, settings) for _ in range(count)]
    passing: dict[str, Unreadable] = {}
    waiting = iter(tasks)
    running = {}
    try:
        for encoder in encoders * _AHEAD:
            if (task := next(waiting, None)) is not None:
                running[encoder.encode.remote(task)] = encoder
        while running:
            [ready], _ = ray.wait(list(running))
            encoder = running.pop(ready)
            done = _result(ray, ready)
            if (task := next(waiting, None)) is not None:
                running[encoder.encode.remote(task)] = encoder
            for part in done.parts:
                save(*part)
            passing |= done.passing
            progress(done.tiles, done.empty)
    finally:
        for encoder in encoders:
            ray.kill(encoder)
    return passing


class _Encoder:
    """Lives on a machine of the cluster: a model, and the scenes that it was asked for."""

    def __init__(self, source: str, dtype: str, batch_size: int, settings: Settings):
        from lrsclip_jax import pretrained
        from lrsclip_jax.search.tile_reading import span_reader

        self._settings = settings
        self._model = pretrained.load(source, dtype=dtype, batch_size=batch_size, layout=settings.layout)
        self._read = span_reader(settings, self._model.preprocessing)
        self._scenes: dict[Entry, TiledScene | Unreadable] = {}

    def encode(self, task: Task) -> _Done | InputError:
        from lrsclip_jax.search.encoding import encode
        from lrsclip_jax.search.tile_reading import ReadSpan, spans_of

        parts: list[Any] = []
        spans: list[Span] = []
        passing: dict[str, Unreadable] = {}
        counts = [0, 0]
        for entry, start, stop in task:
            scene = self._scene(entry)
            if isinstance(scene, Unreadable):
                passing[entry.scene] = scene
            else:
                spans += spans_of(scene, [(0, start), (stop, len(scene.windows))])

        def progress(found: ReadSpan) -> None:
            counts[0] += found.span.stop - found.span.start
            counts[1] += found.empty

        def save(*part: Any) -> None:
            parts.append(part)

        try:
            passing |= encode(self._model, spans, self._read, save, progress)
        except InputError as error:  # raised through Ray it would come with a traceback
            return error
        return _Done(parts, passing, *counts)

    def _scene(self, entry: Entry) -> TiledScene | Unreadable:
        if entry not in self._scenes:
            self._scenes.clear()  # scenes come one after the other
            try:
                self._scenes[entry] = tiled(entry, self._settings)
            except (InputError, OSError) as error:
                self._scenes[entry] = unreadable(entry, error)
        return self._scenes[entry]


def _tasks(spans: Sequence[Span]) -> Iterator[Task]:
    """Yields spans in tasks of about as many tiles as a part has; neighbours are joined."""
    task: list[tuple[Entry, int, int]] = []
    tiles = 0
    for span in spans:
        entry = span.scene.entry
        if task and task[-1][0] is entry and task[-1][2] == span.start:
            task[-1] = (entry, task[-1][1], span.stop)
        else:
            task.append((entry, span.start, span.stop))
        tiles += span.stop - span.start
        if tiles >= PART:
            yield task
            task, tiles = [], 0
    if task:
        yield task


def _result(ray: Any, ready: Any) -> _Done:
    try:
        done = ray.get(ready)
    except ray.exceptions.RayError as error:
        said = " ".join(str(error).split())
        raise InputError(f"an encoder was lost ({said:.200}): the same command continues") from None
    if isinstance(done, InputError):
        raise done
    return done
