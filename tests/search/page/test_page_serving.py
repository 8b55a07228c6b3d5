"""The command `lrsclip serve`: how it starts, refuses and ends; archives that are empty; models that are not there."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from small_index import write_index

import lrsclip_jax.search
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.page.__main__ import main
from lrsclip_jax.search.page.app import app_of
from lrsclip_jax.search.page.service import Service
from lrsclip_jax.search.page.serving import greeting, listening

pytestmark = pytest.mark.slow  # one Python runs them

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host=0.0.0.0"], "give --token=TOKEN"),
        (["--token=short"], "at least 8"),
        (["--background=https://example.org/tiles"], "{z} is missing"),
        (["--background=javascript:alert(1)//{z}{x}{y}"], "expected a URL"),
        (["--background=https://x.org/{z}/{x}/{y};script-src *"], "expected a URL"),
        (["--host=no.such.host.invalid", "--token=long-enough"], "no such host"),
    ],
)
def test_options_that_cannot_be_are_one_line(options, message, archive):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        main([str(archive), *options])
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_index_is_one_line(tmp_path):
    with pytest.raises(InputError, match="lrsclip index"):
        main([str(tmp_path)])


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is in use"):
            listening("127.0.0.1", port)


def test_the_greeting_says_where_to_look():
    facts = {"tiles": 1296, "scenes": 36}
    said = "1,296 tiles of 36 scenes: http://127.0.0.1:8600/   Ctrl-C ends it"
    assert greeting(facts, "127.0.0.1", 8600, False) == said
    assert "http://localhost:8600/?token=…" in greeting(facts, "0.0.0.0", 8600, True)
    assert "http://[::1]:8600/" in greeting(facts, "::1", 8600, False)


@pytest.mark.parametrize("state", ["loading", "ready"])
def test_it_answers_while_the_model_loads_and_ctrl_c_ends_it_with_130(state, archive):
    command = [sys.executable, "-m", "lrsclip_jax", "serve", str(archive), "--port=0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        found = ""
        while found != state:
            assert found in ("", "loading")
            with urllib.request.urlopen(f"{address}health", timeout=20) as answer:
                found = json.load(answer)["state"]
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130 and said == "interrupted\n", said
    finally:
        process.kill()


def test_an_empty_archive_says_so(archive, tmp_path):
    from lrsclip_jax.search import tiles_table

    folder = write_index(tmp_path / "empty", checkpoint=str(archive.parent / "clip"), tiles=0)
    assert len(tiles_table.read_tiles(folder / "tiles.parquet")) == 0
    with client_of(folder) as client:
        assert client.get("/api/search", params={"text": "a"}).json()["verdict"] == "The index holds no tiles."
        assert client.get("/api/sample").json()["features"] == []
        assert client.get("/api/archive").json()["bounds"] is None
        assert client.get("/api/tiles/0/0/0.png").status_code == 200


def test_a_model_that_is_gone_is_a_sentence_and_the_rest_is_seen(archive, tmp_path):
    folder = shutil.copytree(archive, tmp_path / "moved")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"checkpoint": str(tmp_path / "gone")}))
    with client_of(folder) as client:
        answer = client.get("/api/search", params={"text": "a"})
        assert answer.status_code == 503
        assert answer.json() == {"error": "The model can't be loaded; the server's log says why."}
        assert client.get("/health").status_code == 503 and client.get("/api/status").json()["state"] == "failed"
        assert client.get("/api/sample").json()["features"]


def test_a_fault_of_the_program_is_a_sentence_and_no_trace(archive, monkeypatch):
    with client_of(archive) as client:
        monkeypatch.setattr(Service, "search", lambda *_: 1 / 0)
        answer = client.get("/api/search", params={"text": "a"})
    assert answer.status_code == 500 and answer.json() == {"error": "This is a fault of the server; its log says more."}


@contextlib.contextmanager
def client_of(folder):
    service = Service(lrsclip_jax.search.open(folder))
    with TestClient(app_of(service), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client
    while service.readiness.working:  # Python would abort if it ended meanwhile
        time.sleep(0.05)
