"""How a command ends: one line and a status for everything that goes wrong."""

import errno
import os
import re
import signal
import stat
from pathlib import Path

import pytest

from eval.defects import ON_STDERR
from eval.errors import printable
from lrsclip_jax.errors import DEFECT, InputError, Terminated, cli, nearest, told


def raising(error):
    def main():
        raise error

    return main


def system(number, *names):
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("captions.json: no record"), 2, "error: captions.json: no record\n"),
        (InputError("a\nb\x1b[2J\x85.jpg is missing"), 2, r"error: a\nb\x1b[2J\x85.jpg is missing" + "\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Terminated(7), 143, "stopped by SIGTERM after step 7, saved; the same command continues\n"),
        (Terminated(7, signal.SIGINT), 130, "interrupted after step 7, saved; the same command continues\n"),
        (SystemExit("no such thing"), 2, "error: no such thing\n"),
        (SystemExit(3), 3, ""),
        (MemoryError(), 2, "error: not enough memory: less at once needs less; what was finished is kept\n"),
        (MemoryError("Unable to allocate 7 TiB"), 2, "error: not enough memory (Unable to allocate 7 TiB): "),
        (system(errno.ENOSPC, "a/b"), 2, "error: a/b: No space left on device; what was finished is kept\n"),
        (system(errno.ENOSPC), 2, "error: No space left on device; what was finished is kept\n"),
        (system(errno.EMFILE, b"a\xff"), 2, r"error: a\udcff: Too many open files: raise the limit"),
        (system(errno.EXDEV, "a", None, "b\n"), 2, r"error: a → b\n: Invalid cross-device link; "),
        *(
            (system(number, "a/b"), 2, f"error: a/b: {os.strerror(number)}; ")
            for number in (
                *(errno.EIO, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ETXTBSY),
                *(errno.ENOENT, errno.EACCES, errno.EROFS, errno.ENOTEMPTY, errno.EBUSY, errno.EFBIG),
            )
        ),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, BaseException) else "",
)
def test_what_a_user_can_mend_is_one_line_and_a_status(error, status, line, capsys):
    with pytest.raises(SystemExit) as exit:
        cli(raising(error))
    assert exit.value.code == status
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == (1 if line else 0)


def test_notes_stand_before_the_line(capsys):
    error = InputError("nothing to train on")
    error.add_note("to make something:\n  lrsclip prepare …")
    assert told(raising(error)) == 2
    assert capsys.readouterr().err == "to make something:\n  lrsclip prepare …\nerror: nothing to train on\n"


class Panic(BaseException):
    """As extensions in Rust raise."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a defect\nof two lines"),
        system(errno.EBADF),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError("of a library"),
        RecursionError("maximum recursion depth exceeded"),
        KeyError("x"),
        AssertionError(),
        Panic("index out of bounds"),
        ExceptionGroup("several", [ValueError("one")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_foresaw_is_one_line_that_names_a_file_with_the_traceback(error, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert told(raising(error)) == DEFECT == 70
    said = capsys.readouterr().err
    assert said.startswith(f"error: a defect of this program, not of your input: {type(error).__name__}")
    assert said.count("\n") == 1 and said.endswith("; what was finished is kept\n")
    file = Path(re.search(r"report it to its authors with (\S+);", said)[1])
    assert file.parent == tmp_path and stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = file.read_text()
    assert "in raising" not in kept and "raise error" in kept and type(error).__name__ in kept
    assert "numpy 2" in kept and "lrsclip_jax" in kept


def test_the_line_of_a_defect_says_where_it_is(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def main():
        nearest(None, ["a"])  # which difflib refuses

    assert told(main) == DEFECT
    assert re.search(r"TypeError: .* \(eval/errors\.py, line \d+\); please report", capsys.readouterr().err)


@pytest.mark.parametrize("how", ["asked for", "no folder"])
def test_the_traceback_of_a_defect_is_printed_where_no_file_would_be_read(how, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing" if how == "no folder" else tmp_path))
    if how == "asked for":
        monkeypatch.setenv(ON_STDERR, "1")
    assert told(raising(RuntimeError("a defect"))) == DEFECT
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said and not list(tmp_path.iterdir())
    assert said.splitlines()[-1].startswith("error: a defect of this program") and "traceback above" in said


def test_no_secret_is_in_the_line_or_the_file_of_a_defect(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("OUR_API_KEY", "sk-123456")
    assert told(raising(RuntimeError("POST https://me:word@host/v1?key=abc&n=1 with sk-123456"))) == DEFECT
    for said in (capsys.readouterr().err, next(tmp_path.iterdir()).read_text()):
        assert "POST https://…@host/v1?key=…&n=1 with …" in said
        assert not re.search("sk-123456|me:word|=abc", said)


def test_no_secret_is_in_the_line_of_an_error(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_123456")
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/me")
    assert told(raising(InputError("/home/me: s3://me:word@bucket/a?sig=b&c=1 with hf_123456"))) == 2
    assert capsys.readouterr().err == "error: /home/me: s3://…@bucket/a?sig=…&c=1 with …\n"


def test_a_device_without_memory_is_no_defect(capsys):
    kind = type("JaxRuntimeError", (RuntimeError,), {})
    assert told(raising(kind("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nBuffers: …"))) == 2
    assert capsys.readouterr().err.startswith(
        "error: not enough memory (RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.): "
    )
    assert told(raising(kind("INTERNAL: anything else"))) == DEFECT


def test_success_and_nearest():
    with pytest.raises(SystemExit) as exit:
        cli(lambda: None)
    assert exit.value.code == 0
    assert nearest("imgae", ["image", "long"]) == ", did you mean 'image'?"
    assert nearest("xyz", ["image", "long"]) == ""
    assert printable("é 漢 a\tb") == r"é 漢 a\tb"
