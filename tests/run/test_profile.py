"""Traces by JAX's profiler, each in a process of its own: next to libtpu the profiler has crashed older ones."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

SPAN = """
import sys
import jax.numpy as jnp
from etils import epath
from lrsclip_jax.run import profile

with profile.Profile((3, 4), epath.Path(sys.argv[1])) as traced:
    for step in range(2, 7):
        traced.before(step)
        with profile.annotated(step):
            result = jnp.sin(jnp.float32(step))
        traced.after(step, result)
"""
BROKEN = """
import sys
import jax
from etils import epath
from lrsclip_jax.run import profile

try:
    with profile.Profile((1, 9), epath.Path(sys.argv[1])) as traced:
        traced.before(1)
        raise KeyError
except KeyError:
    jax.profiler.start_trace(sys.argv[1] + "/another")  # would be refused, if the first still ran
    jax.profiler.stop_trace()
    print("ended")
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, str(folder)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)


def test_the_steps_of_the_span_are_traced_and_no_others(tmp_path):
    err = run(SPAN, tmp_path).stderr
    (file,) = tmp_path.glob("profile/plugins/profile/*/*.trace.json.gz")
    assert [*file.parent.glob("*.xplane.pb")]
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    assert [event["args"]["step_num"] for event in events if event.get("name") == "train"] == ["3", "4"]
    assert f"profile of steps 3 to 4: {tmp_path}/profile" in err and err.count("profile of") == 1


def test_a_trace_that_has_begun_ends_with_the_loop(tmp_path):
    assert run(BROKEN, tmp_path).stdout == "ended\n"
    assert [*tmp_path.glob("profile/plugins/profile/*/*.xplane.pb")]
