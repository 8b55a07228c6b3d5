import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from eval import whole as module
from eval.errors import InputError
from eval.whole import remove_leftovers, whole, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a.npy"
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, np.arange(3))
        assert not path.exists() and partial.parent == tmp_path
    assert np.load(path).tolist() == [0, 1, 2] and names(tmp_path) == ["a.npy"]


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")
    wanted = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted), whole(path) as partial:
        partial.write_text("new")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with (
        pytest.raises(InputError, match=f"^can't write {tmp_path}/a: No such file or directory$"),
        whole(tmp_path / "a"),
    ):
        pass


def test_a_full_disk_is_one_line_with_the_path_and_the_reason(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)  # where delayed allocation notices it
    with pytest.raises(InputError, match=f"^can't write {path}: No space left on device$"):
        write_text(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["a"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_is_full(tmp_path):
    with pytest.raises(InputError, match=f"^can't write {tmp_path}/a: No space left on device$"):
        with whole(tmp_path / "a") as partial:
            partial.symlink_to("/dev/full")
            partial.write_text("new")
    assert not names(tmp_path)


def test_the_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="source.txt"), whole(tmp_path / "a") as partial:
        partial.write_text((tmp_path / "source.txt").read_text())
    assert not names(tmp_path)


def test_a_missing_folder_and_a_folder_in_the_way_are_named(tmp_path):
    with pytest.raises(InputError, match="can't write .*none/a: No such file or directory"):
        with whole(tmp_path / "none" / "a") as partial:
            partial.write_text("new")
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(InputError, match=f"^can't write {tmp_path}/a: Is a directory$"):
        write_text(tmp_path / "a", "new")
    with pytest.raises(InputError, match=f"^can't write {tmp_path}/c/d/e: Not a directory$"):
        (tmp_path / "c").write_text("")
        write_text(tmp_path / "c" / "d" / "e", "new")
    assert names(tmp_path) == ["a", "c"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_is_that_of_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("name", ["n" * 250, "ü" * 125, "n" * 255, os.fsdecode(b"\xff\xfe" * 60), ".hidden", "a b\n%s"])
def test_names_of_any_length_and_bytes(tmp_path, name):
    write_text(tmp_path / name, "old")
    with pytest.raises(ZeroDivisionError), whole(tmp_path / name) as partial:
        partial.write_text("new")
        raise ZeroDivisionError
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "old"


def test_a_path_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with whole("a") as partial:
        monkeypatch.chdir("/")
        partial.write_text("new")
    assert names(tmp_path) == ["a"]


def test_a_folder_appears_whole(tmp_path):
    out = tmp_path / "model"
    out.mkdir()  # an empty folder may be replaced
    with whole(out) as partial:
        (partial / "sub").mkdir(parents=True)
        (partial / "sub" / "a").write_text("a")
    assert (out / "sub" / "a").read_text() == "a"
    with pytest.raises(InputError, match=f"^can't write {out}: Directory not empty$"), whole(out) as partial:
        (partial / "sub").mkdir(parents=True)
    assert names(tmp_path) == ["model"] and (out / "sub" / "a").read_text() == "a"


@pytest.mark.parametrize("durable", [True, False])
def test_file_and_folder_are_flushed_in_this_order(tmp_path, monkeypatch, durable):
    flushed, fsync = [], os.fsync

    def record(descriptor):
        flushed.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, (tmp_path / "a").exists()))
        fsync(descriptor)

    monkeypatch.setattr(module.os, "fsync", record)
    with whole(tmp_path / "a", durable=durable) as partial:
        partial.write_text("new")
    assert flushed == ([(partial.name, False), (tmp_path.name, True)] if durable else [])


def test_two_writers_of_one_path_do_not_meet(tmp_path):
    with whole(tmp_path / "a") as first, whole(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "first"  # which ended last


KILLED = """
import os, signal, sys
from eval.whole import whole
with whole(sys.argv[1]) as partial:
    partial.write_text("new, the first half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["a", "n" * 250])
def test_a_killed_writer_leaves_the_old_file_and_what_the_next_one_may_remove(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    (tmp_path / f"{name[:200]}.b").write_text("another")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert killed.returncode == -signal.SIGKILL and path.read_text() == "old"
    assert [found.endswith(".incomplete") for found in names(tmp_path)].count(True) == 1
    remove_leftovers(tmp_path / f"{name[:200]}.b")  # not of this one
    assert len(names(tmp_path)) == 3
    remove_leftovers(path)
    assert names(tmp_path) == sorted([name, f"{name[:200]}.b"])


def test_text_is_written_as_it_is_with_the_folders_above_it(tmp_path):
    write_text(tmp_path / "x" / "y" / "a.csv", "é\r\nb\n")
    assert (tmp_path / "x" / "y" / "a.csv").read_bytes() == "é\r\nb\n".encode()
    write_text(epath.Path(tmp_path / "run" / "a"), "local epath")
    assert (tmp_path / "run" / "a").read_text() == "local epath" and names(tmp_path / "run") == ["a"]


class Bucket:
    """An object store's path: a write is whole by itself, there are no folders, and nothing is renamed."""

    def __init__(self, error=None):
        self.error, self.data = error, None

    def __fspath__(self):
        return "gs://bucket/run/config.json"

    def write_bytes(self, data):
        if self.error:
            raise self.error
        self.data = data
        return len(data)


def test_an_object_store_gets_its_object_at_once():
    bucket = Bucket()
    write_text(bucket, "é")
    assert bucket.data == "é".encode()
    with pytest.raises(InputError, match="^can't write gs://bucket/run/config.json: denied$"):
        write_text(Bucket(PermissionError("denied")), "")
