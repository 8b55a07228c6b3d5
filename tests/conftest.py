"""What all tests share: programs are compiled quickly, and once."""

import os
import tempfile

import pytest

# LLVM's optimisation takes half the time of these tests, and what they compile runs for milliseconds.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives all tests, their workers and child processes one cache of compiled programs for this session."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = tempfile.TemporaryDirectory(prefix="lrsclip_jax_tests_")
        config.add_cleanup(cache.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


# Files whose tests take minutes: begun first, so that no worker is left with one when the others are done.
_LONG = ("test_sharding.py", "test_distributed.py", "test_train.py", "test_step.py", "test_losses_on_devices.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long files in front; others keep their order."""
    items.sort(key=lambda item: item.path.name not in _LONG)
