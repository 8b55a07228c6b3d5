"""Publishing a folder on a stand-in of the Hugging Face Hub: what arrives, and one line for whatever it refuses."""

from __future__ import annotations

import hub_server
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from lrsclip_jax.convert.__main__ import main
from lrsclip_jax.convert.push import check_repository, push
from lrsclip_jax.errors import InputError

FILES = {"README.md": b"---\nlicense: mit\n---\n# a model\n", "config.json": b"{}", "model.safetensors": bytes(1000)}


@pytest.fixture
def hub(monkeypatch):
    with hub_server.serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_me")
        yield hub


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_bytes(content)
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["me/new", "my-lab/new", "me/public"])
def test_every_file_of_the_folder_arrives(hub, folder, name):
    check_repository(name, private=False)
    assert hub.repositories.keys() == {"me/public"}  # asked, and nothing made
    assert push(folder, name, private=False) == f"{hub.url}/{name}"
    assert hub.repositories[name] == {"private": False, "files": FILES}


def test_a_private_repository_is_made_private_and_never_a_public_one_filled(hub, folder):
    check_repository("me/new", private=True)
    push(folder, "me/new", private=True)
    assert hub.repositories["me/new"]["private"]
    check_repository("me/new", private=True)
    with pytest.raises(InputError, match="--push=me/public is public already: leave --private out"):
        check_repository("me/public", private=True)


def test_what_is_refused_before_anything_is_written(hub, monkeypatch, tmp_path):
    def refused(repository="me/new"):
        with pytest.raises(InputError) as error:
            check_repository(repository, private=False)
        assert "\n" not in str(error.value) and "hf_" not in str(error.value)
        return str(error.value)

    assert refused("others/clip") == "--push=others/clip: others is not you (me) nor a group that you are in"
    assert "which is owner/name" in refused("clip") and "which is owner/name" in refused("me/a/b")
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert "it does not know the token" in refused()
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN")
    assert refused().endswith("needs a token: `hf auth login`, or set HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_of_me")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert "is out of reach: " in refused()


@pytest.mark.parametrize(
    ("fault", "reason"), [("fails_at", "is out of reach: "), ("refuses_at", "refuses: the token may not write there")]
)
def test_a_folder_outlives_an_upload_that_fails(hub, folder, monkeypatch, fault, reason):
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)  # it tries five times
    setattr(hub, fault, "commit/main")
    with pytest.raises(InputError) as error:
        push(folder, "me/new", private=False)
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).endswith(f"; {folder} is whole: `hf upload me/new {folder}` sends it")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == FILES
    setattr(hub, fault, "")
    push(folder, "me/new", private=False)
    assert hub.repositories["me/new"]["files"] == FILES


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--format=longclip", "--out=x.pt", "--push=me/x"], "--push and --licence need --format=hf"),
        (["--format=hf", "--out=x", "--private"], "--private is of --push"),
        (["--format=hf", "--out=x", "--push=others/x"], "others is not you"),
    ],
)
def test_the_command_refuses_before_it_reads_the_weights(hub, monkeypatch, tmp_path, options, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=reason):
        main(["export", "not-there", *options])
    assert not [*tmp_path.iterdir()]
