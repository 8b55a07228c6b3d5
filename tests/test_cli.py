"""The command `lrsclip`: its table, its help, and the grammar of options that all commands share."""

import importlib
import json
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from eval.command import add_command, add_subject, command_line, floats, integers, path
from eval.suite.__main__ import main as evaluate
from lrsclip_jax import cli, errors
from lrsclip_jax.errors import InputError, Terminated

ROOT = Path(__file__).parents[1]
DOORS = {  # today's programs, which stay
    "lrsclip_jax.main": "train",
    "lrsclip_jax.data.prepare": "prepare",
    "lrsclip_jax.data.mosaic": "mosaic",
    "lrsclip_jax.corpus": "corpus",
    "lrsclip_jax.convert": "convert",
    "lrsclip_jax.embed": "embed",
    "lrsclip_jax.interpolate": "interpolate",
    "eval.suite": "evaluate",
    "lrsclip_jax.localise": "localise",
    "lrsclip_jax.plan": "plan",
    "lrsclip_jax.studies": "study",
    "eval.papers": "papers",
}
SUBCOMMANDS = [
    *(["corpus", name] for name in ("build", "read", "statistics", "export")),
    *(["convert", name] for name in ("import", "export", "compare")),
]
SLOW = {"jax", "tensorflow_datasets", "matplotlib", "transformers", "torch", "sklearn"}
# Runs a command and says on the last line which of SLOW it imported.
_IMPORTS = f"""
import sys
from lrsclip_jax.cli import main
try:
    status = main(sys.argv[1:])
except Exception as error:
    print(type(error).__name__, error)
except SystemExit as end:
    status = end.code
print("imported", *sorted({SLOW} & set(sys.modules)))
"""


def lrsclip(*words, **settings):
    return subprocess.run([sys.executable, "-m", "lrsclip_jax", *words], capture_output=True, text=True, **settings)


def imported_by(*words):
    done = subprocess.run([sys.executable, "-c", _IMPORTS, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:], done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_its_module_and_a_line_of_help(name):
    command = cli.COMMANDS[name]
    assert callable(importlib.import_module(command.module).main)
    assert 10 < len(command.help) < 70 and command.help[0].islower() and not command.help.endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], *([name] for name in cli.COMMANDS), *SUBCOMMANDS], ids=" ".join)
def test_help_waits_for_no_large_library_and_shows_how_it_was_called(words):
    slow, said = imported_by(*words, "--help")
    assert slow == []
    assert said.startswith(" ".join(["usage: lrsclip", *words]) + " ")
    assert "\n  -h, --help" in said


@pytest.mark.slow
@pytest.mark.parametrize("module", DOORS)
def test_the_doors_of_before_stay(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python -m {module} ")
    called_so = cli.COMMANDS[DOORS[module]].module
    assert called_so.removesuffix(".__main__") == module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--config=vitb61", "--workdir=r"], "no recipe vitb61"),
        (["train", "--config=quickstart", "--workdir=r", "--config.sed=1"], "did you mean 'seed'"),
        (["plan", "--config=vitb61", "--topology=cpu:1"], "no recipe vitb61"),
        (["embed", "a", "--checkpoint=b", "--out=c", "--size=0"], "--size=0"),
        (["localise", "a.tif", "--checkpoint=b", "--text= "], "--text is empty"),
        (["convert", "import", "--workdir=c"], "give one SRC"),
        (["study", "pmc", "--workdir=c"], "no study pmc, did you mean 'pcm'"),
        (["study", "pcm", "--workdir=c", "--shard=3/2"], "--shard=3/2"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_arguments_wait_for_no_large_library(words, message):
    slow, said = imported_by(*words)
    assert slow == [] and "InputError" in said and message in said


def test_the_first_help_lists_every_command_and_the_grammar(capsys):
    assert cli.main([]) == cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.help)}$", said, re.MULTILINE)
    for option in ("--checkpoint=SRC", "--data=SOURCE", "--out=PATH", "--workdir=DIR", "--config=RECIPE"):
        assert f"    {option} " in said


def test_the_version_is_that_of_the_package(capsys):
    assert cli.main(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"lrsclip_jax {project['version']}\n"
    module, _, function = project["scripts"]["lrsclip"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_an_unknown_command_is_one_line_with_the_nearest_one():
    done = lrsclip("evalute")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: unknown command 'evalute', did you mean 'evaluate'? (python -m lrsclip_jax --help lists the commands)\n"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["embed", "--checkpoint=b", "--out=c"], "SOURCE is missing"),
        (["embed", "a", "--checkpoint=b"], "the following arguments are required: --out"),
        (["embed", "a", "--checkpoint=b", "--out=c", "--feature=encoder"], "did you mean '--features'"),
        (["convert", "export", "a", "--format=hf", "--out=b", "--modle=c"], "did you mean '--model'"),
        (
            ["embed", "a", "--checkpoint=b", "--out=c", "--text-lengths=20,x"],
            "--text-lengths=20,x: expected a list of whole numbers",
        ),
        (["embed", "a", "b", "--checkpoint=c", "--out=d"], "unknown argument b"),
        (["embed", "a", "--data=b", "--checkpoint=c", "--out=d"], "not allowed with argument SOURCE"),
    ],
)
def test_a_slip_in_the_options_is_one_line_and_status_2(words, line, capsys):
    with pytest.raises(SystemExit) as end:
        errors.cli(lambda: cli.main(words))
    assert end.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("error: ") and line in said.err
    assert f"lrsclip {words[0]} " in said.err and "--help" in said.err


class Seen(Exception):
    """Carries the parsed options out of a command."""


@pytest.fixture
def parsed(monkeypatch):
    """Returns parse(words): the options that a command would work with."""
    from eval import command

    def seen(self, args=None, namespace=None):
        flags, rest = self.parse_known_args(args, namespace)
        assert rest == []
        raise Seen(flags)

    monkeypatch.setattr(command._Parser, "parse_args", seen)

    def parse(*words):
        with pytest.raises(Seen) as found:
            cli.main(words)
        return vars(found.value.args[0])

    return parse


@pytest.mark.parametrize(
    ("today", "before"),
    [
        ("embed AID --checkpoint=b --out=c", "embed --data=AID --checkpoint=b --out=c"),
        ("embed --checkpoint b --out c AID", "embed --checkpoint=b --data AID --out=c"),
        ("evaluate a b --out=c", "evaluate --sets=a --sets=b --out=c"),
        ("evaluate a --out=c", "evaluate --out=c --sets=a"),
        ("localise a.tif --checkpoint=b --text=c", "localise --checkpoint=b --image=a.tif --text=c"),
        ("papers results --table=rsclip", "papers --table=rsclip --results=results"),
    ],
)
def test_spellings_of_before_mean_the_same(parsed, today, before):
    assert parsed(*today.split()) == parsed(*before.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_shows_one_spelling(name, capsys):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    said = capsys.readouterr().out
    # of `search` an image is an option: its subject is the index
    assert not re.search("--(sets|results)[ =]" if name == "search" else "--(sets|image|results)[ =]", said)
    assert name in ("convert", "interpolate") or not re.search("--data[ =]", said)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("embed ~/AID --checkpoint=~/b16 --out=~/set", {"data": "AID", "checkpoint": "b16", "out": "set"}),
        ("embed --data=~/AID --checkpoint=~/b --out=c --image-root=~/i", {"data": "AID", "image_root": "i"}),
        ("prepare ~/AID --out=~/p --image-root=~/i", {"source": "AID", "out": "p", "image_root": "i"}),
        ("mosaic ~/AID --out=~/p", {"prepared": "AID", "out": "p"}),
        ("evaluate ~/s --out=~/e", {"out": "e"}),
        ("localise ~/a.tif --checkpoint=~/b --text=c --out=~/f", {"image": "a.tif", "checkpoint": "b", "out": "f"}),
        ("convert import ~/a.pt --workdir=~/r", {"source": "a.pt", "workdir": "r"}),
        ("convert import --image=~/a --text=~/b --workdir=r", {"image": "a", "text": "b"}),
        ("convert export ~/a --format=hf --out=~/b", {"source": "a", "out": "b"}),
        ("convert compare ~/a --with=~/b --data=~/c", {"source": "a", "export": "b", "data": "c"}),
        ("papers ~/r", {"results": "r"}),
    ],
)
def test_a_tilde_is_the_home_folder_in_every_path(parsed, monkeypatch, words, expected):
    monkeypatch.setenv("HOME", "/somewhere")
    options = parsed(*words.split())
    assert {name: str(options[name]) for name in expected} == {n: f"/somewhere/{v}" for n, v in expected.items()}


def test_a_tilde_is_the_home_folder_for_corpora_too(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    record = {"id": "a", "source": "s", "image": "a.jpg", "licence": "CC0", "short": ["a harbour"]}
    (tmp_path / "corpus.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))}/nowhere: "):
        cli.main(["corpus", "read", "captions", "~/nowhere", "--out=~/out"])
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))}/my.py: no file"):
        cli.main(["corpus", "build", "~/my.py", "--out=~/out"])
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "empty"))):
        cli.main(["corpus", "export", "~/empty", "--out=~/out.json"])
    assert not (tmp_path / "~").exists()


def test_evaluate_is_the_programs_own_main(tmp_path, capsys):
    for run in (evaluate, lambda words: cli.main(["evaluate", *words])):
        with pytest.raises(InputError, match="no embedding set there"):
            run([str(tmp_path), f"--out={tmp_path}/out"])


def test_lists_of_numbers_and_paths_are_read_in_one_way(monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/somewhere")
    assert integers("256,512") == (256, 512) and floats("2,98.5") == (2.0, 98.5)
    assert path("~/a") == Path("/somewhere/a") and path("a/~b") == Path("a/~b")


def test_a_command_line_tells_its_commands_from_each_other(capsys):
    parser = command_line("tool", "Does things.", "examples:\n  none\n", usage="make|count …")
    commands = parser.add_subparsers(prog="tool", required=True)
    make = add_command(commands, "make", print, "THING --size=N", "makes a thing")
    add_subject(make, "thing", metavar="THING", help="the thing", many=True)
    make.add_argument("--size", type=int)
    options = parser.parse_args(["make", "a", "b", "--size=3"])
    assert (options.run, options.thing, options.size) == (print, ["a", "b"], 3)
    with pytest.raises(InputError) as slip:
        parser.parse_args(["make", "a", "--sise=3"])
    assert str(slip.value) == (
        "unknown argument --sise=3, did you mean '--size'?; tool make --help lists what is expected"
    )
    with pytest.raises(SystemExit):
        parser.parse_args(["make", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: tool make THING --size=N\n\nMakes a thing.\n")


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        (InputError("a.json: no record"), 2, "error: a.json: no record\n"),
        (Terminated(7), 143, "stopped by SIGTERM after step 7, saved; the same command continues\n"),
        (Terminated(7, signal.SIGINT), 130, "interrupted after step 7, saved; the same command continues\n"),
        (None, 3, ""),
    ],
)
def test_the_script_exits_with_the_status_of_the_command(end, status, said, monkeypatch, capsys):
    def main(words, prog):
        assert (words, prog) == (["--out=a"], "lrsclip papers")
        if end:
            raise end
        return 3

    monkeypatch.setattr("eval.papers.__main__.main", main)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lrsclip", "papers", "--out=a"])
    with pytest.raises(SystemExit) as exit:
        cli.run()
    assert exit.value.code == status
    assert capsys.readouterr().err == said


def test_an_interrupted_command_is_one_line_and_status_130(tmp_path):
    (tmp_path / "own.py").write_text(
        "import time\n\ndef get_config():\n    print('here', flush=True)\n    time.sleep(60)\n"
    )
    words = ["train", f"--config={tmp_path}/own.py", f"--workdir={tmp_path}/run"]
    run = [sys.executable, "-c", "from lrsclip_jax import cli; cli.run()", *words]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "interrupted\n")
