"""Each case is a program of its own, since the watchdog ends it; they all run at once, since they mostly sleep."""

import subprocess
import sys

import pytest

A_SECOND = 1 / 60  # stacks and exit follow a second later
PROGRAMS = {
    "hanging": f"""
def waiting_for_a_batch():
    time.sleep(50)

with Watchdog({A_SECOND}) as watchdog:
    watchdog.step(7)
    waiting_for_a_batch()
""",
    "hanging in native code that keeps the interpreter's lock": f"""
def native():
    ctypes.PyDLL(None).sleep(50)

with Watchdog({A_SECOND}):
    native()
""",
    "alive": f"""
with Watchdog({A_SECOND}) as watchdog:
    for step in range(12):
        time.sleep(0.2)
        watchdog.step(step)
""",
    "evaluating": f"""
with Watchdog({A_SECOND}) as watchdog:
    with watchdog.paused():
        time.sleep(2.5)
time.sleep(2.5)
""",
    "turned off": """
with Watchdog(0):
    time.sleep(2.5)
with Watchdog(None):
    time.sleep(2.5)
""",
}


@pytest.fixture(scope="module")
def ended() -> dict[str, tuple[int, str]]:
    head = "import ctypes, time\nfrom lrsclip_jax.run.watchdog import Watchdog\n"
    running = {
        name: subprocess.Popen([sys.executable, "-c", head + program], stderr=subprocess.PIPE, text=True)
        for name, program in PROGRAMS.items()
    }
    errors = {name: process.communicate(timeout=40)[1] for name, process in running.items()}
    return {name: (process.returncode, errors[name]) for name, process in running.items()}


@pytest.mark.exhaustive
def test_a_loop_that_hangs_is_ended_with_a_line_and_stacks(ended):
    status, err = ended["hanging"]
    line = err.splitlines()[0]
    assert status == 1
    assert line.startswith("error: ") and "since step 7 ended" in line and "train.watchdog_minutes" in line
    assert "in waiting_for_a_batch" in err


def test_native_code_is_ended_too(ended):
    status, err = ended["hanging in native code that keeps the interpreter's lock"]
    assert status == 1 and "in native" in err


@pytest.mark.parametrize("name", ["alive", "evaluating", "turned off"])
def test_others_are_left_alone(ended, name):
    assert ended[name] == (0, "")
