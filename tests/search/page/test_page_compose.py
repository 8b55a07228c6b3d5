"""launch/page_compose.yaml: its command is one that `lrsclip serve` takes, and its health check works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from served_archive import serving

from lrsclip_jax.search.page.__main__ import check, parser
from lrsclip_jax.search.page.app import app_of

LAUNCH = Path(__file__).parents[3] / "launch"
PAGE = yaml.safe_load((LAUNCH / "page_compose.yaml").read_text())["services"]["page"]


def test_the_command_serves_to_others_with_the_token():
    *program, command, index = PAGE["entrypoint"]
    assert program == ["python", "-m", "lrsclip_jax"] and command == "serve"
    arguments = [index, *(re.sub(r"\$\{TOKEN:\?[^}]+\}", "0123456789abcdef", word) for word in PAGE["command"])]
    flags = parser("lrsclip serve").parse_args(arguments)
    check(flags)
    assert (str(flags.index), flags.host, flags.port, flags.token) == ("/index", "0.0.0.0", 8600, "0123456789abcdef")
    assert PAGE["ports"] == ["${PORT:-8600}:8600"]
    assert all(volume.endswith(":ro") for volume in PAGE["volumes"]) and PAGE["read_only"]


def test_the_image_gets_the_extra_that_the_page_needs():
    assert PAGE["build"]["args"] == {"ALSO": "search"} and "ARG ALSO" in (LAUNCH / "Dockerfile").read_text()


@pytest.mark.exhaustive
def test_the_health_check_tells_a_server_that_answers_from_none(service):
    how, interpreter, *check = PAGE["healthcheck"]["test"]
    assert how == "CMD" and interpreter == "python"
    with serving(app_of(service, token="0123456789abcdef")) as address:
        here = [word.replace("http://127.0.0.1:8600", address) for word in check]
        assert here != check
        assert subprocess.run([sys.executable, *here], timeout=30).returncode == 0
    assert subprocess.run([sys.executable, *here], timeout=30, capture_output=True).returncode != 0
