"""Ray is optional and not in CI: these tests are skipped where it is not installed."""

import os

import pytest
from scene_files import archive
from tiny_clip import clip_folder

from lrsclip_jax.search import ray_engine
from lrsclip_jax.search.index_command import main
from lrsclip_jax.search.tiles_table import read_scenes

FILES = ("images.npy", "image_norms.npy", "images.jsonl", "tiles.parquet", "scenes.parquet")


@pytest.fixture(scope="module")
def ray():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = pytest.importorskip("ray", reason="Ray is not installed")
    found.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield found
    found.shutdown()


def test_a_cluster_makes_the_same_index_and_sets_the_same_scenes_aside(ray, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "PART", 16)  # several tasks
    source = archive(tmp_path / "archive")
    (source / "torn.tif").write_bytes((source / "rgb.tif").read_bytes()[:9000])
    clip_folder(tmp_path / "tiny")
    words = [str(source), f"--checkpoint={tmp_path}/tiny", "--tile=64"]
    main([*words, f"--out={tmp_path}/here"])
    main([*words, f"--out={tmp_path}/ray", "--engine=ray"])
    rows = {row["scene"]: row for row in read_scenes(tmp_path / "ray" / "scenes.parquet").to_pylist()}
    assert "torn or damaged" in rows["torn.tif"]["reason"]
    assert [
        name for name in FILES if (tmp_path / "ray" / name).read_bytes() != (tmp_path / "here" / name).read_bytes()
    ] == []
