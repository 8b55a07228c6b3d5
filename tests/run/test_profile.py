import gzip
import json

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from lrsclip_jax.run import profile


def test_the_steps_of_the_span_are_traced_and_no_others(tmp_path, capfd):
    with profile.Profile((3, 4), epath.Path(tmp_path)) as traced:
        for step in range(2, 7):
            traced.before(step)
            with profile.annotated(step):
                result = jnp.sin(jnp.float32(step))
            traced.after(step, result)
    (file,) = tmp_path.glob("profile/plugins/profile/*/*.trace.json.gz")
    assert [*file.parent.glob("*.xplane.pb")]
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    assert [event["args"]["step_num"] for event in events if event.get("name") == "train"] == ["3", "4"]
    err = capfd.readouterr().err
    assert f"profile of steps 3 to 4: {tmp_path}/profile" in err and err.count("profile of") == 1


def test_a_trace_that_has_begun_ends_with_the_loop(tmp_path):
    with pytest.raises(KeyError), profile.Profile((1, 9), epath.Path(tmp_path)) as traced:
        traced.before(1)
        raise KeyError
    assert [*tmp_path.glob("profile/plugins/profile/*/*.xplane.pb")]
    jax.profiler.start_trace(tmp_path / "another")  # would be refused, if the first still ran
    jax.profiler.stop_trace()
