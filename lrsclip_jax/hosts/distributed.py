"""Several processes as one run: joined by `jax.distributed`, agreed on what must be the same, ended together.

All that is exchanged here goes through the coordinator's key-value service. It works before any device is up and
between different versions of jax, so it can report what would make a collective hang or fail without a word.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

import jax
from etils import epath
from jax._src.distributed import global_state  # the only door to the key-value service; Orbax uses it, too

from lrsclip_jax.config import ConfigDict
from lrsclip_jax.errors import DEFECT, InputError, told
from lrsclip_jax.hosts import cluster
from lrsclip_jax.parameter_rules import path_of

# Processes that die are noticed by their heartbeats; this is for those that live and do something else for too long.
_PATIENCE_SECONDS = 3600
# How long the coordinator outlives an error, so that the others can say what they met: they end with it.
_LAST_WORDS_SECONDS = 3

_exchanges = itertools.count()  # every process takes part in the same exchanges in the same order


@contextlib.contextmanager
def joined(config: ConfigDict, *, initialization_seconds: float = 1800) -> Iterator[None]:
    """A context in which the processes of a run are joined and agree; for a process that is alone it does nothing.

    To be entered before anything touches a device. On CPU the collectives are Gloo's, JAX's default. An error that
    leaves the context ends a joined process at once, with the message and status of `errors.cli`: JAX's own way out
    would wait for the other processes, which wait for this one.

    Args:
      config: the run's config, the same for all; a process that was silent for its `train.heartbeat_seconds` counts as
        dead, and the others end.
      initialization_seconds: how long to wait for the others; a cold start of many hosts takes its time.

    Raises:
      InputError: if the environment makes no sense, or, in all processes together, if they differ in their config,
        versions or devices.
    """
    place = cluster.find(initialization_seconds)
    if place is None:
        yield
        return
    _connect(place, initialization_seconds, config.train.heartbeat_seconds)
    try:
        check_agreement(_exchange(_about(config, place)))
        check_devices(jax.devices())
        yield
    except BaseException as error:
        _leave(error, place)


def first(task: Callable[[], Any]) -> None:
    """Runs `task` in process 0 while the others wait; an InputError of it is raised in all."""
    from_first(lambda: (task(), None)[1])


def from_first(task: Callable[[], Any]) -> Any:
    """Returns in all processes what `task` returns in process 0, a JSON value; an InputError of it is raised in all."""
    result, failure = None, None
    if global_state.process_id == 0:
        try:
            result = task()
        except InputError as error:
            failure = str(error)
    result, failure = _exchange([result, failure])[0]
    if failure is not None:
        raise InputError(failure)
    return result


def check_shared(folder: epath.Path, patience_seconds: float = 30) -> None:
    """Raises InputError in all processes unless all see what process 0 writes into `folder`, local or gs://….

    Network file systems may show a new file late: it is looked for until `patience_seconds` are over.
    """
    marker = folder / f"seen-by-all-{_exchange(secrets.token_hex(4))[0]}"
    first(lambda: _touch(marker))
    deadline = time.monotonic() + patience_seconds
    while not (seen := marker.exists()) and time.monotonic() < deadline:
        time.sleep(0.5)
    answers = _exchange({"seen": seen, "host": socket.gethostname()})
    first(marker.unlink)
    blind = [f"process {index} ({answer['host']})" for index, answer in enumerate(answers) if not answer["seen"]]
    if blind:
        raise InputError(
            f"{_listed(blind)} can't see what process 0 ({answers[0]['host']}) writes into --workdir={folder}: "
            "give a folder that all hosts share, or gs://…"
        )


def check_agreement(abouts: Sequence[dict[str, Any]]) -> None:
    """Raises InputError if what processes say of themselves differs; `abouts[i]` is `_about` of process i."""
    differences = []
    for index, about in enumerate(abouts):
        for name in about["same"].keys() | abouts[0]["same"].keys():
            here, there = about["same"].get(name), abouts[0]["same"].get(name)
            if here != there:
                differences.append(f"{name} is {here} in process {index} ({about['host']}), {there} in process 0")
    if differences:
        raise InputError(
            f"the processes differ: {_listed(sorted(differences))}: start the same command with the same packages "
            "on every host"
        )


def check_devices(devices: Sequence[jax.Device]) -> None:
    """Raises InputError unless every process of the global list `devices` has as many and the same devices."""
    kinds: dict[int, Counter[str]] = {}
    for device in devices:
        kinds.setdefault(device.process_index, Counter())[device.device_kind] += 1
    held = {
        index: " + ".join(f"{count} × {kind}" for kind, count in sorted(kinds[index].items()))
        for index in sorted(kinds)
    }
    differences = [f"process {index} has {what}" for index, what in held.items() if what != held[0]]
    if differences:
        raise InputError(
            f"process 0 has {held[0]}, but {_listed(differences)}: give every process the same devices "
            "(CUDA_VISIBLE_DEVICES, JAX_LOCAL_DEVICE_IDS, a chip that is down?)"
        )


def _connect(place: cluster.Cluster, seconds: float, heartbeat_seconds: int) -> None:
    name = f"process {place.index} of {place.count}"
    print(f"{name}: joining the others at {place.coordinator}", file=sys.stderr, flush=True)

    def give_up() -> None:
        print(
            f"error: {name} did not find all others at {place.coordinator} within {seconds:g} s: does the command run "
            "on every host, with the same coordinator and count and a number of its own, and is the port open to all?",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # unlike bad input, a host that is late may be there at the next start

    # JAX would catch SIGTERM from here on, and the run has an answer of its own (preemption.py).
    jax.config.update("jax_enable_preemption_service", False)
    # When its own time is over, JAX aborts the process with a stack trace.
    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            place.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=int(seconds) + 60,
            heartbeat_timeout_seconds=heartbeat_seconds,
        )
    except RuntimeError as error:
        hint = ": is its port taken? choose another one" if place.index == 0 else ""
        raise InputError(f"{name} can't join at {place.coordinator} ({str(error).splitlines()[0]}){hint}") from error
    finally:
        timer.cancel()


def _about(config: ConfigDict, place: cluster.Cluster) -> dict[str, Any]:
    same = {cluster.COUNT: place.count, cluster.COORDINATOR: place.coordinator}
    same |= {name: _version(name) for name in ("jax", "jaxlib", "libtpu", "lrsclip_jax")}
    leaves = jax.tree.leaves_with_path(config.to_dict(), is_leaf=lambda value: not isinstance(value, dict))
    same |= {f"config.{path_of(path).replace('/', '.')}": json.dumps(value) for path, value in leaves}
    return {"host": socket.gethostname(), "same": same}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _exchange(value: Any) -> list[Any]:
    """Returns the `value` of every process, by process; all call it together."""
    client = global_state.client
    if client is None:
        return [json.loads(json.dumps(value))]
    name = f"lrsclip_jax/{next(_exchanges)}"
    client.key_value_set(f"{name}/{global_state.process_id}", json.dumps(value))
    client.wait_at_barrier(name, 1000 * _PATIENCE_SECONDS)
    values = {key.rpartition("/")[2]: text for key, text in client.key_value_dir_get(f"{name}/")}
    return [json.loads(values[str(index)]) for index in range(len(values))]


def _touch(path: epath.Path) -> None:
    try:
        path.write_text("")
    except OSError as error:
        raise InputError(f"can't write to --workdir={path.parent}: {error.strerror or error}") from error


def _listed(items: Sequence[str], most: int = 4) -> str:
    return "; ".join(items[:most]) + (f"; and {len(items) - most} more" if len(items) > most else "")


def _leave(error: BaseException, place: cluster.Cluster) -> NoReturn:
    def again() -> None:
        raise error

    status = told(again)
    if status == DEFECT:
        print(
            f"process {place.index} of {place.count} ends; unless this is the first error of the run, that one is in "
            "another process's log. Start the same command again to continue.",
            file=sys.stderr,
        )
    sys.stderr.flush()
    if place.index == 0:
        time.sleep(_LAST_WORDS_SECONDS)
    os._exit(status)
