import errno

import pytest

from lrsclip_jax.errors import InputError, cli, nearest


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("captions.json: no record"), 2, "error: captions.json: no record\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "error: a/b: No space left on device; "),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_a_status(error, status, line, capsys):
    with pytest.raises(SystemExit) as exit:
        cli(raising(error))
    assert exit.value.code == status
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("a defect"), OSError(errno.EBADF, "Bad file descriptor")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        cli(raising(error))


def test_success_and_nearest():
    with pytest.raises(SystemExit) as exit:
        cli(lambda: None)
    assert exit.value.code == 0
    assert nearest("imgae", ["image", "long"]) == ", did you mean 'image'?"
    assert nearest("xyz", ["image", "long"]) == ""
