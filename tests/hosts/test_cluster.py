import os
import socket
import sys
import types

import pytest
from jax._src.clusters import cloud_tpu_cluster

from lrsclip_jax.errors import InputError
from lrsclip_jax.hosts import cluster

HOSTS = {"node1": "10.0.0.1", "worker-a": "10.0.0.2", "debian": "127.0.1.1", "localhost": "127.0.0.1"}
SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


def plain(coordinator="10.0.0.1:1234", count="4", index="3"):
    given = {"JAX_COORDINATOR_ADDRESS": coordinator, "JAX_NUM_PROCESSES": count, "JAX_PROCESS_ID": index}
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture
def find(monkeypatch):
    """`cluster.find` in an environment of nothing but the given variables, among HOSTS."""

    def resolve(host, *_, **__):
        if host not in HOSTS:
            raise socket.gaierror(f"no {host}")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOSTS[host], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "gethostbyname", lambda host: resolve(host)[0][4][0])

    def found(variables):
        monkeypatch.setattr(os, "environ", variables)
        return cluster.find(1)

    return found


@pytest.mark.parametrize(
    "variables",
    [
        {},
        plain(count="1", index="0"),
        {"JAX_NUM_PROCESSES": "1"} | SLURM,
        SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "8"},  # a batch script outside of srun
    ],
)
def test_a_process_that_is_alone(find, variables):
    assert find(variables) is None


def test_plain_variables(find):
    assert find(plain()) == ("10.0.0.1:1234", 4, 3, None)
    assert find(plain("node1:80") | SLURM) == ("node1:80", 4, 3, None)  # they come first
    assert find(plain("not-yet-up:80")).coordinator == "not-yet-up:80"
    assert find(plain("[::1]:80")).coordinator == "[::1]:80"


def test_slurm(find):
    assert find(SLURM) == (f"node1:{61440 + 12345 % 4096}", 8, 5, [1])
    assert find(SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}).devices == [1]
    assert find(SLURM | {"JAX_COORDINATOR_ADDRESS": "10.1.1.1:99"}).coordinator == "10.1.1.1:99"


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"},  # a task a node
        {"CUDA_VISIBLE_DEVICES": "1"},  # bound by SLURM
        {"JAX_LOCAL_DEVICE_IDS": "2,3"},  # read by jax.distributed.initialize
    ],
)
def test_a_slurm_task_that_needs_no_choice_of_gpu(find, variables):
    assert find(SLURM | variables).devices is None


def test_a_tpu_slice_on_gke(find, monkeypatch):
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    gke = dict.fromkeys(("MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID"), "")
    gke["TPU_SKIP_MDS_QUERY"] = "true"
    assert find(gke | {"TPU_WORKER_HOSTNAMES": "worker-a,worker-b", "TPU_WORKER_ID": "1"}) == (
        "worker-a:8482",
        2,
        1,
        None,
    )
    assert find(gke | {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}) is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (plain(count=None), "without JAX_NUM_PROCESSES: set all three"),
        (plain(coordinator=None, index=None), "JAX_NUM_PROCESSES=4 without JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID"),
        (plain(index="4"), "JAX_PROCESS_ID is 4: the 4 processes are numbered from 0 to 3"),
        (plain(count="four"), "JAX_NUM_PROCESSES=four: write a whole number"),
        (plain(index="-1"), "JAX_PROCESS_ID=-1: write a whole number"),
        (plain("10.0.0.1"), "write HOST:PORT"),
        (plain("debian:1234"), "debian:1234 is 127.0.1.1 on this machine, where no other host can reach it"),
        (SLURM | {"SLURM_STEP_NODELIST": "debian"}, "write process 0's IP address instead"),
        ({"JOB_COMPLETION_INDEX": "0"}, "pod 0 of an indexed Job, and nothing tells it of the others"),
    ],
)
def test_bad_environments_are_one_clear_line(find, variables, message):
    with pytest.raises(InputError, match=message) as error:
        find(variables)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("coordinator", ["localhost:1", "127.0.0.1:1", "127.0.1.1:1", "[::1]:1"])
def test_a_loopback_written_on_purpose_is_for_processes_on_one_host(find, coordinator):
    assert find(plain(coordinator)).coordinator == coordinator


def test_a_step_on_one_node_may_have_a_loopback_name(find):
    assert find(SLURM | {"SLURM_STEP_NODELIST": "debian", "SLURM_STEP_NUM_NODES": "1"}).count == 8


def test_a_detection_that_fails_says_how_to_do_without_it(find, monkeypatch):
    def refuse():
        raise RuntimeError("no\nservice account")

    kubernetes = types.SimpleNamespace(config=types.SimpleNamespace(load_incluster_config=refuse))
    monkeypatch.setitem(sys.modules, "kubernetes", kubernetes)
    with pytest.raises(InputError, match=r"\(no service account\): set .* or JAX_NUM_PROCESSES=1") as error:
        find({"KUBERNETES_SERVICE_HOST": "10.0.0.9"})
    assert "\n" not in str(error.value)
