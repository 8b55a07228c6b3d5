"""Ctrl-C at many moments of every command: status 130 or a finished command, a line at most, and no traceback."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
from PIL import Image
from test_train import KEYS

MOMENTS = 20


def start(words: list[str], **settings) -> subprocess.Popen:
    """Starts a program in a process group of its own."""
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        **settings,
    )


def interrupted(words: list[str], after: float, group: bool, **settings) -> tuple[int, str]:
    """Returns status and stderr of a command that gets SIGINT after some seconds, alone or as a terminal's group."""
    with start(words, **settings) as process:
        try:
            out, said = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
            out, said = process.communicate(timeout=60)
        return process.returncode, out + said


def fault(status: int, said: str) -> str | None:
    """Returns what is wrong with the end of an interrupted command, or None."""
    if status not in (130, 0):
        return f"status {status}"
    for word in ("Traceback", "KeyboardInterrupt", "Exception ignored", "Error", "leaked", "error:"):
        if word in said:
            return f"says {word}"
    if said.count("interrupted") != (status == 130):
        return f"{said.count('interrupted')} lines with status {status}"
    return None


# Frames of our packages: without one the interpreter was still at its own start, where no program can help it.
OURS = re.compile(r'File ".*/(?:eval|lrsclip_jax)/(?!__init__\.py|interrupts\.py)')


def is_too_early(after: float, status: int, said: str) -> bool:
    """Whether the signal came before the first line of our packages could run."""
    return after < 0.5 and not OURS.search(said) and (status == -signal.SIGINT or "KeyboardInterrupt" in said)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return furnished(tmp_path_factory.mktemp("place"))


def furnished(folder: Path) -> Path:
    """Makes all that the commands work on in a folder, and returns it."""
    tiny_clip.clip_folder(folder / "clip")
    rng = np.random.default_rng(0)
    for name, height, width in (("scene.png", 300, 400), ("a.png", 64, 64), ("b.png", 64, 64)):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(folder / name)
    (folder / "scenes").mkdir()
    for name in ("a.png", "scene.png"):
        shutil.copy(folder / name, folder / "scenes")
    boxes = ["image_path,xmin,ymin,xmax,ymax,label"]
    boxes += [f"{name}.png,{x},5,{x + 8},30,Tree" for name in "ab" for x in range(0, 50, 10)]
    (folder / "boxes.csv").write_text("\n".join(boxes) + "\n")
    (folder / "recipe.py").write_text(RECIPE.format(folder=folder))
    made = [
        ["prepare", "scenes:40:1", "--size=64", "--workers=1", f"--out={folder}/prepared"],
        ["embed", "scenes:90:1", f"--checkpoint={folder}/clip", f"--out={folder}/set"],
        ["corpus", "read", "boxes-csv", f"{folder}/boxes.csv", f"--image-root={folder}", f"--out={folder}/corpus"],
        ["index", f"{folder}/scenes", f"--checkpoint={folder}/clip", f"--out={folder}/index"],
    ]
    for words in made:
        subprocess.run([sys.executable, "-m", "lrsclip_jax", *words], check=True, capture_output=True)
    return folder


RECIPE = """
from lrsclip_jax.corpus.recipe_config import defaults, source, subset

def get_config():
    config = defaults()
    config.subsets = (subset("s", "rules", source("boxes-csv", "{folder}/boxes.csv")),)
    config.images.min_side = 8
    return config
"""
PROGRAMS = {
    "train": "lrsclip_jax.main --config=configs/quickstart.py --workdir=OUT --config.train.compilation_cache=None",
    "train with workers": "lrsclip_jax.main --config=configs/quickstart.py --workdir=OUT --config.data.workers=1",
    "prepare": "lrsclip_jax.data.prepare scenes:40:1 --size=64 --workers=1 --out=OUT",
    "prepare with workers": "lrsclip_jax.data.prepare scenes:200:1 --size=64 --workers=2 --out=OUT",
    "mosaic": "lrsclip_jax.data.mosaic HERE/prepared --count=60 --out=OUT",
    "corpus read": "lrsclip_jax.corpus read boxes-csv HERE/boxes.csv --image-root=HERE --out=OUT",
    "corpus build": "lrsclip_jax.corpus build HERE/recipe.py --out=OUT --config.allow_unknown_licences=True",
    "corpus statistics": "lrsclip_jax.corpus statistics HERE/corpus --out=OUT",
    "convert import": "lrsclip_jax.convert import HERE/clip --workdir=OUT",
    "convert export": "lrsclip_jax.convert export HERE/clip --format=open_clip --out=OUT",
    "convert compare": "lrsclip_jax.convert compare HERE/clip --with=HERE/clip --data=scenes:8:1",
    "interpolate": "lrsclip_jax.interpolate HERE/clip HERE/clip --data=scenes:24:1 --alphas=0:1:0.5 --out=OUT",
    "embed": "lrsclip_jax.embed scenes:24:1 --checkpoint=HERE/clip --out=OUT",
    "evaluate": "eval.suite HERE/set --out=OUT",
    "localise": "lrsclip_jax.localise HERE/scene.png --checkpoint=HERE/clip --text=trees --out=OUT",
    "plan": "lrsclip_jax.plan --config=quickstart --topology=cpu:1",
    "index": "lrsclip_jax.search.index_command HERE/scenes --checkpoint=HERE/clip --out=OUT",
    "search": "lrsclip_jax.search.search_command HERE/index trees",
    "papers": "eval.papers",
    "script": "lrsclip papers",
}


def words_of(name: str, place: Path, out: Path) -> list[str]:
    """Returns the command line of a program above."""
    module, *words = PROGRAMS[name].replace("HERE", str(place)).replace("OUT", str(out)).split()
    if name.startswith("train"):
        words += [f"--config.{key}={value}" for key, value in KEYS.items()]
    if module == "lrsclip":
        script = place / "lrsclip"
        script.write_text("import sys\nfrom lrsclip_jax.cli import run\nsys.exit(run())\n")
        return [sys.executable, str(script), *words]
    return [sys.executable, "-m", module, *words]


def sweep(name: str, place: Path, out: Path, moments: int, **settings) -> list[str]:
    """Returns what went wrong when a command was interrupted at some moments from its start to its end."""
    begun = time.monotonic()
    with start(words_of(name, place, out / "whole"), **settings) as process:
        said = "".join(process.communicate(timeout=300))
    assert process.returncode == 0, said
    lasted = time.monotonic() - begun
    wrong = []
    for index in range(moments):
        after = 0.02 + (lasted - 0.02) * (index / moments) ** 1.5  # more of them early, where imports are
        words = words_of(name, place, out / str(index))
        status, said = interrupted(words, after, group=index % 2 == 0, **settings)
        if is_too_early(after, status, said):
            continue
        if reason := fault(status, said):
            wrong.append(f"{name}, {after:.3f} of {lasted:.1f} s: {reason}\n{said[-1500:]}")
    return wrong


QUICK = ("prepare with workers", "corpus read", "localise", "plan", "papers", "script")


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", QUICK)
def test_ctrl_c_at_any_moment_is_one_line_and_status_130(name, place, tmp_path):
    assert sweep(name, place, tmp_path, moments=3) == []


if __name__ == "__main__":  # all commands at twenty moments each: half an hour on two cores
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as scratch:
        there = furnished(Path(scratch))
        for program in sys.argv[1:] or PROGRAMS:
            found = sweep(program, there, Path(tempfile.mkdtemp(dir=scratch)), MOMENTS)
            print(f"{program}: {len(found)} of {MOMENTS} wrong", *found, sep="\n", flush=True)
