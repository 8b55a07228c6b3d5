"""What all tests share: programs are compiled quickly, and once."""

import gc
import os
import signal
import tempfile
from importlib.metadata import version

import pytest

# LLVM's optimisation takes half the time of these tests, and what they compile runs for milliseconds.
_XLA_FLAGS = ["--xla_backend_optimization_level=0"]
if os.environ.get("JAX_PLATFORMS") == "cpu":  # other platforms bring an XLA with other flags
    # Most of the other half: 32 modules to a program, and kernels generated through MLIR. Later jaxlibs have no other
    # generator, and their tests use that one.
    _XLA_FLAGS += ["--xla_cpu_parallel_codegen_split_count=1"]
    _XLA_FLAGS += ["--xla_cpu_use_fusion_emitters=false"] * version("jaxlib").startswith("0.10.")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_XLA_FLAGS]).strip()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives all tests, their workers and child processes one cache of compiled programs, and Ctrl-C."""
    config.option.loadscopereorder = False  # workers would begin with the files of most tests, whatever those take
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell's background job inherits it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = tempfile.TemporaryDirectory(prefix="lrsclip_jax_tests_")
        config.add_cleanup(cache.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


def pytest_collection_finish() -> None:
    """Lets Python look for cycles rarely: JAX keeps so many objects that looking takes a quarter of the tests' time."""
    gc.collect()
    gc.freeze()  # what is imported and collected stays
    gc.set_threshold(50_000, 20, 100)


# Files whose tests take minutes: begun first, so that no worker is left with one when the others are done.
_LONG = (
    "test_distributed.py",
    "test_train.py",
    "test_sharding.py",
    "test_step.py",
    "test_parity_transformers.py",
    "test_losses_on_devices.py",
    "test_weights.py",
    "test_transformers_folder.py",
)


# Where a minute's tests are: what most edits can break, without whole programs. CONTRIBUTING.md names the marker.
_QUICK = ("config/", "docs/", "eval/", "losses/", "test_house.py", "test_optimizer.py", "test_parameter_rules.py")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Counts exhaustive tests as slow ones, marks the quick ones, and puts the long files in front."""
    here = os.path.dirname(__file__)
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker("slow")
        if os.path.relpath(item.path, here).startswith(_QUICK) and not item.get_closest_marker("slow"):
            item.add_marker("quick")
    items.sort(key=lambda item: item.path.name not in _LONG)
