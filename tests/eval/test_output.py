import os
import subprocess

import pytest

from eval.command import expanded, path
from eval.errors import InputError
from eval.output import check_folder, check_place, first_file


def never(folder):
    return False


@pytest.mark.parametrize("name", ["gs://bucket/x", "gs:/bucket/x", "s3://bucket/x", "ftp://host/x", "file:///tmp/x"])
def test_an_address_is_no_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="a local or mounted folder is expected"):
        check_folder(name, never)
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_is_one_line_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    for name, message in {
        "file": "is a file, a folder is expected",
        "file/below/it": "file is a file, a folder is expected",
        f"{'n' * 256}/x": "File name too long",
        f"missing/{'n' * 256}": "a name of more than 255 bytes",
        "/".join(["n" * 200] * 30): "File name too long",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            check_folder(tmp_path / name, never)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="--workdir is empty"):
        check_place("", "--workdir")
    assert os.listdir(tmp_path) == ["file"]
    assert check_folder(tmp_path / ("n" * 255) / "x", never) == tmp_path / ("n" * 255) / "x"


@pytest.mark.parametrize(("options", "message"), [("ro", "Read-only file system"), ("size=4k", "No space left")])
def test_a_disk_that_cannot_be_written_is_told_before_any_work(tmp_path, options, message):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("no disk could be mounted")
    try:
        if options != "ro":
            (tmp_path / "filled").write_bytes(bytes(4096))
        with pytest.raises(InputError, match=f"can't write .*new/x: {message}"):
            check_folder(tmp_path / "new/x", never)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_only_new_empty_and_own_folders_are_taken(tmp_path):
    assert check_folder(tmp_path / "new", never) == tmp_path / "new"
    assert check_folder(tmp_path, never) == tmp_path
    (tmp_path / ".lock").touch()
    (tmp_path / ".a.0123abcd.incomplete").touch()
    assert first_file(tmp_path) is None and check_folder(tmp_path, never) == tmp_path
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds other files \(notes.txt\): give another --out, new or empty"):
        check_folder(tmp_path, never)
    assert check_folder(tmp_path, lambda folder: (folder / "notes.txt").exists()) == tmp_path
    assert check_folder(tmp_path, never, begun=["notes.txt"]) == tmp_path


def test_the_home_folder_is_found_behind_a_name_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == f"{tmp_path}/a" and path("~/a") == tmp_path / "a"
    assert expanded("recipe:~/a") == f"recipe:{tmp_path}/a" and expanded("FILE.py:~/a") == f"FILE.py:{tmp_path}/a"
    for same in ("a~b", "./~", "hf:owner/name", "a/b:~", "scenes:8:1"):
        assert expanded(same) == same
