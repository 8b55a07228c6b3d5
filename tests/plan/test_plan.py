import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from lrsclip_jax import chips, host_memory
from lrsclip_jax import config as configs
from lrsclip_jax.chips import GIB
from lrsclip_jax.errors import InputError
from lrsclip_jax.plan import advice, ahead, presentation, roofline, topology
from lrsclip_jax.plan.__main__ import main

TINY = (
    "model.name=tiny",
    "model.image.size=32",
    "model.image.layers=1",
    "model.text.layers=1",
    "model.text.vocab_size=512",
    "model.text.end_token=511",
    "model.text.context_length=16",
    "model.text.frozen_positions=0",
    "data.packed=False",
    "data.long_length=16",
    "data.short_length=8",
    "loss.long_weight=1.0",
    "batch_size=32",
    "model.dtype=float32",
)


def planned(*overrides: str, devices: int = 1, recipe: str = "configs/vitb16.py") -> ahead.PlannedStep:
    return ahead.plan_step(configs.load(recipe, overrides), jax.devices()[:devices], "cpu")


def plan_of(step: ahead.PlannedStep, outcome, chip=None, memory=16 * GIB) -> presentation.Plan:
    return presentation.Plan(step, outcome, 1.0, "TPU v5 lite", chip or chips.named("TPU v5e"), memory, "")


def settings_of(step: ahead.PlannedStep, **mesh: int) -> advice.Settings:
    chunk = step.setup.config.loss.chunk
    return advice.settings(ahead.job(step), {"data": 1, "fsdp": 1, "tensor": 1} | mesh, chunk)


@pytest.fixture(scope="module")
def tiny() -> ahead.PlannedStep:
    return planned(*TINY)


def child(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lrsclip_jax.plan", "--config=configs/vitb16.py", *arguments]
    command += [f"--config.{flag}" for flag in TINY]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def check_document(found: subprocess.CompletedProcess, devices: int) -> dict:
    assert found.returncode == 0, found.stderr
    assert f"compiling for {devices} × " in found.stderr
    document = json.loads(found.stdout)
    assert document["fits"] and document["verdict"].startswith("fits: ")
    assert document["devices"] == devices and document["mesh"] == {"data": devices // 2, "fsdp": 2, "tensor": 1}
    memory = document["memory"]
    assert (
        memory["peak"]
        == sum(memory[key] for key in ("arguments", "temporaries", "outputs", "program")) - memory["aliased"]
    )
    assert document["shardings"]["image/blocks/mlp/fc1/kernel"] == [None, "fsdp", "tensor"]
    # The gradient of what is whole along `data` has to be summed over it.
    assert {"all-gather", "all-reduce"} <= {kind["kind"] for kind in document["collectives"]}
    return document


@pytest.mark.exhaustive
def test_the_command_on_devices_of_this_machine():
    document = check_document(child("--topology=cpu:4", "--json", "--config.mesh.fsdp=2", "--chip=h100-sxm"), 4)
    memory = document["memory"]
    assert memory["limit"] == 80 * GIB
    assert 0 < document["estimate"]["mfu"] < 1
    # The state is split in two where it can be, and stands once in memory: the outputs take its place.
    assert document["parameters"] * 4 < memory["arguments"] < 2 * document["parameters"] * 4
    assert memory["outputs"] - memory["aliased"] < 1000


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is not installed")
def test_the_command_on_a_tpu_slice():
    # libtpu has an XLA of its own, which refuses flags that it does not know.
    document = check_document(child("--topology=v5e:4x4", "--json", "--config.mesh.fsdp=2", XLA_FLAGS=""), 16)
    assert document["compiled_for"] == "TPU v5 lite" and document["chip"] == "TPU v5e"
    assert 0 < document["estimate"]["mfu"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v5f:2x2"], "unknown kind 'v5f', did you mean 'v5"),
        (["--topology=v5e:4x4x4"], "a v5e slice has 2 dimensions, write v5e:AxB"),
        (["--topology=v5p:4x4"], "a v5p slice has 3 dimensions"),
        (["--topology=cpu:0"], "write cpu or cpu:N"),
        (["--topology=cpu:99999999999"], "with N from 1 to 1,024"),
        (["--topology=cpu:٣"], "write cpu or cpu:N"),
        (["--topology=v5e:٣x4"], "a v5e slice has 2 dimensions"),
        (["--topology=cpu", "--memory=0GB"], "--memory=0GB: write a size above zero"),
        (["--topology=cpu", "--memory=nan"], "--memory=nan: write a size above zero"),
        (["--topology=cpu", "--memory=80"], "--memory=80: write a size above zero, such as 80GiB"),
        (["--topology=cpu", "--chip=h100"], "unknown chip 'h100'"),
        (["--topology=cpu", "--batch_size=1"], "set with --config.KEY=VALUE"),
        (["--topology=cpu", "--config.mesh.fsdp=3"], "does not cover the 1 devices"),
        (["--topology=cpu", "--config.train.microbatches=5"], "train.microbatches=5 does not divide batch_size="),
        (["--topology=cpu", "--config.model.image.remat=half"], "model.image.remat=half: expected 'none', "),
        (["--topology=cpu", "--config.data.long_length=300"], "more than model.text.context_length=248"),
        (["--topology=cpu", "--config.eval.batch_size=0"], "eval.batch_size=0: expected a whole number"),
        (["--topology=cpu", "--config.loss.form=rings"], "loss.form=rings: .* did you mean 'ring'"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message, monkeypatch):
    monkeypatch.setattr(topology, "prepare", lambda place: None)  # JAX runs already
    with pytest.raises(InputError, match=message) as error:
        main(["--config=configs/vitb16.py", *arguments])
    assert "\n" not in str(error.value)


def test_a_missing_libtpu_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'lrsclip_jax\[tpu\]'"):
        topology.prepare(topology.parse("v5e:4x4"))


@pytest.mark.parametrize(
    ("name", "chips", "accelerator"),
    [
        ("v5e:16x16", 256, "v5litepod-256"),
        ("v5p:4x4x4", 64, "v5p-128"),
        ("v4:2x2x4", 16, "v4-32"),
        ("v6e:8x8", 64, "v6e-64"),
    ],
)
def test_slices_have_the_names_of_google_cloud(name, chips, accelerator):
    place = topology.parse(name)
    assert (place.chips, place.accelerator_type, place.platform) == (chips, accelerator, "tpu")


def test_a_refusal_of_the_tpu_compiler_is_read():
    said = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (144.06G) exceeds available HBM (15.75G). HLO module: jit_step.\nSee https://openxla.org/xla"
    )
    assert ahead._refusal(said) == ahead.TooLarge(int(144.06 * GIB), int(15.75 * GIB))
    assert ahead._refusal("INTERNAL: something else (1.00G) (2.00G)") is None


def test_the_least_time_is_the_longest_of_three_terms(tiny):
    job = ahead.job(tiny)
    chip = chips.named("TPU v5e")
    best = roofline.estimate(job, chip, sent=0)
    assert best.arithmetic * chip.flops == pytest.approx(
        32 * (job.pair.towers.executed + 6 * job.pair.loss)  # six passes for a float32 product
    )
    assert best.seconds == max(best.arithmetic, best.memory)
    assert best.pairs_per_second == 32 / best.seconds
    assert best.mfu == pytest.approx(32 * job.pair.useful / best.seconds / chip.flops)
    assert best.memory * chip.bandwidth > 2 * (job.state_bytes + job.gradient_bytes)
    sending = roofline.estimate(job, chip, sent=int(chip.interconnect))
    assert (sending.bound, sending.seconds) == ("interconnect", 1.0)
    halved = roofline.estimate(dataclasses.replace(job, devices=2), chip, sent=0)
    assert halved.arithmetic == best.arithmetic / 2
    assert best.memory / 2 < halved.memory < best.memory  # state and weights are not halved


def test_traffic_is_at_least_every_matrix_once():
    # One layer, one text, a batch of one pair: nearly all traffic is weights, forward and twice backward, and state.
    step = planned(*TINY, "batch_size=1", "model.image.remat=none", "model.text.remat=none")
    job = ahead.job(step)
    kernels = sum(
        leaf.size
        for path, leaf in jax.tree.leaves_with_path(step.setup.shapes.params)
        if "kernel" in jax.tree_util.keystr(path)
    )
    weights = 4 * 3 * kernels
    state = 2 * (job.state_bytes + job.gradient_bytes)
    assert weights + state < roofline.traffic(job) < 4 * (weights + state)


@pytest.mark.slow
def test_what_the_job_encodes_follows_the_config():
    def slots(*overrides):
        return [rows.slots for rows in ahead.job(planned(*TINY, *overrides)).rows]

    assert slots() == [16]
    assert slots("loss.long_weight=0.5") == [16, 8]
    assert slots("loss.long_weight=0.0") == [8]
    assert ahead.job(planned(*TINY, "optimizer.freeze=('image/.*',)")).frozen == {"image"}


def test_state_is_counted_by_its_shards(tiny):
    parameters = sum(leaf.size for leaf in jax.tree.leaves(tiny.setup.shapes.params))
    assert ahead.device_bytes(tiny.setup.shapes.params) == 4 * parameters
    assert ahead.device_bytes(tiny.setup.shapes) == pytest.approx(2 * 4 * parameters, abs=100)  # SGD keeps one momentum


def test_what_is_too_large_is_shrunk_where_it_is_largest():
    step = planned("batch_size=2048")
    for wanted, flags in {
        30: ["--config.model.image.remat=full", "--config.model.text.remat=full"],
        300: ["--config.train.microbatches="],
    }.items():
        plan = plan_of(step, ahead.TooLarge(wanted * GIB, 16 * GIB))
        found, expected = plan.changes
        assert not plan.fits
        assert expected <= 16 * GIB
        for flag in flags:
            assert any(change.startswith(flag) for change in found), found
        assert all(change in presentation.verdict(plan) for change in found)


@pytest.mark.slow
def test_the_form_of_the_loss_and_the_mesh_are_changed_where_they_dominate():
    now = settings_of(planned("batch_size=65536", "loss.form=full", "train.microbatches=65536"))
    flags, _ = advice.changes(now, 200 * GIB, 64 * GIB)
    assert flags[0].startswith("--config.loss.")
    state = settings_of(planned("model.name=vith14", "model.image.size=224", "batch_size=64"), data=64)
    flags, _ = advice.changes(state, 30 * GIB, 16 * GIB)
    assert any(flag.startswith("--config.mesh.fsdp=") for flag in flags)


def test_nothing_left_to_change_is_said(tiny):
    step = planned(*TINY, "batch_size=1", "model.image.remat=full", "model.text.remat=full", "loss.chunk=1")
    plan = plan_of(step, ahead.TooLarge(20 * GIB, 16 * GIB))
    assert presentation.verdict(plan).endswith("nothing but a smaller batch or more devices would help")


def test_the_report_names_all_parts(tiny):
    memory = ahead.Memory(arguments=3 * GIB, temporaries=2 * GIB, outputs=3 * GIB, aliased=3 * GIB, program=0)
    plan = plan_of(tiny, ahead.Program(memory, [], 10 * GIB))
    text = "\n".join(presentation.lines(plan))
    for part in ("parameters 0.2 M", "temporaries", "peak", "forward", "remat", "collectives: none", "pairs/s", "MFU"):
        assert part in text
    pairs = plan.setup.layout.batch_size
    assert f"reads and writes 10.0 GiB in a device's memory, {10240 / pairs:.3g}" in text
    assert presentation.document(plan)["accessed"] == 10 * GIB
    assert presentation.lines(plan)[-1] == "fits: 5.00 GiB of 16.0 GiB a device (31%)"
    assert not plan_of(tiny, ahead.Program(memory, [], 10 * GIB), memory=4 * GIB).fits
    refused = "\n".join(presentation.lines(plan_of(tiny, ahead.TooLarge(20 * GIB, 16 * GIB))))
    assert "which the compiler refuses" in refused and "no estimate" in refused


def test_what_waits_in_host_memory_is_counted_there(tiny, monkeypatch):
    monkeypatch.setattr(host_memory, "_LEAST", 20_000)
    near = planned(*TINY, "optimizer.name=adamw")
    step = planned(*TINY, "optimizer.name=adamw", "train.offload=optimizer")
    job, whole = ahead.job(step), ahead.job(near)
    assert job.state_bytes + job.hosted_bytes == whole.state_bytes
    assert job.hosted_bytes > 0.4 * whole.state_bytes and roofline.traffic(job) == roofline.traffic(whole)
    chip = chips.named("H100-SXM")
    assert roofline.estimate(whole, chip, 0).host is None
    assert roofline.estimate(job, chip, 0).host == job.hosted_bytes / 64e9

    memory = ahead.Memory(whole.state_bytes, 1, whole.state_bytes + 8, 0, 0)  # as a CPU's compiler counts
    found = ahead.donated(step, ahead.Program(memory, [], None))
    assert found.memory == ahead.Memory(job.state_bytes, 1, job.state_bytes + 8, job.state_bytes, 0)
    plan = plan_of(step, found, chip)
    text, size = "\n".join(presentation.lines(plan)), presentation._size(job.hosted_bytes)
    assert f"in host memory: optimizer {size}; a step brings {size} to the device, {size} return" in text
    assert presentation.document(plan)["host"]["to_host"] == job.hosted_bytes
    assert "in host memory" not in "\n".join(presentation.lines(plan_of(near, found, chip)))


def test_an_epoch_costs_the_hours_of_all_chips(tiny):
    memory = ahead.Memory(arguments=GIB, temporaries=0, outputs=0, aliased=0, program=0)
    plan = plan_of(tiny, ahead.Program(memory, [], 10 * GIB))
    epoch = plan.epoch
    assert epoch.pairs == pytest.approx(2_023_688, rel=0.01)  # the rows of Table I, which states the sum
    assert epoch.chip_hours == pytest.approx(epoch.pairs / plan.estimate.pairs_per_second / 3600 * plan.setup.mesh.size)
    assert epoch.cost is None and "at 2.5 an hour" not in "\n".join(presentation.lines(plan))
    paid = dataclasses.replace(plan, price=2.5)
    assert paid.epoch.cost == pytest.approx(2.5 * epoch.chip_hours)
    assert f"{paid.epoch.cost:,.2f} at 2.5 an hour of a chip" in "\n".join(presentation.lines(paid))
    assert presentation.document(paid)["epoch"]["cost"] == paid.epoch.cost
    assert plan_of(tiny, ahead.TooLarge(20 * GIB, 16 * GIB)).epoch is None


def test_the_rows_of_the_benchmark_are_sound(tiny, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    plans = importlib.import_module("benchmarks.plans")
    for name in plans.ROWS:
        words = plans.command(name).split()
        place = topology.parse(words[4].removeprefix("--topology="))
        flags = [word.removeprefix("--config.") for word in words[5:] if not word.startswith("--chip=")]
        config = configs.load(words[3].removeprefix("--config="), flags)
        assert config.batch_size % place.chips == 0
        [chips.named(word.removeprefix("--chip=")) for word in words[5:] if word.startswith("--chip=")]
    memory = ahead.Memory(arguments=3 * GIB, temporaries=2 * GIB, outputs=3 * GIB, aliased=3 * GIB, program=0)
    document = presentation.document(plan_of(tiny, ahead.Program(memory, [], 10 * GIB)))
    row = plans.row("b16-2k", document)
    assert "| 1 × TPU v5 lite | TPU v5e |" in row and "| 2.0 GiB | 5.0 of 16.0 GiB |" in row
    refused = presentation.document(plan_of(tiny, ahead.TooLarge(20 * GIB, 16 * GIB)))
    assert "**20.0 of 16.0 GiB**: does not fit" in plans.row("b16-2k", json.loads(json.dumps(refused)))
