"""A generator of wrong arguments: whole commands run in this process with one argument spoilt.

The test draws some of the calls. `python tests/test_bad_values_in_commands.py [COMMAND …]` tries all, every value on
every argument, and prints what goes wrong and how many it has tried.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tiny_clip
from PIL import Image
from rasterio.transform import from_origin
from test_bad_arguments import parsers

from eval.embeddings import write_set
from lrsclip_jax import cli, errors

WORDS = tuple(f""" |-1|nan|é|\udcff|{"x" * 300}|a\nb|a,b|../..|%s{{}}|{"1" * 5000}|null|--|'"|""".split("|"))
_FILES = (
    "none none/none file file/below folder torn.json torn.npy pipe /dev/null /dev/full /dev/zero . ~nobody/x \udcff"
)
_ADDRESSES = "gs://none/x s3://none/x ftp://none/x file://none"
PATHS = (*_FILES.split(), *_ADDRESSES.split(), "", " ", "x" * 300, "a\nb")
# Options that take no file: all others may.
NAMES = "--split --only --model --activation --dtype --name --dataset --templates --text --table".split()
SECONDS = 120


def world(root: Path) -> None:
    """Makes a small input for every command, and spoilt files of several kinds."""
    tiny_clip.clip_folder(root / "clip")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(4):
        folder = root / "classes" / ("airport" if number % 2 else "beach")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / f"{number}.png")
        rows.append({"image": str(folder / f"{number}.png"), "short": ["A pier."], "long": ["A pier and two boats."]})
    (root / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copy(root / "classes" / "airport" / "1.png", root / "scene.png")
    (root / "labels").mkdir()
    for number in (1, 3):
        Image.new("L", (50, 40), number).save(root / "labels" / f"{number}.png")
    (root / "kinds.json").write_text('[{"name": "pier", "value": 1}, {"name": "sea", "value": 3}]')
    own = {"model": "m", "dataset": "d", "features": "projected"}
    images = [{"id": str(number), "label": "ab"[number % 2]} for number in range(8)]
    texts = [{"text": name, "kind": "class", "label": name} for name in "ab"]
    write_set(root / "set", own, rng.normal(size=(8, 4)), rng.normal(size=(2, 4)), images, texts)
    (root / "file").write_text("a file")
    (root / "folder").mkdir()
    (root / "folder" / "own.txt").write_text("of someone else")
    (root / "torn.json").write_text('{"a": [')
    (root / "torn.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
    os.mkfifo(root / "pipe")
    with rasterio.open(
        root / "raster.tif", "w", "GTiff", 64, 64, 3, "EPSG:32632", from_origin(4e5, 5e6, 1, 1), "uint8"
    ) as raster:
        raster.write(rng.integers(1, 256, (3, 64, 64), np.uint8))
    made = ["index", "raster.tif", "--checkpoint=clip", "--out=index", "--tile=32"]
    for words in (
        made,
        ["prepare", "list.jsonl", "--out=prepared", "--workers=1"],
        ["corpus", "read", "captions", "list.jsonl", "--out=corpus"],
    ):
        assert run(words)[0] == 0


# A sound call of each command; "OUT" is a new folder of each call.
CALLS = {
    "train": ["--config=quickstart", "--workdir=OUT", "--config.epochs=0"],
    "prepare": ["list.jsonl", "--out=OUT", "--workers=1"],
    "mosaic": ["prepared", "--out=OUT", "--n=2", "--count=1"],
    "corpus read": ["captions", "list.jsonl", "--out=OUT"],
    "corpus statistics": ["corpus", "--out=OUT"],
    "corpus export": ["corpus", "--out=OUT", "--allow-unknown-licences"],
    "corpus build": ["mosaics:prepared", "--out=OUT"],
    "convert import": ["clip", "--workdir=OUT"],
    "convert export": ["clip", "--format=open_clip", "--out=OUT"],
    "convert compare": ["clip", "--with=clip", "--data=list.jsonl"],
    "interpolate": ["clip", "clip", "--data=classes", "--out=OUT", "--alphas=0,1"],
    "embed": ["classes", "--checkpoint=clip", "--out=OUT"],
    "evaluate": ["set", "--out=OUT", "--processes=1"],
    "leaks": ["classes", "--train=classes", "--out=OUT"],
    "localise": ["scene.png", "--checkpoint=clip", "--text=a pier", "--out=OUT", "--steps=16"],
    "segment": [
        "classes/airport",
        "--labels=labels",
        "--classes=kinds.json",
        "--checkpoint=clip",
        "--out=OUT",
    ],
    "index": ["raster.tif", "--checkpoint=clip", "--out=OUT", "--tile=32"],
    "search": ["index", "a pier", "--out=OUT.geojson"],
    "plan": ["--config=quickstart", "--topology=cpu:1"],
    "tune": ["--config=quickstart", "--steps=1"],
    "study": ["pcm", "--workdir=OUT", "--only=False", "--dry-run"],
    "papers": ["set", "--table=lrsclip:II"],
}


def spoilt(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """Yields (argument, the command's words with a wrong value of it)."""
    usual = CALLS[name]
    for action in parser._actions:
        if action.nargs == 0 or isinstance(action, argparse._HelpAction):
            continue
        option = action.option_strings[0] if action.option_strings else None
        for value in WORDS if option in NAMES else PATHS:
            if option:
                others = [word for word in usual if not word.startswith(f"{option}=")]
                yield option, [*name.split(), *others, f"{option}={value}"]
        if option is None:
            place = [number for number, word in enumerate(usual) if not word.startswith("--")]
            at = place[0] if action.dest != "path" else place[-1]
            for value in PATHS:
                yield action.dest, [*name.split(), *usual[:at], value, *usual[at + 1 :]]


def run(words: list[str]) -> tuple[int, str]:
    """Runs a command in this process and returns its exit status and what it said on stderr."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            errors.cli(lambda: cli.main(words))
    except SystemExit as end:
        said.flush()
        return int(end.code or 0), said.buffer.getvalue().decode()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    raise AssertionError("cli returned")


def fault(words: list[str], out: Path) -> str:
    """Returns what is wrong with how a command ends, or ""."""
    before = files(Path.cwd())
    words = [word.replace("OUT", str(out)) for word in words]
    try:
        status, said = run(words)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip()]
    if status not in (0, 1, 2):
        return f"status {status}: {said[-200:]}"
    if "Traceback" in said:
        return f"traceback: {lines[-1]}"
    if status == 2 and (sum(line.startswith("error: ") for line in lines) != 1 or not lines[-1].startswith("error: ")):
        return f"not one error line: {lines[-3:]}"
    # A file that --out names is replaced; anything else stays.
    if lost := {
        path
        for path, content in before.items()
        if files(Path.cwd()).get(path) != content and f"--out={Path(path).name}" not in words
    }:
        return f"changed {sorted(lost)[:3]}"
    return ""


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "OUT" not in path.parts[:-1]
    }


def all_calls() -> list[tuple[str, str, list[str]]]:
    with pytest.MonkeyPatch.context() as patch:
        found = parsers(patch)
    assert found.keys() - {"serve"} == CALLS.keys()  # a sound call of `serve` does not end
    return [(name, argument, words) for name in CALLS for argument, words in spoilt(name, found[name])]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_spoilt_argument_ends_in_one_line_or_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world(tmp_path)
    calls = random.Random(0).sample(all_calls(), 60)
    faults = {}
    for number, (_, argument, words) in enumerate(calls):
        if said := fault(words, tmp_path / f"out{number}"):
            faults[" ".join(words)] = f"{argument}: {said}"
    assert faults == {}


def _try_all(only: list[str]) -> None:
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    world(folder)
    counts: Counter[str] = Counter()
    for number, (name, argument, words) in enumerate(all_calls()):
        if only and not any(name.startswith(each) for each in only):
            continue
        said = fault(words, folder / f"out{number}")
        counts["tried"] += 1
        counts["wrong"] += bool(said)
        if said:
            print(ascii(words), "|", argument, "|", ascii(said)[:400], flush=True)
    print(dict(counts))
    shutil.rmtree(folder)


if __name__ == "__main__":
    _try_all(sys.argv[1:])
