"""Commands that are killed or meet a full disk, and are started again: the outcome is that of one undisturbed run."""

import re

import numpy as np
import pytest
from interrupting import contents, killed_anywhere, on_full_disks, run
from PIL import Image
from tiny_clip import clip_folder

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

MOMENTS, DISKS = 3, 2  # for a minute in all; a release is tried with 10 and 5

RECIPE = """
from lrsclip_jax.corpus.recipe_config import defaults, source, subset
def get_config(root=None):
    c = defaults()
    c.subsets = (subset("s", "rules", source("boxes-csv", root + "/boxes.csv", licence="CC0"), tile=32),)
    c.images.min_side, c.duplicates = 8, None
    return c
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A prepared set, a checkpoint, an embedding set and a recipe of a corpus."""
    folder = tmp_path_factory.mktemp("world")
    clip_folder(folder / "clip")
    rows = ["image_path,xmin,ymin,xmax,ymax,label"]
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,5,5,30,30,Tree")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    (folder / "recipe.py").write_text(RECIPE)
    for arguments in (
        ["prepare", "scenes:48:1", "--size=64", "--workers=1", f"--out={folder / 'prepared'}"],
        ["embed", "scenes:96:1", f"--checkpoint={folder / 'clip'}", "--dataset=scenes", f"--out={folder / 'set'}"],
    ):
        made = run(arguments, folder / arguments[0])
        assert made.status == 0, made.said
    return folder


def parameters(run_folder):
    """What a run folder holds: its config, and the values of its checkpoint."""
    import jax

    from lrsclip_jax import weights

    read = weights.read(str(run_folder))
    leaves = {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in jax.tree.leaves_with_path(read.params)
    }
    names = sorted({re.sub("[0-9a-f]{32}", "RANDOM", name) for name in contents(run_folder)})
    return (run_folder / "config.json").read_text(), names, leaves


COMMANDS = {
    "prepare": (["prepare", "scenes:40:1", "--size=64", "--workers=1", "--shard-size=8"], contents),
    "mosaic": (["mosaic", "{world}/prepared", "--n=2", "--count=20", "--size=64"], contents),
    "embed": (
        ["embed", "{world}/prepared", "--checkpoint={world}/clip", "--pictures", "--text-lengths=20,40"],
        contents,
    ),
    "evaluate": (["evaluate", "{world}/set", "--only=retrieval,linear_probe,text_lengths", "--processes=1"], contents),
    "corpus": (["corpus", "build", "{world}/recipe.py:{world}"], contents),
    "import": (["convert", "import", "{world}/clip", "--context-length=100"], parameters),
}


def command(name, world):
    arguments, outcome = COMMANDS[name]
    option = "--workdir" if name == "import" else "--out"
    return (lambda out: [*(argument.format(world=world) for argument in arguments), f"{option}={out}"]), outcome


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_moment_the_same_command_ends_with_the_same_outcome(name, world, tmp_path):
    arguments, outcome = command(name, world)
    assert killed_anywhere(arguments, tmp_path, outcome, MOMENTS) > 10


@pytest.mark.parametrize("name", COMMANDS)
def test_on_a_full_disk_it_is_one_line_and_the_same_command_ends_with_the_same_outcome(name, world, tmp_path):
    arguments, outcome = command(name, world)
    if not on_full_disks(arguments, tmp_path, outcome, DISKS):
        pytest.skip("no disk could be mounted")
