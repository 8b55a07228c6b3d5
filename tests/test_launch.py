"""The scripts of launch/, run against stand-ins for the programs of clusters and clouds."""

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.sh"))
# Words that only faithful quoting carries through one or two shells and YAML.
ARGUMENTS = ["--config=configs/my recipe.py", "--workdir=runs/it's", '--config.data.sources=(("a&b", 2.0), ($c, `d`))']
SETTINGS = {
    "tpu_vm.sh": {"TPU": "slice", "ZONE": "zone-b", "BUCKET": "bucket"},
    "gke.sh": {"IMAGE": "registry/image:1", "BUCKET": "bucket", "TOPOLOGY": "v5e:16x16"},
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Returns add(name, body): puts a program on the PATH that notes its arguments, then runs `body` in bash."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PYTHON", sys.executable)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "JAX_", "XLA_"))]:
        monkeypatch.delenv(name)

    def add(name, body=""):
        program = programs / name
        program.write_text(f'#!/usr/bin/env bash\nprintf \'%s\\n\' "{name} ${{*@Q}}" >> "$CALLS"\n{body}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return add


def calls() -> list[list[str]]:
    """Returns what the stand-ins were called with, a list of words each."""
    path = Path(os.environ["CALLS"])
    return [shlex.split(line) for line in path.read_text().splitlines()] if path.exists() else []


def launch(script, *arguments, **environment):
    return subprocess.run(
        [LAUNCH / script, *arguments],
        cwd=ROOT,
        env=os.environ | SETTINGS.get(script, {}) | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_script_is_sound(script):
    assert os.access(LAUNCH / script, os.X_OK)
    assert subprocess.run(["bash", "-n", LAUNCH / script]).returncode == 0
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", LAUNCH / script], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_wrong_arguments(script, cluster):
    found = launch(script, "--help")
    assert found.returncode == 0 and f"launch/{script}" in found.stdout and "Environment:" in found.stdout
    assert not re.search(r"^(#|set -)", found.stdout, re.MULTILINE)
    found = launch(script)
    assert found.returncode == 2 and "Environment:" in found.stderr
    for wrong in (["--dry"], ["--dry-run"], ["--"], ["--dry-run", "--verbose", "--", *ARGUMENTS], ARGUMENTS):
        found = launch(script, *wrong)
        assert found.returncode == 2 and found.stdout == "", wrong
        assert found.stderr.startswith(f"{script}: ") and found.stderr.count("\n") == 1, wrong


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_prints_the_arguments_faithfully_and_starts_nothing(script, cluster):
    for program in ("srun", "scontrol", "scancel", "gcloud", "kubectl", "docker", "sudo", "git", "curl"):
        cluster(program)
    cluster("interpreter")
    found = launch(script, "--dry-run", "--", *ARGUMENTS, PYTHON="interpreter")
    assert found.returncode == 0 and found.stderr == ""
    assert calls() == []
    if script == "gke.sh":
        return  # its arguments are in the manifest, below
    # What is printed is what a shell would run.
    words = next(words for words in map(shlex.split, found.stdout.splitlines()) if any("config" in w for w in words))
    if script == "tpu_vm.sh":
        words = shlex.split(words[-1].removeprefix("--command="))
    assert words[-len(ARGUMENTS) :] == ARGUMENTS
    expected = {
        "laptop.sh": ["interpreter", "-m", "lrsclip_jax.main"],
        "gpus.sh": ["interpreter", "-m", "lrsclip_jax.main"],
        "slurm.sh": ["bash", "launch/gpus.sh", "--"],
        "study.sh": ["interpreter", "-m", "lrsclip_jax", "study", "--shard=1/1"],
        "tpu_vm.sh": ["bash", "lrsclip_jax/launch/tpu_vm_worker.sh", "--"],
        "tpu_vm_worker.sh": ["lrsclip_jax"],
    }[script]
    assert words[-len(ARGUMENTS) - len(expected) : -len(ARGUMENTS)] == expected


def test_the_settings_of_a_laptop_and_of_gpus(cluster):
    assert "JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8" in launch("laptop.sh", "--dry-run", "--", "x", DEVICES="8").stdout
    assert "JAX_NUM_CPU_DEVICES" not in launch("laptop.sh", "--dry-run", "--", "x").stdout

    cluster("nvidia-smi", "printf '9.0\\n9.0\\n'")
    hopper = launch("gpus.sh", "--dry-run", "--", "x", XLA_PYTHON_CLIENT_MEM_FRACTION="0.5").stdout
    assert "CUDA_DEVICE_MAX_CONNECTIONS=1" in hopper and "XLA_PYTHON_CLIENT_MEM_FRACTION=0.5" in hopper
    cluster("nvidia-smi", "echo 10.0")
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in launch("gpus.sh", "--dry-run", "--", "x").stdout


def test_jax_knows_the_settings(cluster):
    """The variables that laptop.sh and gpus.sh set are ones that this jax knows."""
    code = "import jax; print(jax.device_count(), jax.config.jax_optimization_level)"
    devices = launch("laptop.sh", "--dry-run", "--", "x", DEVICES="3").stdout
    settings = shlex.split(devices) + shlex.split(launch("gpus.sh", "--dry-run", "--", "x").stdout)
    environment = dict(word.split("=", 1) for word in settings if re.match(r"[A-Z_]+=", word))
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["3", "O1"]


def test_a_study_is_shared_among_the_jobs_of_an_array(cluster):
    array = {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_MIN": "2", "SLURM_ARRAY_TASK_COUNT": "8"}
    words = shlex.split(launch("study.sh", "--dry-run", "--", "pcm", "--workdir=w", **array).stdout)
    assert words[-4:] == ["study", "--shard=3/8", "pcm", "--workdir=w"]


def test_a_study_that_nears_its_time_limit_saves_and_queues_its_part_again(cluster):
    cluster("scontrol")
    cluster("interpreter", 'echo $PPID > "$CALLS.pid"\n' + RUN)
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "PYTHON": "interpreter"}
    words = [LAUNCH / "study.sh", "--", "pcm", "--workdir=w"]
    process = subprocess.Popen(words, cwd=ROOT, env=os.environ | array)
    deadline = time.monotonic() + 30
    while not Path(os.environ["CALLS"] + ".running").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 143
    assert ["scontrol", "requeue", "7_1"] in calls()


SRUN = 'while [[ $1 == --* ]]; do shift; done\necho $$ > "$CALLS.pid"\nexec "$@"'  # one task, in the place of srun
RUN = "trap 'exit 143' TERM\ntouch \"$CALLS.running\"\nwhile :; do sleep 0.02; done"  # saves at SIGTERM


def job(**environment) -> dict[str, str]:
    """Returns the environment of a job on a node of 48 CPUs."""
    node = {"SLURM_JOB_ID": "77", "SLURM_CPUS_ON_NODE": "48", "SLURM_NTASKS_PER_NODE": "1"}
    return os.environ | node | environment


def test_slurm_runs_the_command_to_its_end(cluster):
    cluster("srun", SRUN)
    command = ["bash", LAUNCH / "slurm.sh", "--", "--help"]
    found = subprocess.run(command, cwd=ROOT, env=job(), capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("usage: python -m lrsclip_jax.main")
    (srun,) = calls()
    assert srun[:3] == ["srun", "--kill-on-bad-exit=1", "--cpus-per-task=48"]

    subprocess.run(command, cwd=ROOT, env=job(SLURM_NTASKS_PER_NODE="4"), capture_output=True, check=True)
    assert "--cpus-per-task=12" in calls()[1]

    bad = ["bash", LAUNCH / "slurm.sh", "--", "--config=configs/nowhere.py", "--workdir=runs/nowhere"]
    found = subprocess.run(bad, cwd=ROOT, env=job(), capture_output=True, text=True)
    assert found.returncode == 2 and "no file configs/nowhere.py" in found.stderr
    assert [name for name, *_ in calls()] == ["srun"] * 3  # bad input is not queued again


@pytest.mark.parametrize(
    ("received", "preempted", "queued_again"),
    [(signal.SIGUSR1, "None", True), (signal.SIGTERM, "None", False), (signal.SIGTERM, "2026-11-22T01:02:03", True)],
    ids=["time limit", "scancel --signal=TERM", "preemption"],
)
def test_slurm_saves_and_queues_the_job_again(received, preempted, queued_again, cluster):
    cluster("srun", SRUN)
    cluster("interpreter", RUN)
    cluster("scancel", 'kill -TERM "$(cat "$CALLS.pid")"')
    cluster("scontrol", f'[[ $1 != show ]] || echo "PreemptEligibleTime=now PreemptTime={preempted}"')
    process = subprocess.Popen(
        ["bash", LAUNCH / "slurm.sh", "--", *ARGUMENTS], cwd=ROOT, env=job(PYTHON="interpreter"), text=True
    )
    try:
        begun = time.monotonic()
        while not os.path.exists(f"{os.environ['CALLS']}.running"):
            assert time.monotonic() - begun < 20
            time.sleep(0.02)
        # The warning comes to the script alone, other SIGTERMs to the tasks alone.
        task = int(Path(f"{os.environ['CALLS']}.pid").read_text())
        os.kill(process.pid if received == signal.SIGUSR1 else task, received)
        assert process.wait(20) == 143
    finally:
        process.kill()
    assert (["scancel", "--signal=TERM", "77"] in calls()) == (received == signal.SIGUSR1)
    assert (["scontrol", "requeue", "77"] in calls()) == queued_again
    assert ["interpreter", "-m", "lrsclip_jax.main", *ARGUMENTS] in calls()


GIT = 'for word; do case $word in --output=*) tar -czf "${word#*=}" launch ;; esac; done'
GCLOUD = """
case "$3 $4" in
  "queued-resources describe") sed -n 1p "$CALLS.states"; sed -i 1d "$CALLS.states" ;;
  "tpu-vm scp") cp "$5" "$CALLS.host" ;;
  "tpu-vm ssh") cd "$CALLS.host"; bash -c "${!##--command=}" ;;
esac"""
DOCKER = """
case $1 in
  container) echo "${RUNNING:-false}" ;;
  wait) sed -n 1p "$CALLS.statuses"; sed -i 1d "$CALLS.statuses" ;;
esac"""


@pytest.fixture
def cloud(cluster, tmp_path, monkeypatch):
    """Returns prepare(states, statuses): one host; the slice has these states in turn, its runs end with these."""
    cluster("git", GIT)
    cluster("gcloud", GCLOUD)
    cluster("docker", DOCKER)
    cluster("sudo", '[[ $1 != docker ]] || "$@"')
    cluster("gcsfuse")
    cluster("mountpoint", "exit 1")
    cluster("sleep")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    Path(f"{os.environ['CALLS']}.host").mkdir()

    def prepare(states, statuses):
        Path(f"{os.environ['CALLS']}.states").write_text("".join(f"{state}\n" for state in states))
        Path(f"{os.environ['CALLS']}.statuses").write_text("".join(f"{status}\n" for status in statuses))

    return prepare


def docker_runs() -> list[list[str]]:
    return [words for words in calls() if words[:2] == ["docker", "run"]]


def test_a_tpu_slice_is_created_and_trains_on_after_a_preemption(cloud):
    cloud(["", "PROVISIONING", "ACTIVE", "SUSPENDING", "SUSPENDED", "", "ACTIVE"], [143, 0])
    found = launch("tpu_vm.sh", "--", *ARGUMENTS, ACCELERATOR="v5litepod-16", SPOT="yes")
    assert found.returncode == 0, found.stderr
    assert "still exists, and costs" in found.stderr
    verbs = [" ".join(words[3:5]) for words in calls() if words[0] == "gcloud" and words[4] != "describe"]
    session = ["tpu-vm scp", "tpu-vm ssh"]
    create, delete = "queued-resources create", "queued-resources delete"
    assert verbs == [create, *session, delete, create, *session]
    created = next(words for words in calls() if words[3:5] == create.split())
    assert {"--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"} <= {*created}
    assert all("--zone=zone-b" in words for words in calls() if words[0] == "gcloud")
    assert all("--worker=all" in words for words in calls() if words[3:4] == ["tpu-vm"])
    first, second = docker_runs()
    assert first == second and first[-len(ARGUMENTS) - 1 :] == ["lrsclip_jax", *ARGUMENTS]
    assert "--volume=/mnt/data:/data:ro" in first
    assert ["sudo", "gcsfuse", "--implicit-dirs", "-o", "ro,allow_other", "bucket", "/mnt/data"] in calls()


@pytest.mark.parametrize(
    ("status", "accelerator"), [(2, "v6e-16"), (134, "v6e-16"), (143, "")], ids=["bad input", "crash", "stopped"]
)
def test_a_tpu_run_that_no_preemption_ended_is_not_repeated(status, accelerator, cloud):
    cloud(["ACTIVE", "ACTIVE"], [status])
    found = launch("tpu_vm.sh", "--", *ARGUMENTS, ACCELERATOR=accelerator, BUCKET="")
    assert found.returncode == status
    (run,) = docker_runs()
    assert not any("/mnt/data" in word for word in run)


def test_a_tpu_run_under_way_is_followed_not_started_again(cloud):
    cloud([], [0])
    assert launch("tpu_vm.sh", "--", *ARGUMENTS, RUNNING="true").returncode == 0
    assert not docker_runs()
    assert ["docker", "logs", "--follow", "lrsclip_jax"] in calls()


def test_a_tpu_slice_that_cannot_be_had_is_one_clear_line(cloud):
    cloud(["FAILED"], [])
    found = launch("tpu_vm.sh", "--", *ARGUMENTS, ACCELERATOR="v6e-16")
    assert found.returncode == 2 and found.stderr.startswith("tpu_vm.sh: no slice: gcloud compute tpus")
    found = launch("tpu_vm.sh", "--", *ARGUMENTS, ZONE="")
    assert found.returncode == 2 and found.stderr == "tpu_vm.sh: set TPU and ZONE, the slice's name and zone\n"


def test_gke_applies_a_jobset_with_a_container_a_host(cluster):
    cluster("kubectl", '[[ $1 != apply ]] || cat > "$CALLS.manifest"')
    found = launch("gke.sh", "--", *ARGUMENTS)
    assert found.returncode == 0, found.stderr
    assert [words[1] for words in calls()] == ["delete", "apply"]
    manifest = Path(f"{os.environ['CALLS']}.manifest").read_text()
    assert "${" not in re.sub(r"#.*|args:.*", "", manifest)
    assert manifest in launch("gke.sh", "--dry-run", "--", *ARGUMENTS).stdout

    jobset = yaml.safe_load(manifest)
    assert (jobset["kind"], jobset["metadata"]["name"]) == ("JobSet", "lrsclip")
    (workers,) = jobset["spec"]["replicatedJobs"]
    job_spec = workers["template"]["spec"]
    assert job_spec["parallelism"] == job_spec["completions"] == 16 * 16 // 4 and job_spec["backoffLimit"] == 0
    pod = job_spec["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "16x16",
    }
    (container,) = pod["containers"]
    assert container["image"] == "registry/image:1" and container["resources"]["limits"] == {"google.com/tpu": 4}
    assert [argument.replace("$$", "$") for argument in container["args"]] == ARGUMENTS
    assert not any(re.search(r"(?<!\$)\$(\$\$)*\(", argument) for argument in container["args"])
    assert container["env"] == [{"name": "JAX_NUM_PROCESSES", "value": "64"}]
    (rule,) = job_spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"IMAGE": ""}, "set IMAGE, BUCKET and TOPOLOGY"),
        ({"TOPOLOGY": "v9:4x4"}, "not a slice of v4, v5e, v5p or v6e"),
        ({"TOPOLOGY": "v5e:4by4"}, "write the shape as in v5e:4x4"),
        ({"TOPOLOGY": "v5e:2x3"}, "6 chips don't divide into hosts of 4"),
        ({"CHIPS": "0"}, "CHIPS=0"),
    ],
)
def test_gke_names_what_is_wrong(settings, message, cluster):
    cluster("kubectl")
    found = launch("gke.sh", "--", *ARGUMENTS, **settings)
    assert found.returncode == 2 and message in found.stderr and found.stderr.count("\n") == 1
    assert calls() == []


@pytest.mark.exhaustive
def test_the_smoke_test_of_the_image_works_here(tmp_path):
    pytest.importorskip("rasterio", reason="the extra [geo], which the image has")
    command = [sys.executable, str(LAUNCH / "smoke.py")]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("works\n"), done.stderr


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_locked_versions_are_ones_that_the_package_takes(python):
    """The lock of CI and of the image names every requirement, at one version, which its bounds allow."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}

    def requirements(path):
        lines = path.read_text().splitlines()
        found = [Requirement(line) for line in lines if line and not line.startswith("#")]
        return [wanted for wanted in found if wanted.marker is None or wanted.marker.evaluate(here)]

    locked = requirements(LAUNCH / "constraints.txt")
    pinned = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in locked}
    assert len(pinned) == len(locked)
    for wanted in requirements(ROOT / "requirements.txt"):
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), wanted
    assert {"rasterio", "gcsfs", "pytest"} <= pinned.keys()


def test_the_image_holds_what_it_copies_and_knows_the_extras():
    dockerfile = (LAUNCH / "Dockerfile").read_text()
    instructions = re.sub(r"#.*\n", "", dockerfile)
    copied = [word for line in re.findall(r"^COPY (.*)$", instructions, re.MULTILINE) for word in line.split()[:-1]]
    assert {"lrsclip_jax", "eval", "configs", "launch", "pyproject.toml"} <= {*copied}
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"tpu", "cuda13"} <= project["optional-dependencies"].keys() and "README.md" in copied
    assert json.loads(re.search(r"^ENTRYPOINT (.*)$", instructions, re.MULTILINE)[1])[1:] == ["-m", "lrsclip_jax.main"]
