"""Completion in the shell, asked as bash asks: by the environment, with the answer in a file."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("argcomplete")


def completions(line, folder):
    answer = folder / "answer"
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    code = "import sys; from lrsclip_jax.cli import run; run()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
    return {word.strip() for word in answer.read_text().split("\n")}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lrsclip loc", {"localise"}),
        ("lrsclip corpus bu", {"build"}),
        ("lrsclip embed x --check", {"--checkpoint"}),
        ("lrsclip search x --hea", {"--heatmap"}),
        ("lrsclip convert export x --for", {"--format"}),
        ("lrsclip convert export x --format=h", {"--format=hf"}),
        ("lrsclip train --config=vitb", {"--config=vitb16", "--config=vitb32"}),
        ("lrsclip train --config=vitb16 --config.model.text.cont", {"--config.model.text.context_length"}),
    ],
)
def test_a_line_is_completed(line, expected, tmp_path):
    assert completions(line, tmp_path) == expected


def test_an_empty_line_offers_every_command(tmp_path):
    from lrsclip_jax.cli import COMMANDS

    assert COMMANDS.keys() <= completions("lrsclip ", tmp_path)
