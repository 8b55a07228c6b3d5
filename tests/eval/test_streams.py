"""Outputs that are closed, full, without a reader, or in another encoding."""

import os
import subprocess
import sys
import textwrap

import pytest

TABLES = [sys.executable, "-m", "eval.papers"]


def shell(command, *words, **environment):
    """Runs a line of a shell in which "$@" is a command."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *words],
        capture_output=True,
        env=os.environ | {"PYTHONWARNINGS": "default"} | environment,
        timeout=60,
    )


def program(body):
    """A program that runs `main` as every command does."""
    code = "import sys, os\nfrom eval.errors import InputError, cli\ndef main():\n"
    return [sys.executable, "-c", code + textwrap.indent(textwrap.dedent(body), "    ") + "\ncli(main)\n"]


def one_line(said, words):
    return said.startswith(b"error: ") and said.count(b"\n") == 1 and words in said


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_goes_ends_a_command_without_a_word(unbuffered):
    endless = program("while True:\n    print('a' * 100)")
    done = shell('exec 3>&1; { "$@" || echo $? >&3; } | head -n 1 >&3', *endless, PYTHONUNBUFFERED=unbuffered)
    assert (done.stdout, done.stderr) == (b"a" * 100 + b"\n141\n", b"")


def test_a_reader_who_goes_before_the_end_is_seen_at_the_end():
    done = shell('exec 3>&1; { sleep 0.1; "$@" || echo $? >&3; } | true', *TABLES)
    assert (done.stdout, done.stderr) == (b"141\n", b"")


@pytest.mark.slow
@pytest.mark.parametrize(("output", "reason"), [(">/dev/full", b"No space left"), (">&-", b"Bad file descriptor")])
def test_an_output_that_takes_nothing_is_one_line(output, reason):
    words = b"can't write to the standard output: " + reason
    for unbuffered in ("", "1"):
        done = shell(f'"$@" {output}', *program("print('a')"), PYTHONUNBUFFERED=unbuffered)
        assert done.returncode == 2 and one_line(done.stderr, words)
    done = shell(f'"$@" {output}', *TABLES, "--help", PYTHONUNBUFFERED="1")
    assert done.returncode == 2 and one_line(done.stderr, words)
    done = shell(f'"$@" {output}', *program("print('a'); raise InputError('b is missing')"), PYTHONUNBUFFERED="")
    assert (done.returncode, done.stderr) == (2, b"error: b is missing\n")
    done = shell(f'"$@" {output}', *program("pass"))  # which has nothing to say
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_without_messages_or_input_a_command_does_its_work(closed):
    done = shell(f'"$@" {closed}', *program("print('a', file=sys.stderr); print('done')"))
    assert (done.returncode, done.stdout) == (0, b"done\n")
    assert shell(f'"$@" {closed}', *program("raise InputError('a')")).returncode == 2


def test_a_file_does_not_take_the_number_of_a_closed_stream(tmp_path):
    body = f"""
        file = open({str(tmp_path / "data")!r}, "wb", 0)
        print("message", file=sys.stderr, flush=True)
        os.write(2, b"of native code")
        file.write(b"data")
    """
    assert shell('"$@" <&- 2>&-', *program(body)).returncode == 0
    assert (tmp_path / "data").read_bytes() == b"data"


C = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_the_tables_of_the_papers_fit_any_terminal():
    done = shell('"$@"', *TABLES, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"") and len(done.stdout) > 5000 and b"?" in done.stdout


@pytest.mark.parametrize(
    "terminal", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "cp1252"}, C, {}]
)
def test_what_a_terminal_cannot_show_is_replaced(terminal):
    body = (
        "name = '\\u6f22 \\xd7 \\udcff\\ud800 \\xe9'; print(name); print(name, file=sys.stderr); raise InputError(name)"
    )
    done = shell('"$@"', *program(body), **terminal)
    assert done.returncode == 2 and done.stdout.count(b"?") >= 2 and done.stdout.endswith(b"\n")
    assert b"\\udcff" in done.stderr and b"Traceback" not in done.stderr and done.stderr.count(b"\n") == 2


def test_streams_of_others_stay_as_they_are(capsys):
    from eval.streams import open_streams

    before = sys.stdout, sys.stderr
    open_streams()
    assert (sys.stdout, sys.stderr) == before
