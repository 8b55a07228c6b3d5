"""Commands and snippets of the documents: found in their Markdown, and run in a folder of small data or parsed only.

A comment before a block says how a test treats it; readers don't see it:

    <!-- needs: a GPU -->                       it is parsed, not run
    <!-- runs in: README.md -->                 the same commands stand there, and run there
    <!-- test adds: --config.epochs=1.0 -->     words that the test adds to the block's `lrsclip train`
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eval.command import _Parser
from lrsclip_jax import cli
from lrsclip_jax import config as configs

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "launch/README.md", *ROOT.glob("docs/**/*.md")])
# The size of every training in a test; all else is as the document has it.
SMALL = (
    "--config.model.name=tiny --config.model.image.layers=1 --config.model.image.width=32 --config.model.text.layers=1"
    " --config.model.text.width=32 --config.model.image.patch=16 --config.model.image.size=32 --config.batch_size=8"
    " --config.data.long_length=32 --config.data.short_length=16 --config.epochs=1.0 --config.log.tensorboard=False"
    " --config.optimizer.warmup_steps=1 --config.eval.batch_size=8 --config.eval.truncations=()"
).split()
ENDLESS = {"serve"}  # parsed only
# Programs that are not run.
OTHERS = {"git", "head", "pytest", "python3", ".", "mkdocs", "pre-commit", "gcloud", "docker", "eval"}
_BLOCK = re.compile(
    r"^(?P<about>(?:<!--(?:(?!-->).)*-->\s*)*)^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    """A fenced block: its language, code, line, and what the comments before it say."""

    language: str
    code: str
    line: int
    needs: str
    adds: list[str]
    runs_in: str

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a shell block, a list of words each."""
        joined = re.sub(r"\\\n\s*", " ", self.code)
        parts = (part for line in joined.splitlines() for part in re.split(r"\s&&\s", line))
        return [words for part in parts if (words := shlex.split(part, comments=True))]


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        about = dict(re.findall(r"<!-- (needs|test adds|runs in): (.*?) -->", match["about"]))
        line = text.count("\n", 0, match.start("code"))
        needs, adds = about.get("needs", ""), about.get("test adds", "").split()
        found.append(Block(match["language"], match["code"], line, needs, adds, about.get("runs in", "")))
    return found


class Parsed(Exception):
    """A command line was accepted, with these words left for the config."""

    def __init__(self, flags: Any, rest: list[str]):
        super().__init__(flags, rest)
        self.flags, self.rest = flags, rest


def parse(words: list[str]) -> None:
    """Checks that a command accepts a command line, without running it; raises InputError where it does not."""
    depth = 0

    def stopping(parse: Any) -> Any:
        def parse_and_stop(*arguments: Any) -> Any:
            nonlocal depth
            depth += 1
            found = parse(*arguments)
            depth -= 1
            if depth == 0:  # no parser that another one calls
                raise Parsed(*(found if isinstance(found, tuple) else (found, [])))
            return found

        return parse_and_stop

    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_known_args", "parse_known_intermixed_args"):
            patch.setattr(_Parser, name, stopping(getattr(_Parser, name)))
        try:
            cli.main(words)
            return  # such as --version
        except Parsed as parsed:
            flags, rest = parsed.flags, parsed.rest
        except SystemExit as end:
            assert not end.code, words
            return
    assert all(word.startswith("--config.") for word in rest), rest
    if words[0] in ("train", "plan"):
        name = flags.config.partition(":")[0]
        if not name.endswith(".py"):
            configs.load(flags.config, configs.overrides_of(rest))
        elif (ROOT / name).exists():
            configs.load(str(ROOT / flags.config), configs.overrides_of(rest))


def check(words: list[str], page: Path) -> None:
    """Checks a command that is not run: its program, and for ours all of its words."""
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)] if "=" in words[0] else words
    program, *rest = words
    if program in ("python", "python3") and rest[:2] == ["-m", "lrsclip_jax.main"]:
        program, rest = "lrsclip", ["train", *rest[2:]]
    if program == "lrsclip":
        parse(rest)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = {extra for word in rest for extra in re.findall(r"\[([\w,-]+)\]", word)}
        ours = {extra for names in named for extra in names.split(",")}
        assert ours <= extras.keys(), f"{page}: {words}"
    elif program.startswith(("launch/", ".ci/")):
        assert (ROOT / program).exists(), f"{page}: {words}"
    elif program == "python" and rest[:1] == ["-m"] and rest[1].startswith(("benchmarks.", "tests.")):
        assert (ROOT / rest[1].replace(".", "/")).with_suffix(".py").exists(), f"{page}: {words}"
    else:
        assert program in OTHERS, f"{page}: {words}"


def _runs_in(page: Path, words: list[str]) -> bool:
    return any(words in block.commands for block in blocks(page) if not block.needs and block.language == "bash")


def run(page: Path) -> int:
    """Runs the blocks of a page in order, in the present working directory, and returns how many ran."""
    names: dict[str, Any] = {"__name__": "__main__"}
    ran = 0
    for block in blocks(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "json":
            for line in block.code.splitlines():
                json.loads(line)
        elif block.language == "python":
            code = compile(ast.parse(block.code, where), where, "exec")
            if not block.needs:
                exec(code, names)
                ran += 1
        elif block.language == "bash":
            for words in block.commands:
                ours = words[0] == "lrsclip" and words[1] not in ENDLESS and not {"--help", "--keys"} & {*words}
                if block.runs_in:
                    assert _runs_in(ROOT / block.runs_in, words), f"{where}: {words} is not in {block.runs_in}"
                if block.needs or block.runs_in or not ours:
                    check(words, page)
                    continue
                added = [*SMALL, *block.adds] if words[1] == "train" else []
                status = cli.main([*words[1:], *added], "lrsclip")
                assert not status, f"{where}: {words} ended with status {status}"
                ran += 1
    return ran
