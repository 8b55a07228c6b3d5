"""Nothing is lost: kills, torn and vanishing scenes, a full disk, two commands, a server that stalls."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from range_server import serving
from scene_files import UTM, archive, noise, write_tiff
from tiny_clip import clip_folder

from eval.embeddings import open_set
from eval.lock import alone
from lrsclip_jax import pretrained
from lrsclip_jax.data import shared_scenes
from lrsclip_jax.errors import InputError
from lrsclip_jax.search import encoding, index_parts, tile_reading
from lrsclip_jax.search.index_command import main
from lrsclip_jax.search.tiles_table import read_scenes

pytestmark = pytest.mark.slow  # one Python runs them

FILES = ("images.npy", "image_norms.npy", "images.jsonl", "tiles.parquet", "scenes.parquet", "meta.json")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    clip_folder(folder)
    return folder


@pytest.fixture
def index(checkpoint, tmp_path):
    def run(*sources, out="index", batch_size=64):
        words = [f"--checkpoint={checkpoint}", f"--out={tmp_path / out}", "--tile=64", f"--batch-size={batch_size}"]
        main([*map(str, sources), *words])
        return tmp_path / out

    return run


def scenes_of(out):
    return {row["scene"]: row for row in read_scenes(out / "scenes.parquet").to_pylist()}


def content(out):
    return {name: (out / name).read_bytes().replace(b'"dataset": "fresh"', b'"dataset": "index"') for name in FILES}


def count_encoded(monkeypatch):
    count, true = [0], pretrained.Pretrained.encoded

    def counted(model, side, batch):
        for rows in true(model, side, batch):
            count[0] += len(rows)
            yield rows

    monkeypatch.setattr(pretrained.Pretrained, "encoded", counted)
    return count


# Forks once for each moment: imports take longer than an index. A moment is a file that is about to get its name.
KILLER = """
    import os, signal, sys
    from lrsclip_jax import pretrained
    from lrsclip_jax.search import assembly, encoding, indexing, index_command
    encoding.PART = 8
    true = os.replace

    def run(moment):
        if (child := os.fork()) == 0:
            left = [moment]
            def replace(*args, **how):
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                true(*args, **how)
            os.replace = replace
            index_command.main([*words, f"--out={out}/{moment}"])
            os._exit(0)
        return os.waitpid(child, 0)[1]

    out, moments, *words = sys.argv[1:]
    for moment in map(int, moments.split(",")):
        killed = run(moment)
        print(moment, killed, flush=True)
"""


def killed_at(moments, words, out, checkpoint):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLER), str(out), ",".join(map(str, moments)), *words],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {
        int(moment): int(status)
        for moment, status in (line.split() for line in done.stdout.splitlines() if line[0].isdigit())
    }


@pytest.mark.parametrize(
    "moments", [[2], pytest.param([0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13], marks=pytest.mark.exhaustive)]
)
def test_a_killed_command_continues_to_the_same_bytes_and_encodes_nothing_twice(
    checkpoint, tmp_path, monkeypatch, moments
):
    source = archive(tmp_path / "archive")
    words = [str(source), f"--checkpoint={checkpoint}", "--tile=64"]
    monkeypatch.setattr(encoding, "PART", 8)
    main([*words, f"--out={tmp_path}/fresh/index"])
    expected = content(tmp_path / "fresh" / "index")
    total = len(open_set(tmp_path / "fresh" / "index").images)
    statuses = killed_at(moments, words, tmp_path / "killed", checkpoint)
    assert list(statuses) == moments and set(statuses.values()) == {9}
    count = count_encoded(monkeypatch)
    for moment in moments:
        out = tmp_path / "killed" / str(moment)
        parts = index_parts.covered(out)
        known = sum(span.tiles for spans in parts.values() for span, _ in spans)
        count[0] = 0
        main([*words, f"--out={out}"])
        moved = not known and moment > 10  # while the files moved to their places
        assert count[0] == (0 if moved else total - known), moment
        found = {
            name: data.replace(f'"dataset": "{moment}"'.encode(), b'"dataset": "index"')
            for name, data in content(out).items()
        }
        assert [name for name in FILES if found[name] != expected[name]] == [], moment
        assert not (out / "parts").exists()


def test_a_torn_scene_is_set_aside_and_read_again_when_it_has_changed(index, tmp_path, monkeypatch, capsys):
    source = archive(tmp_path / "archive")
    whole = (source / "rgb.tif").read_bytes()
    (source / "rgb.tif").write_bytes(whole[: len(whole) * 2 // 3])
    (source / "mask.tif").write_bytes(b"II*\0 no TIFF")
    out = index(source)
    scenes = scenes_of(out)
    aside = {name: row["reason"] for name, row in scenes.items() if row["status"] == "set aside"}
    assert set(aside) == {"mask.tif", "rgb.tif"} and all("torn or damaged" in reason for reason in aside.values())
    assert scenes["rgb.tif"]["tiles"] == 0 and not any(row["scene"] in aside for row in open_set(out).image_rows)
    assert "set aside: rgb.tif: torn or damaged" in capsys.readouterr().out
    count = count_encoded(monkeypatch)
    index(source)
    assert count == [0]  # nor is it read again: it is as it was
    (source / "rgb.tif").write_bytes(whole)
    assert scenes_of(index(source))["rgb.tif"]["tiles"] == count[0] == 12


def test_a_scene_that_disappears_or_changes_while_it_is_read_is_set_aside_and_tried_again(index, tmp_path, monkeypatch):
    source = archive(tmp_path / "archive")
    true = shared_scenes.open_scene
    whole = (source / "rgb.tif").read_bytes()

    def open_scene(path, *rest):
        if path.name == "rgb.tif":
            path.unlink()
        if path.name == "mask.tif":
            path.write_bytes(b"other")
        return true(path, *rest)

    monkeypatch.setattr(shared_scenes, "open_scene", open_scene)
    scenes = scenes_of(index(source))
    assert scenes["rgb.tif"]["reason"] == "it disappeared while it was read"
    assert scenes["mask.tif"]["reason"] == "it changed while it was read"
    assert sum(row["status"] == "indexed" for row in scenes.values()) == 7
    monkeypatch.setattr(shared_scenes, "open_scene", true)
    (source / "rgb.tif").write_bytes(whole)
    assert scenes_of(index(source))["rgb.tif"]["status"] == "indexed"


@pytest.mark.parametrize(
    "full", ["part-", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("next", "tiles.parquet"))]
)
def test_a_full_disk_is_one_line_and_the_same_command_continues(index, tmp_path, monkeypatch, full):
    source = archive(tmp_path / "archive")
    fresh = content(index(source, out="fresh"))
    monkeypatch.setattr(encoding, "PART", 8)
    true, calls = os.replace, []

    def replace(one, other, **how):
        calls.append(str(other))
        if full in Path(other).name and sum(full in Path(call).name for call in calls) == (2 if full == "part-" else 1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return true(one, other, **how)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(InputError, match=r"can't write .*: No space left on device"):
        index(source)
    monkeypatch.setattr(os, "replace", true)
    known = sum(span.tiles for spans in index_parts.covered(tmp_path / "index").values() for span, _ in spans)
    assert known >= 8
    count = count_encoded(monkeypatch)
    assert content(index(source)) == fresh
    assert count[0] == len(open_set(tmp_path / "index").images) - known


def test_an_index_stays_as_it_is_where_growing_fails(index, tmp_path, monkeypatch):
    source = archive(tmp_path / "archive")
    before = content(index(source))
    write_tiff(source / "new.tif", noise(3, 64, 64, seed=30), **UTM)

    def fail(*args, **how):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", fail)
    with pytest.raises(InputError, match="No space left"):
        index(source)
    assert content(tmp_path / "index") == before and open_set(tmp_path / "index")


def test_an_interrupt_keeps_what_is_encoded(index, tmp_path, monkeypatch):
    source = archive(tmp_path / "archive")
    fresh = content(index(source, out="fresh", batch_size=2))
    true = tile_reading._read

    def read(span, *rest):
        if span.scene.name == "sparse.tif":
            raise KeyboardInterrupt
        return true(span, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(tile_reading, "_read", read)
        with pytest.raises(KeyboardInterrupt):
            index(source, batch_size=2)
    known = sum(span.tiles for spans in index_parts.covered(tmp_path / "index").values() for span, _ in spans)
    count = count_encoded(monkeypatch)
    assert known > 10 and content(index(source, batch_size=2)) == fresh
    assert count[0] == len(open_set(tmp_path / "index").images) - known


def test_a_damaged_part_is_made_again(index, tmp_path, monkeypatch):
    source = archive(tmp_path / "archive")
    fresh = content(index(source, out="fresh"))
    monkeypatch.setattr(encoding, "PART", 8)

    def fail(*args, **how):
        raise InputError("stop")

    with monkeypatch.context() as patch:
        patch.setattr("lrsclip_jax.search.assembly.assemble", fail)
        with pytest.raises(InputError, match="stop"):
            index(source)
    part = sorted((tmp_path / "index" / "parts").glob("part-*"))[1]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 255
    part.write_bytes(data)
    assert content(index(source)) == fresh


def test_a_second_command_on_one_folder_is_told_of_the_first(index, tmp_path):
    source = archive(tmp_path / "archive")
    with alone(tmp_path / "index", "lrsclip index"), pytest.raises(InputError, match="lrsclip index is at work there"):
        index(source)
    index(source)


@pytest.mark.exhaustive
def test_a_server_that_stalls_or_loses_a_file_costs_that_scene_alone(index, tmp_path, monkeypatch, capsys):
    for name in ("GDAL_HTTP_LOW_SPEED_TIME", "GDAL_HTTP_CONNECTTIMEOUT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    monkeypatch.setenv("CPL_VSIL_CURL_NON_CACHED", "/vsicurl/")  # a new process remembers nothing either
    rng = np.random.default_rng(0)
    for name in ("good.tif", "stall.tif"):
        write_tiff(tmp_path / "served" / name, rng.integers(0, 255, (3, 150, 150), np.uint8), **UTM)
    with serving(tmp_path / "served") as server:
        sources = [f"{server.url}/{name}.tif" for name in ("good", "stall", "none")]
        server.stall()
        out = index(*sources)
        scenes = scenes_of(out)
        assert scenes[sources[0]]["status"] == "indexed" and scenes[sources[0]]["tiles"] == 9
        assert "the server stopped in the middle" in scenes[sources[1]]["reason"]
        assert "404" in scenes[sources[2]]["reason"]
        said = capsys.readouterr().out
        assert f"set aside: {sources[1]}: can't be read (the server stopped" in said
        server.stall(False)
        count = count_encoded(monkeypatch)
        again = index(*sources)
        assert count == [9] and scenes_of(again)[sources[1]]["status"] == "indexed"
