import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from eval import lock
from eval.errors import InputError
from eval.lock import alone

HOLD = """
import sys, time
from eval.lock import alone
with alone(sys.argv[1], "lrsclip prepare"):
    print("held", flush=True)
    {what}
"""


@contextlib.contextmanager
def at_work(folder, what="time.sleep(60)"):
    """Another process that holds the lock of a folder; it is killed in the end."""
    command = [sys.executable, "-c", HOLD.format(what=what), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_second_command_says_who_is_at_work(tmp_path):
    with at_work(tmp_path) as other:
        said = rf"lrsclip prepare is at work there \(process {other.pid} on .+, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
        with pytest.raises(InputError, match=f"{re.escape(str(tmp_path))}: {said}") as error, alone(tmp_path, "b"):
            raise AssertionError
        assert "\n" not in str(error.value)
    with alone(tmp_path, "b"):  # what a killed command left behind is taken over
        assert json.loads((tmp_path / ".lock").read_text())["command"] == "b"
    assert not (tmp_path / ".lock").exists()


def test_of_many_at_once_one_works_at_a_time(tmp_path):
    log = tmp_path / "log"
    code = f"""
import sys, time
from pathlib import Path
from eval.errors import InputError
from eval.lock import alone
log = open({str(log)!r}, "a")
left = 25
while left:
    try:
        with alone({str(tmp_path / "out")!r}, "x"):
            log.write("in\\n"); log.flush()
            log.write("out\\n"); log.flush()
            left -= 1
    except InputError:
        pass
"""
    for process in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]:
        assert process.wait() == 0
    lines = log.read_text().splitlines()
    assert lines == ["in", "out"] * 100


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_parent(tmp_path):
    forked = "import os; child = os.fork() or os.getpid(); os.write(1, b'%d\\n' % child); time.sleep(60)"
    with at_work(tmp_path, forked) as parent:
        child, twice = (int(parent.stdout.readline()) for _ in range(2))
        assert child == twice  # both have got so far
        parent.kill()
        parent.wait()
        try:
            os.kill(child, 0)
            with alone(tmp_path, "b"):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def left_behind(folder, seconds, **changes):
    """Writes the lock of a command of another host that was renewed `seconds` ago."""
    owner = {"command": "lrsclip train", "host": "far", "boot": "other", "process": 7, "since": "2026-11-29 09:00:00"}
    (folder / ".lock").write_text(json.dumps(owner | changes))
    os.utime(folder / ".lock", (time.time() - seconds,) * 2)


def test_another_host_counts_as_gone_after_ten_minutes_of_silence(tmp_path):
    left_behind(tmp_path, 590)
    said = r"lrsclip train .*process 7 on far, .*if it was killed, the folder is free at \d\d:"
    with pytest.raises(InputError, match=said), alone(tmp_path, "b"):
        raise AssertionError
    assert json.loads((tmp_path / ".lock").read_text())["host"] == "far"
    left_behind(tmp_path, 601)
    with alone(tmp_path, "b"):
        pass
    # On this host flock has the say, whatever a container is called; so it is after a new start of the host.
    for same in ({"host": lock.platform.node()}, {"boot": lock._boot()}):
        left_behind(tmp_path, 1, **same)
        with alone(tmp_path, "b"):
            pass


def test_a_heartbeat_renews_the_lock_and_a_lost_one_ends_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_FIRST_BEAT", 0.05)
    monkeypatch.setattr(lock, "_BEAT", 0.05)
    with alone(tmp_path, "b"):
        os.utime(tmp_path / ".lock", (1, 1))
        deadline = time.monotonic() + 10
        while (tmp_path / ".lock").stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / ".lock").stat().st_mtime > 2
    code = f"""
import time
from pathlib import Path
from eval import lock
lock._FIRST_BEAT = lock._BEAT = 0.1
with lock.alone({str(tmp_path)!r}, "lrsclip prepare"):
    path = Path({str(tmp_path)!r}) / ".lock"
    path.write_text(path.read_text().replace("prepare", "train"))
    time.sleep(20)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert "error: " in ended.stderr and "lrsclip train is at work there" in ended.stderr


class Stored:
    """A path of an object store, as `etils.epath` gives it: it has no flock, and times come from the store."""

    def __init__(self, files, name):
        self.files, self.name = files, name

    def __fspath__(self):
        return self.name

    __str__ = __fspath__

    def __truediv__(self, name):
        return Stored(self.files, f"{self.name}/{name}")

    def read_bytes(self):
        if self.name not in self.files:
            raise FileNotFoundError(self.name)
        return self.files[self.name][0]

    def write_bytes(self, data):
        self.files[self.name] = data, time.time()

    def unlink(self):
        del self.files[self.name]

    def stat(self):
        return types.SimpleNamespace(mtime=int(self.files[self.name][1]))


def test_an_object_store_has_the_lock_too(tmp_path):
    files = {}
    run = Stored(files, f"gs://bucket{tmp_path}")
    with alone(run, "a"):
        assert list(files) == [f"{run}/.lock"]
        with pytest.raises(InputError, match="gs://bucket.*: a is at work there"), alone(run, "b"):
            raise AssertionError
    assert files == {}
    owner = {"command": "lrsclip train", "host": "far", "boot": "other", "process": 7, "since": "2026-11-29 09:00:00"}
    for silent, free in ((590, False), (601, True)):
        files[f"{run}/.lock"] = json.dumps(owner).encode(), time.time() - silent
        with contextlib.nullcontext() if free else pytest.raises(InputError, match="process 7 on far"), alone(run, "b"):
            assert free


def test_an_empty_folder_is_not_left_behind(tmp_path):
    with alone(tmp_path / "a/b", "x"):
        assert (tmp_path / "a/b/.lock").exists()
    assert not (tmp_path / "a").exists()
    with alone(tmp_path / "a/b", "x"):
        (tmp_path / "a/file").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_file_system_without_flock_has_a_stand_in(tmp_path, monkeypatch):
    take = lock.fcntl.flock

    def flock(descriptor, operation):
        if os.path.samestat(os.fstat(descriptor), os.stat(tmp_path / ".lock")):
            raise OSError(lock.errno.ENOSYS, "not implemented")
        take(descriptor, operation)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with alone(tmp_path, "a"):
        with pytest.raises(InputError, match="a is at work there"), alone(tmp_path, "b"):
            raise AssertionError


def test_leftovers_of_a_killed_command_are_removed_and_nothing_else(tmp_path):
    write = (
        "from eval.whole import whole; import pathlib; "
        "w = whole(pathlib.Path(sys.argv[1]) / 'deep/a'); w.__enter__().write_text('half'); "
        "print('x', flush=True); time.sleep(60)"
    )
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.incomplete").write_text("mine")
    with at_work(tmp_path, write) as other:
        assert other.stdout.readline() == "x\n"
    assert len(list((tmp_path / "deep").iterdir())) == 2
    with alone(tmp_path, "b"):
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["b.incomplete"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write .*file/x: Not a directory"), alone(tmp_path / "file/x", "b"):
        raise AssertionError
    with pytest.raises(OSError, match="mine"), alone(Path(tmp_path) / "new", "b"):  # an error of the block is its own
        raise OSError("mine")
    assert not (tmp_path / "new").exists()
