"""Where a process stands among the processes of a run, as SLURM, TPU slices, Kubernetes or plain variables tell it.

JAX knows the schedulers; what it leaves open is filled here: numbers of processes in plain variables, SLURM tasks
that have a node to themselves, and mistakes that would show up as a hang of half an hour.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

# JAX tells nobody what it would detect before it connects, so its detection itself is asked.
from jax._src.clusters import ClusterEnv

from lrsclip_jax.errors import InputError

COORDINATOR, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


class Cluster(NamedTuple):
    """The processes of a run: "HOST:PORT" of process 0, how many, which one this is, its GPUs (None: all it sees)."""

    coordinator: str
    count: int  # type: ignore[assignment]  # not the method of a tuple
    index: int  # type: ignore[assignment]  # not the method of a tuple
    devices: Sequence[int] | None


def find(timeout_seconds: float) -> Cluster | None:
    """Returns where this process stands, or None if it is alone.

    Plain variables (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID) come first; what they leave open is
    asked of JAX's detection: Open MPI, SLURM, TPU slices on GKE and Compute Engine, Kubernetes Jobs and JobSets.
    JAX_NUM_PROCESSES=1 makes a process alone, wherever it runs.

    Args:
      timeout_seconds: how long to wait for the name of process 0's host to appear in a cluster's name service.

    Raises:
      InputError: for variables that are set by halves, make no sense, or name a coordinator nobody else can reach.
    """
    coordinator, count, index, devices = os.environ.get(COORDINATOR), _number(COUNT), _number(INDEX), None
    if count == 1:
        return None
    if None in (coordinator, count, index):
        try:
            coordinator, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
                coordinator, count, index, None, None, int(timeout_seconds)
            )
        except Exception as error:  # a scheduler's client may raise anything
            raise InputError(
                f"JAX can't find the other processes ({' '.join(str(error).split())[:300]}): set {COORDINATOR}, "
                f"{COUNT} and {INDEX}, or {COUNT}=1 if this process is alone"
            ) from error
    known = {COORDINATOR: coordinator, COUNT: count, INDEX: index}
    missing = [name for name, value in known.items() if value is None]
    if len(missing) == len(known):
        _check_no_pod_among_many()
        return None
    if coordinator is None or count is None or index is None:
        given = ", ".join(f"{name}={value}" for name, value in known.items() if value is not None)
        raise InputError(f"{given} without {' and '.join(missing)}: set all three for every process, or none of them")
    if count == 1:
        return None
    if not 0 <= index < count:
        raise InputError(f"{INDEX} is {index}: the {count} processes are numbered from 0 to {count - 1}")
    _check_coordinator(coordinator)
    return Cluster(coordinator, count, index, None if _sees_only_its_own_devices() else devices)


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text is not None and not text.isdecimal():
        raise InputError(f"{name}={text}: write a whole number")
    return None if text is None else int(text)


def _check_no_pod_among_many() -> None:
    pod = os.environ.get("JOB_COMPLETION_INDEX")
    if pod is not None:
        # Pods that know nothing of each other would each train alone, all in one run folder.
        raise InputError(
            f"this is pod {pod} of an indexed Job, and nothing tells it of the others: set {COORDINATOR}, {COUNT} "
            f"and {INDEX}, or pip install kubernetes and let the pod's account read pods and jobs; "
            f"{COUNT}=1 if it is alone"
        )


def _check_coordinator(address: str) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise InputError(f"the coordinator is {address}: write HOST:PORT of process 0, with any free port")
    if _is_loopback(host) or os.environ.get("SLURM_STEP_NUM_NODES") == "1":
        return  # written on purpose, or known to be harmless: all processes on one host
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)}
    except socket.gaierror:
        return  # the names of pods appear once they run; connecting tries until its time is over
    if all(map(_is_loopback, found)):
        # Debian's installer writes "127.0.1.1 HOSTNAME" into /etc/hosts.
        raise InputError(
            f"the coordinator {address} is {', '.join(sorted(found))} on this machine, where no other host can reach "
            "it: write process 0's IP address instead, mend /etc/hosts, or write localhost if all processes run here"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _sees_only_its_own_devices() -> bool:
    # JAX gives the n-th task on a node the n-th GPU. That leaves the others idle where a task has the node to itself,
    # and does not exist where SLURM has bound the task to one GPU already (--gpus-per-task, --gpu-bind).
    alone_on_node = os.environ.get("SLURM_STEP_NUM_NODES", "") == os.environ.get("SLURM_NTASKS")
    bound = "," not in os.environ.get("CUDA_VISIBLE_DEVICES", ",")
    # JAX reads this variable itself, when it is given no devices.
    return alone_on_node or bound or "JAX_LOCAL_DEVICE_IDS" in os.environ
