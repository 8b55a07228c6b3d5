"""The documentation site builds strictly; tutorials become notebooks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs", reason="the extra [docs]")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_command_and_key_stands_on_one_page(site):
    from lrsclip_jax import cli
    from lrsclip_jax.config.keys import KEYS

    page = (site / "everything/index.html").read_text()
    assert all(f'id="lrsclip-{name}"' in page for name in cli.COMMANDS)
    assert all(f"{name} = " in page for name in KEYS)


def test_the_floors_are_those_that_the_tests_hold(site):
    page = (site / "architecture/index.html").read_text()
    assert "<!-- floors -->" not in page
    assert all(f"<code>{room}</code>" in page for room in ("eval", "lrsclip_jax.step", "lrsclip_jax.search"))


def test_pages_are_made_of_docstrings_and_figures(site):
    assert "float32 [N, E]" in (site / "api/use/index.html").read_text()
    assert "265,048" in (site / "performance/index.html").read_text()


def test_tutorials_are_notebooks(site):
    notebooks = sorted((site / "tutorials").glob("*.ipynb"))
    assert [path.stem for path in notebooks] == sorted(path.stem for path in ROOT.glob("docs/tutorials/*.md"))
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        assert any(cell["cell_type"] == "code" and cell["source"][0].startswith("%%bash") for cell in cells), path
        page = (site / "tutorials" / path.stem / "index.html").read_text()
        assert f'href="../{path.name}"' in page


def test_pages_fetch_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        for found in re.findall(r'(?:<script[^>]*src|<link[^>]*href|<img[^>]*src)="(https?:[^"]*)"', path.read_text()):
            pytest.fail(f"{path}: {found}")
