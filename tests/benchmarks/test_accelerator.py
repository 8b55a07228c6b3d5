"""The command for an accelerator, rehearsed on CPU devices: what it measures, and what is left when it is cut."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import venv
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import absent, kernels
from benchmarks.accelerator import machine, page, parts
from benchmarks.accelerator.__main__ import main
from benchmarks.tables import markdown
from lrsclip_jax.errors import InputError, MissingPackage

ROOT = Path(__file__).parents[2]
BARE = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "ml_collections", "torch")


def start(out: Path, *arguments: str, only: str, python: str | Path = sys.executable) -> subprocess.Popen:
    """Starts a rehearsal."""
    return subprocess.Popen(
        [python, "-m", "benchmarks.accelerator", "--rehearse", f"--out={out}", f"--only={only}", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def bare_python(folder: Path) -> Path:
    """Returns a Python with what a GPU machine has at least, BARE and what these packages require."""
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    waiting, seen = [*BARE], set()
    while waiting:
        name = re.split(r"[ ;<>=!~\[(]", waiting.pop(), maxsplit=1)[0].lower().replace("_", "-")
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if name not in seen:
            seen.add(name)
            waiting += [need for need in found.requires or () if "extra" not in need]
            for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
                if not (packages / top).exists():
                    (packages / top).symlink_to(found.locate_file(top))
    return folder / "bin/python"


def processes_of(out: Path) -> list[str]:
    """Returns the processes that have the folder in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes()
        except OSError:
            continue
        if os.fsencode(out) in command:
            found.append(file.parent.name)
    return found


def test_time_is_shared_by_worth_and_what_one_part_saves_the_next_ones_have():
    names = list(parts.PARTS)
    first = parts.shares(names, 480)
    assert 0.2 * 480 < first < 0.4 * 480 and names[0] == "step-b16"
    assert parts.shares(names[1:], 480) > parts.shares(names[1:], 480 - first)
    assert parts.shares(names[-1:], 33) == 33


def test_a_smaller_device_has_fewer_pairs(tmp_path):
    def pairs(memory: float, model: str) -> int:
        return parts.Machine(int(memory), tmp_path, rehearsal=False).job(model).pairs

    assert pairs(0.9 * 80 * 2**30, "vitb16") == pairs(126e9, "vitb16") == 256
    assert pairs(126e9, "vitl14") == 128 and pairs(0.9 * 80 * 2**30, "vitl14") == 64
    assert pairs(0.9 * 24 * 2**30, "vitb16") == 64 and pairs(0.9 * 24 * 2**30, "vitl14") == 16


def test_aims_stand_next_to_the_packed_step_alone():
    about = {"seconds": 0.1, "pairs_per_second": 2560.0, "slowest": 2500.0, "fastest": 2600.0, "memory": 2**34}
    about |= {"times_faster": {}, "useful_flops_per_second": 3e14, "mfu": 0.36, "compile_seconds": 30.0}
    programs = [{"program": name} | about for name in ("packed", "padded")]
    result = {"model": "vitb16", "batch": 256, "programs": programs, "failed": {"PyTorch": "OutOfMemoryError: 80 GB"}}
    head, _, packed, padded, failed = (line.split(" | ") for line in markdown(parts.step_rows(result)).splitlines())
    aim = head.index("aim, pairs/s at 45 % MFU of an H100")
    assert packed[aim : aim + 3] == ["3,185", "3,900", "2"] and padded[aim : aim + 3] == ["", "", ""]
    assert packed[head.index("pairs/s")] == "2,560 (2,500 to 2,600)"
    assert failed[2] == "PyTorch" and failed[-1] == "did not run: OutOfMemoryError: 80 GB |"


def test_the_page_says_what_became_of_each_part():
    outcomes = {
        "loss": page.Outcome("cut at its 9 s", 9.2, "1980 (1200 to 1980)", [{"form": "ring"}]),
        "data": page.Outcome("skipped: grain not installed", 1.0),
        "kernels": page.Outcome(),
    }
    text = page.page({"count": 1, "kind": "NVIDIA H200", "runtime": "CUDA"}, {"jax": "0"}, outcomes, "python …")
    assert "| loss | cut at its 9 s | 9 | 1980 (1200 to 1980) |" in text
    assert "| data | skipped: grain not installed | 1 |  |" in text and "| kernels | not reached |  |  |" in text
    assert "Not whole: cut at its 9 s." in text and page.REHEARSAL not in text


def test_a_wrong_part_and_a_folder_with_something_in_it_are_told_at_once(tmp_path):
    with pytest.raises(InputError, match="no part 'step-b61', did you mean 'step-b16'"):
        main([f"--out={tmp_path}", "--only=step-b61"])
    with pytest.raises(InputError, match="JAX sees no accelerator: install"):
        main([f"--out={tmp_path / 'new'}"])
    (tmp_path / "table.md").touch()
    with pytest.raises(InputError, match="is not empty: give a new folder"):
        main([f"--out={tmp_path}"])


def test_driver_and_clocks_are_those_that_nvidia_smi_names(tmp_path, monkeypatch):
    answer = 'case "$1" in *name*) echo "NVIDIA H200, 580.1, 96.0, 1980, 3201, 700.00";; *) echo 1755;; esac'
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    about = machine.described({"XLA_FLAGS": "--xla_a", "HOME": "/"})
    assert about["nvidia-smi, NVIDIA H200"] == "driver 580.1, VBIOS 96.0, up to 1980 and 3201 MHz, 700.00 W"
    assert about["XLA_FLAGS"] == "--xla_a" and "HOME" not in about
    assert machine.clock() == [1755.0] and machine.clocks([1200.0, 1755.0, 1980.0]) == "1755 (1200 to 1980)"
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.clock() == [] and machine.clocks([]) == ""


def test_kernels_are_those_of_a_devices_streams_and_count_once(monkeypatch):
    def line(name: str, **nanoseconds: float) -> SimpleNamespace:
        events = [SimpleNamespace(name=kernel, duration_ns=each, stats=()) for kernel, each in nanoseconds.items()]
        return SimpleNamespace(name=name, events=events)

    streams = [line("Stream #13(Compute)", gemm=6e6, softmax=3e6), line("Stream #14(Memcpy)", copy=1.5e6, gemm=1.5e6)]
    gpu = SimpleNamespace(name="/device:GPU:0", lines=[*streams, line("XLA Ops", gemm=9e9), line("Steps", step=9e9)])
    host = SimpleNamespace(name="/host:CPU", lines=[line("python", call=9e9)])
    data = SimpleNamespace(from_file=lambda file: SimpleNamespace(planes=[host, gpu]))
    monkeypatch.setattr(kernels.jax.profiler, "ProfileData", data)
    table = markdown(kernels.longest(Path("x"), 2)).splitlines()
    assert table[2:] == [
        "| `gemm` | 2.5 | 62.5% | 0.667 |",
        "| `softmax` | 1 | 25.0% | 0.333 |",
        "| 1 others | 0.5 | 12.5% | 0.333 |",
    ]


def test_a_stand_in_can_be_subclassed_by_a_module_and_not_be_used_by_a_function():
    msgspec = absent.stand_in("msgspec")
    code = "class Row(msgspec.Struct, frozen=True):\n    name: str\nleast = msgspec.Meta(ge=1)"
    exec(code, {"msgspec": msgspec})
    with pytest.raises(MissingPackage, match="msgspec is missing: pip install msgspec"):
        msgspec.json.decode(b"{}")
    assert absent.lacking(["numpy", "a_package_of_nobody"]) == ["a_package_of_nobody"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_cut_leaves_the_table_of_all_that_was_measured_and_no_process(tmp_path, number):
    out = tmp_path / "out"
    running = start(out, only="loss,kernels")
    deadline = time.monotonic() + 240
    while not (out / "table.md").exists() or "| gather | 1024 |" not in (out / "table.md").read_text():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (143 if number == signal.SIGTERM else -number), said
    table = (out / "table.md").read_text()
    assert "## Loss" in table and "| full | all | 64 | 8 |" in table and "| kernels | not reached |" in table
    assert "Not whole: cut short." in table and not list(out.glob("*.incomplete"))
    while left := processes_of(out):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.exhaustive
def test_a_machine_with_jax_and_pytorch_alone_measures_the_step_and_names_what_it_lacks(tmp_path):
    running = start(tmp_path / "out", only="data,kernels", python=bare_python(tmp_path / "bare"))
    _, said = running.communicate(timeout=400)
    assert running.returncode == 0, said
    assert "data: skipped: PIL, array_record" in said and "kernels: done" in said
    assert len(json.loads((tmp_path / "out/kernels.json").read_text())["rows"]) == 11
    assert next((tmp_path / "out/profile").rglob("*.xplane.pb"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("bare", [False, True])
def test_every_part_brings_its_figures_home(tmp_path, bare):
    python = bare_python(tmp_path / "bare") if bare else sys.executable
    running = start(tmp_path / "out", "--minutes=40", only=",".join(parts.PARTS), python=python)
    _, said = running.communicate(timeout=2400)
    assert running.returncode == 0, said
    for name in parts.PARTS:
        found = json.loads((tmp_path / f"out/{name}.json").read_text())
        assert found["rows"] or (bare and name == "data" and "grain" in found["skipped"]), name
    programs = json.loads((tmp_path / "out/step-b16.json").read_text())["rows"]
    assert [row["train step"] for row in programs] == ["packed", "PyTorch", "padded", "PyTorch, short at 77"]
    assert all("note" not in row for row in programs) and "× PyTorch" in programs[0]
    restarts = json.loads((tmp_path / "out/restart.json").read_text())["rows"]
    assert [row["after a restart"] for row in restarts] == ["equal to the bit"] * 2
