"""The command `lrsclip`, also `python -m lrsclip_jax`: every program of the package under one name.

Options mean the same in every command:

    SOURCE, RECIPE, SET, …   what a command works on stands first, without a name
    --checkpoint=SRC         weights: a run folder, one of its checkpoints, any file or folder that `convert` knows, or
                             hf:owner/name[/FILE][@revision]
    --data=SOURCE            a data set that is needed in addition
    --out=PATH               the result
    --workdir=DIR            the folder of a training run, local or gs://…
    --config=RECIPE          a recipe: its name, NAME:ARGUMENT, or a file, FILE.py:ARGUMENT
    --config.KEY=VALUE       another value of one of its keys

A leading "~" is the home folder in every path. `lrsclip COMMAND --help` shows examples. A command that was stopped
continues when it is started again.

Exit status:

    0    done
    1    a negative answer (see the command's help)
    2    bad input, or a system that refuses: a full disk, too little memory, an output that can't be written
    70   a defect of the program; the message names a file with the traceback (LRSCLIP_TRACEBACK=1 prints it instead)
    130  interrupted by Ctrl-C, training after saving; a second Ctrl-C ends the command without waiting for anything
    141  the reader of the output has gone
    143  stopped by SIGTERM after saving
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from lrsclip_jax import completion, errors
from lrsclip_jax.errors import InputError, nearest


class Command(NamedTuple):
    """module: has `main(arguments, prog)`, which returns the exit status; help: one line."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "train": Command("lrsclip_jax.main", "train a model by a recipe, evaluate it, write a report"),
    "prepare": Command("lrsclip_jax.data.prepare.__main__", "turn captioned images into a prepared data set"),
    "mosaic": Command("lrsclip_jax.data.mosaic.__main__", "make images with long captions out of short ones"),
    "corpus": Command("lrsclip_jax.corpus.__main__", "build a corpus of captioned images, read, count, export one"),
    "convert": Command("lrsclip_jax.convert.__main__", "import, export and compare checkpoints of PyTorch"),
    "interpolate": Command("lrsclip_jax.interpolate.__main__", "score weights between two checkpoints, keep the best"),
    "embed": Command("lrsclip_jax.embed.__main__", "embed images and texts with a checkpoint"),
    "evaluate": Command("eval.suite.__main__", "evaluate embedding sets, write a report"),
    "leaks": Command("lrsclip_jax.leaks.__main__", "find evaluation images that are near training images"),
    "study": Command("lrsclip_jax.studies.__main__", "repeat a paper's ablation: variants, seeds, intervals, verdicts"),
    "localise": Command("lrsclip_jax.localise.__main__", "find where a scene shows what a text says"),
    "segment": Command("lrsclip_jax.localise.segment_command", "find the class of every pixel, and measure mIoU"),
    "index": Command("lrsclip_jax.search.index_command", "index an archive of imagery, to be searched by text"),
    "search": Command("lrsclip_jax.search.search_command", "find what a text says in an indexed archive of imagery"),
    "serve": Command("lrsclip_jax.search.page.__main__", "serve a page that searches an indexed archive, and its API"),
    "plan": Command("lrsclip_jax.plan.__main__", "say whether a training job fits a machine that is not there"),
    "tune": Command("lrsclip_jax.plan.tune", "time a training step here and say which keys make it faster"),
    "papers": Command("eval.papers.__main__", "print the papers' tables, with measured rows next to them"),
}

_USAGE = """\
usage: {prog} COMMAND …

Long-text CLIP for remote sensing: data, training, evaluation, checkpoints.

commands:
{commands}

{grammar}
options:
  -h, --help  show this help
  --version   show the version
"""


def main(arguments: Sequence[str] | None = None, prog: str = "lrsclip") -> int:
    """Runs the command that the first argument names with the others, and returns its exit status."""
    if completion.VARIABLE in os.environ:
        completion.complete({name: command.module for name, command in COMMANDS.items()})
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_help(prog), end="")
        return 0
    if name == "--version":
        print(f"lrsclip_jax {version()}")
        return 0
    if name not in COMMANDS:
        raise InputError(f"unknown command '{name}'{nearest(name, COMMANDS)} ({prog} --help lists the commands)")
    return importlib.import_module(COMMANDS[name].module).main(rest, f"{prog} {name}") or 0


def version() -> str:
    """Returns the version of the installed package."""
    from importlib import metadata

    try:
        return metadata.version("lrsclip_jax")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def run() -> None:
    """The console script `lrsclip`: runs `main` and exits."""
    errors.cli(main)


def _help(prog: str) -> str:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{command.help}" for name, command in COMMANDS.items())
    return _USAGE.format(prog=prog, commands=commands, grammar=(__doc__ or "").split("\n\n", 1)[-1])
