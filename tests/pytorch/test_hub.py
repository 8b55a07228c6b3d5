import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.hub import local

COMMIT = "c0ffee" * 6 + "c0de"
REPOSITORIES = {
    "some/clip": {
        "config.json": b"{}",
        "merges.txt": b"a b",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"the same weights",
        "README.md": b"#",
        "onnx/model.onnx": b"the same weights",
    },
    "some/shards": {
        "model.safetensors.index.json": b"{}",
        "model-00001-of-00002.safetensors": b"1",
        "model-00002-of-00002.safetensors": b"2",
        "optimizer.pt": b"3",
    },
    "some/zoo": {"RN50.pt": b"r", "ViT-B-32.pt": b"v", "old/ViT-B-32.pt": b"o"},
    "some/words": {"README.md": b"#"},
}


class Hub(http.server.BaseHTTPRequestHandler):
    """What the Hugging Face Hub answers to those who look at a repository and fetch files of it."""

    def do_GET(self) -> None:
        _, *parts = self.path.split("?")[0].split("/")
        asked = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = REPOSITORIES.get(asked)
        if asked == "some/gated":
            self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        elif files is None:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif parts[0] == "api" and len(parts) > 4 and parts[5] not in ("main", "v1", COMMIT):
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif parts[0] == "api" and parts[4:5] == ["tree"]:
            self.answer(200, [{"type": "file", "path": n, "size": len(b), "oid": _hash(b)} for n, b in files.items()])
        elif parts[0] == "api":
            self.answer(200, {"id": asked, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]})
        else:
            content = files["/".join(parts[4:])]
            self.answer(200, content, {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def answer(self, status: int, body, headers=None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def answers(cache: Path, *sources: str, **environment: str) -> list[str]:
    """What `local` returns or says, in a process of its own: huggingface_hub reads its environment when imported."""
    program = """
import json, sys
from lrsclip_jax.pytorch.files.hub import local
from lrsclip_jax.errors import InputError
def answer(source):
    try:
        return str(local(source))
    except InputError as error:
        return f"error: {error}"
print(json.dumps([answer(source) for source in sys.argv[1:]]))
"""
    known = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    run = subprocess.run(
        [sys.executable, "-c", program, *sources],
        cwd=Path(__file__).parents[2],
        env=known | {"HF_HUB_CACHE": str(cache), "NO_PROXY": "127.0.0.1"} | environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def contents(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def test_paths_stay_paths(tmp_path):
    assert local(str(tmp_path)) == tmp_path
    with pytest.raises(InputError, match=f"there is no file or folder {tmp_path}/none"):
        local(f"{tmp_path}/none")


@pytest.mark.parametrize("source", ["hf:", "hf:clip", "hf:some/clip@", "hf:some/clip@a@b", "hf:some/clip/", "hf:a b/c"])
def test_a_malformed_name(source):
    with pytest.raises(InputError, match="is not of the form hf:owner/name, hf:owner/name/file, or either with @rev"):
        local(source)


def test_fetches_one_form_of_the_weights_and_what_describes_them(hub, tmp_path):
    found = answers(
        tmp_path, "hf:some/clip", "hf:some/clip@v1", f"hf:some/clip@{COMMIT}", "hf:some/shards", HF_ENDPOINT=hub
    )
    assert found[0] == found[1] == found[2] == str(tmp_path / "models--some--clip" / "snapshots" / COMMIT)
    assert contents(found[0]) == {"config.json", "merges.txt", "model.safetensors"}
    assert (Path(found[0]) / "model.safetensors").read_bytes() == b"weights"
    assert contents(found[3]) == {name for name in REPOSITORIES["some/shards"] if name.startswith("model")}

    (file,) = answers(tmp_path, "hf:some/zoo/old/ViT-B-32.pt@main", HF_ENDPOINT=hub)
    assert Path(file).name == "ViT-B-32.pt" and Path(file).read_bytes() == b"o"


def test_what_the_hub_has_not(hub, tmp_path):
    cases = {
        "hf:some/none": "error: there is no hf:some/none, or it is private: check the name, or `hf auth login`",
        "hf:some/gated": "error: hf:some/gated wants its terms accepted on its page, and then `hf auth login` here",
        "hf:some/clip@v9": "error: hf:some/clip has no revision v9",
        "hf:some/clip/none.pt": "error: hf:some/clip has no file none.pt",
        "hf:some/words": "error: hf:some/words holds no weights (.safetensors, .pt, .pth, .bin, .ckpt)",
        "hf:some/zoo": "error: hf:some/zoo holds several weights (RN50.pt, ViT-B-32.pt): name one, "
        "as hf:some/zoo/RN50.pt",
        "hf:-some/clip": "error: -some/clip can't be the name of a repository on the Hugging Face Hub",
    }
    assert answers(tmp_path, *cases, HF_ENDPOINT=hub) == list(cases.values())


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:1"}])
def test_out_of_reach_the_local_cache_serves(tmp_path, environment):
    repository = tmp_path / "models--some--clip"
    folder = repository / "snapshots" / COMMIT
    for path, content in ((repository / "refs" / "main", COMMIT), (folder / "model.safetensors", "weights")):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    found = answers(
        tmp_path,
        "hf:some/clip",
        f"hf:some/clip@{COMMIT}",
        "hf:some/clip/model.safetensors",
        "hf:some/clip/other.pt",
        "hf:some/clip@v1",
        "hf:some/none",
        **environment,
    )
    assert found[:3] == [str(folder), str(folder), str(folder / "model.safetensors")]
    for what, answer in zip(("some/clip/other.pt", "some/clip@v1", "some/none"), found[3:], strict=True):
        assert answer.startswith(
            f"error: hf:{what} is not in the local cache, and the Hugging Face Hub is out of reach: "
        )
        assert "\n" not in answer
