"""A user's folder named eval, in which the installed command is started, does not stand in for our package."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval.embeddings import write_set


@pytest.fixture
def script(tmp_path):
    """The console script as pip writes it, and a working directory with a package eval that must not be imported."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "lrsclip"
    script.write_text("import sys\nfrom lrsclip_jax.cli import run\nif __name__ == '__main__':\n    sys.exit(run())\n")
    (tmp_path / "work" / "eval").mkdir(parents=True)
    (tmp_path / "work" / "eval" / "__init__.py").write_text("raise RuntimeError('the eval of the user')\n")
    root = str(Path(__file__).parents[1])  # where an installed package would lie in site-packages

    def lrsclip(*words):
        return subprocess.run(
            [sys.executable, script, *words],
            cwd=tmp_path / "work",
            env=os.environ | {"PYTHONPATH": root},
            capture_output=True,
            text=True,
        )

    return lrsclip


def test_the_command_uses_its_own_package(script):
    assert script("--version").stdout.startswith("lrsclip_jax ")
    done = script("papers", "--table=lrsclip:IV")
    assert done.returncode == 0 and "RESISC45" in done.stdout, done.stderr


@pytest.mark.exhaustive
def test_so_do_its_processes(script, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        rows = [{"id": str(number)} for number in range(4)]
        texts = [{"text": f"text {number}", "kind": "short", "image": str(number)} for number in range(4)]
        meta = {"model": name, "checkpoint": "none", "dataset": "d", "features": "projected", "preprocessing": None}
        write_set(
            tmp_path / "work" / "sets" / name, meta, rng.normal(size=(4, 8)), rng.normal(size=(4, 8)), rows, texts
        )
    done = script("evaluate", "sets", "--out=out", "--only=retrieval", "--processes=2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "out" / "report.html").exists()
