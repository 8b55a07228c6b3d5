"""Copies of files at addresses: lost connections, changed files, full disks, and what is refused."""

import errno
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from email.utils import formatdate
from types import SimpleNamespace
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from range_server import serving

from lrsclip_jax.data import fetching
from lrsclip_jax.data.fetching import NoRoom, Unreachable, back_off, cached, fetch, retry_after, shown
from lrsclip_jax.errors import InputError, MissingPackage

DATA = bytes(range(256)) * 40_000  # ten megabytes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for name in ("a.tar", "drop.tar", "stall.tar"):
        (folder / name).write_bytes(DATA)
    with serving(folder) as served:
        served.folder = folder
        yield served


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "_FIRST_WAIT", 0.001)


def test_a_date_to_wait_for():
    assert 50 < retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) < 61
    assert retry_after({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0
    assert retry_after({}) == retry_after({"retry-after": "soon"}) == retry_after({"retry-after": "-3"}) == 0


def test_waits_double_up_to_a_minute():
    for failures, longest in [(1, 2), (2, 4), (3, 8), (10, 60), (10_000, 60)]:
        waits = [back_off(failures, 2.0) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_a_lost_connection_continues_where_it_broke(server):
    server.drop(3)
    server.sent = 0
    copy = cached(f"{server.url}/drop.tar")
    assert copy.read_bytes() == DATA
    assert server.sent == len(DATA)  # no byte came twice


def test_a_copy_is_made_again_only_where_the_file_has_changed(server):
    first = cached(f"{server.url}/a.tar")
    server.sent = 0
    assert cached(f"{server.url}/a.tar?signature=abc") == first and server.sent == 0
    (server.folder / "a.tar").write_bytes(DATA[::-1])
    server.change()
    assert cached(f"{server.url}/a.tar").read_bytes() == DATA[::-1]
    first.write_bytes(DATA[:100])  # a copy that was cut off
    assert cached(f"{server.url}/a.tar").read_bytes() == DATA[::-1]
    (server.folder / "a.tar").write_bytes(DATA)


def test_a_file_that_changes_while_it_is_sent_is_fetched_from_its_start(server, tmp_path, monkeypatch):
    def changed(*_):
        (server.folder / "drop.tar").write_bytes(DATA[::-1])
        server.change()

    server.drop(1)
    monkeypatch.setattr(fetching, "wait_after", changed)
    fetch(f"{server.url}/drop.tar", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DATA[::-1]
    (server.folder / "drop.tar").write_bytes(DATA)


def test_what_lasts_is_said_in_a_line(server, tmp_path):
    with pytest.raises(InputError) as error:
        cached(f"{server.url}/none.tar?token=secret")
    assert str(error.value) == f"{server.url}/none.tar: can't be read (HTTP status 404)"
    with pytest.raises(Unreachable, match=r"^http://127.0.0.1:1/a.tar: can't be read \(.*refused.*; tried 5 times\)$"):
        cached("http://user:pw@127.0.0.1:1/a.tar")
    with pytest.raises(InputError, match=r"http://\[/a.tar: no address of a file"):
        fetch("http://[/a.tar", tmp_path / "a")
    assert not list((tmp_path / "cache/lrsclip_jax/shards").iterdir())


def test_a_server_that_is_overloaded_is_asked_again(monkeypatch, tmp_path):
    waits = []
    monkeypatch.setattr(fetching, "time", SimpleNamespace(sleep=waits.append))  # other threads may sleep

    def refuse(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 503, "busy", {"retry-after": "7"}, None)

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(Unreachable, match="HTTP status 503; tried 5 times"):
        fetch("http://h/a.tar", tmp_path / "a")
    assert waits == [7.0] * 4


def test_a_file_larger_than_the_disk_is_not_begun(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 0, 1000))
    with pytest.raises(NoRoom, match="10,240,000 bytes, .* has room for 1,000: set XDG_CACHE_HOME"):
        cached(f"{server.url}/a.tar")


@pytest.mark.parametrize(("scheme", "stored"), [("s3", "s3"), ("gs", "gcs")])
def test_object_stores_are_read_through_fsspec(monkeypatch, scheme, stored):
    class Store(MemoryFileSystem):
        protocol = scheme, stored
        store: ClassVar = {}
        pseudo_dirs: ClassVar = [""]
        cachable = False

    for name in Store.protocol:
        monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, name, Store)
    Store().pipe(f"{scheme}://bucket/a.tar", DATA)
    assert cached(f"{scheme}://bucket/a.tar").read_bytes() == DATA
    with pytest.raises(InputError, match=f"{scheme}://bucket/b.tar: no such file"):
        cached(f"{scheme}://bucket/b.tar")


def test_an_object_store_without_its_package_names_the_extra(monkeypatch, tmp_path):
    def missing(*_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingPackage, match=r"pip install 'lrsclip_jax\[s3\]'"):
        fetch("s3://bucket/a.tar", tmp_path / "a")


def test_addresses_are_shown_without_what_they_hide():
    assert shown("https://me:pw@host:8/a/x.tar?X-Amz-Signature=abc#z") == "https://host:8/a/x.tar"
    assert shown("s3://bucket/a.tar") == "s3://bucket/a.tar"


def test_a_disk_that_is_full_is_no_fault_of_the_file(server, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoom, match="No space left on device"):
        cached(f"{server.url}/a.tar")


def test_what_was_given_up_a_day_ago_is_removed():
    old, new, whole = (fetching.cache() / name for name in (".a.incomplete", ".b.incomplete", "c.tar"))
    for path in (old, new, whole):
        path.touch()
        os.utime(path, (0, 0)) if path != new else None
    fetching.sweep()
    assert [path.exists() for path in (old, new, whole)] == [False, True, True]
