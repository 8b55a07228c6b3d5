"""`lrsclip index` from the command line: what tiles show, what is left out, how an index grows, what is refused."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from range_server import serving
from rasterio.shutil import copy
from scene_files import UTM, archive, noise, photograph, write_tiff
from tiny_clip import clip_folder

import lrsclip_jax
from eval.embeddings import open_set
from lrsclip_jax import pretrained
from lrsclip_jax.data.images import read_image
from lrsclip_jax.errors import InputError
from lrsclip_jax.search import tile_reading
from lrsclip_jax.search.index_command import main
from lrsclip_jax.search.tiles_table import read_scenes, read_tiles

FILES = ("images.npy", "image_norms.npy", "images.jsonl", "tiles.parquet", "scenes.parquet")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    clip_folder(folder)
    return folder


@pytest.fixture
def index(checkpoint, tmp_path):
    """Runs the command in a folder of the test; returns the index's folder."""

    def run(*sources, out="index", tile=64, **options):
        words = [f"--{name.replace('_', '-')}={value}" for name, value in {"tile": tile, **options}.items()]
        main([*map(str, sources), f"--checkpoint={checkpoint}", f"--out={tmp_path / out}", *words])
        return tmp_path / out

    return run


@pytest.fixture
def encoded(monkeypatch):
    """The number of tiles that were encoded, in a list of one."""
    count, true = [0], pretrained.Pretrained.encoded

    def counted(model, side, batch):
        for rows in true(model, side, batch):
            count[0] += len(rows)
            yield rows

    monkeypatch.setattr(pretrained.Pretrained, "encoded", counted)
    return count


def scenes_of(out):
    return {row["scene"]: row for row in read_scenes(out / "scenes.parquet").to_pylist()}


def same(one, other):
    return [name for name in FILES if (one / name).read_bytes() != (other / name).read_bytes()]


@pytest.mark.slow
def test_a_tile_is_embedded_as_its_part_of_the_image_that_read_image_gives(index, checkpoint, tmp_path):
    out = index(archive(tmp_path / "archive"))
    found, model = open_set(out), lrsclip_jax.load(checkpoint)
    crops = []
    for row in found.image_rows:
        r0, r1, c0, c1 = row["window"]
        crops.append(np.asarray(read_image(tmp_path / "archive" / row["scene"]))[r0:r1, c0:c1])
    np.testing.assert_allclose(found.images, model.images(crops), atol=2e-6)
    assert {row["scene"] for row in found.image_rows} == set(scenes_of(out))
    tiles = read_tiles(out / "tiles.parquet")
    assert tiles.column("id").to_pylist() == [row["id"] for row in found.image_rows]
    assert found.meta["index"] | {} == {
        "version": 1, "tile": 64, "overlap": 0.25, "gsd": None, "bands": None, "levels": 1, "stretch": [2, 98],
    }  # fmt: skip


def test_tiles_that_are_mostly_empty_are_left_out_and_counted(index, tmp_path, capsys):
    scenes = scenes_of(index(archive(tmp_path / "archive")))
    for name, row in scenes.items():
        with rasterio.open(tmp_path / "archive" / name) as raster:
            height, width = raster.shape
        columns, rows = (1 + -(-max(side - 64, 0) // 48) for side in (width, height))
        assert row["tiles"] + row["empty"] == columns * rows, name
    empty = {name: row["empty"] for name, row in scenes.items() if row["empty"]}
    # sixteen: rows of tiles 0:64, 48:112, 56:120, of which 0:60 is empty; and so on
    assert (
        empty == {"deep/sixteen.tif": 3, "deep/float.tif": 0, "mask.tif": 2, "alpha.tif": 4, "sparse.tif": 24} or empty
    )
    assert f"{sum(empty.values())} mostly empty ones left out" in capsys.readouterr().out
    assert scenes["nowhere.tif"]["reason"] == "it has no coordinates" and scenes["rgb.tif"]["reason"] is None


def test_blocks_that_were_never_written_are_not_read(index, tmp_path, monkeypatch):
    archive(tmp_path / "archive")
    looks, true = [], tile_reading._looks

    def look(span, scene):
        for number, pixels, gaps in true(span, scene):
            looks.append(pixels is not None)
            yield number, pixels, gaps

    monkeypatch.setattr(tile_reading, "_looks", look)
    out = index(tmp_path / "archive" / "sparse.tif", overlap=0)
    assert len(looks) == 16 and sum(looks) == 1
    assert open_set(out).image_rows[0]["window"] == [64, 128, 128, 192]


@pytest.mark.slow
def test_levels_are_wider_and_a_coarser_gsd_reduces(index, tmp_path):
    values = noise(3, 600, 500)
    write_tiff(tmp_path / "a.tif", values, **UTM)
    tiles = read_tiles(index(tmp_path / "a.tif", levels=4) / "tiles.parquet").to_pylist()
    sides = {row["level"]: (row["row_stop"] - row["row_start"], round(row["gsd"])) for row in tiles}
    assert sides == {0: (64, 10), 1: (128, 20), 2: (256, 40), 3: (500, 78)}
    coarse = read_tiles(index(tmp_path / "a.tif", gsd=25, out="coarse") / "tiles.parquet").to_pylist()
    assert {row["row_stop"] - row["row_start"] for row in coarse} == {160}
    assert [row["gsd"] for row in coarse] == pytest.approx([25] * len(coarse), rel=1e-3)
    finer = index(tmp_path / "a.tif", gsd=1, out="finer")
    assert {row["row_stop"] - row["row_start"] for row in read_tiles(finer / "tiles.parquet").to_pylist()} == {64}


@pytest.mark.slow
def test_an_address_is_read_as_its_file_and_by_overviews_where_they_do(index, tmp_path):
    values = np.random.default_rng(0).integers(200, 4000, (3, 600, 600), np.uint16)
    path = tmp_path / "served" / "a.tif"
    copy(write_tiff(tmp_path / "plain.tif", values, **UTM), _made(path), driver="COG", blocksize=128, overview_count=3)
    with serving(path.parent) as server:
        here, there = index(path, overlap=0), index(f"{server.url}/a.tif", overlap=0, out="there")
        assert (here / "images.npy").read_bytes() == (there / "images.npy").read_bytes()
        assert scenes_of(there)[f"{server.url}/a.tif"]["crs"] == "EPSG:32632"
        assert server.sent > path.stat().st_size / 2
        server.sent = 0
        index(f"{server.url}/a.tif?again", overlap=0, gsd=80, out="coarse")  # GDAL remembers what it has read
        assert server.sent < path.stat().st_size / 8


def _made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_a_photograph_lies_where_and_when_it_was_taken(index, tmp_path):
    exif = Image.Exif()
    exif[0x8825] = {1: "S", 2: (16.0, 30.0, 36.0), 3: "W", 4: (68.0, 9.0, 0.0)}
    exif[0x8769] = {36867: "2023:07:14 10:20:30", 36881: "-04:00"}
    photograph(tmp_path / "photos" / "a.jpg", exif)
    photograph(tmp_path / "photos" / "b.jpg")
    out = index(tmp_path / "photos")
    tiles = read_tiles(out / "tiles.parquet").to_pylist()
    point = shapely.from_wkb(next(row["geometry"] for row in tiles if row["scene"] == "a.jpg"))
    assert (point.x, point.y) == (-68.15, pytest.approx(-16.51)) and point.geom_type == "Point"
    dates = {row["scene"]: row["date"] for row in tiles}
    assert dates == {"a.jpg": datetime(2023, 7, 14, 14, 20, 30, tzinfo=UTC), "b.jpg": None}
    assert scenes_of(out)["b.jpg"]["reason"] == "it has no coordinates"


def test_the_date_of_a_raster_is_that_of_its_tags(index, tmp_path):
    path = write_tiff(tmp_path / "a.tif", noise(1, 64, 64), **UTM)
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2020:01:02 03:04:05", ACQUISITION_DATE="2019-12-31T23:00:00Z")
    assert scenes_of(index(path))["a.tif"]["date"] == datetime(2019, 12, 31, 23, tzinfo=UTC)


@pytest.mark.slow
def test_thumbnails_are_small_pictures_of_the_tiles(index, tmp_path):
    write_tiff(tmp_path / "a.tif", noise(3, 300, 300), **UTM)
    row = read_tiles(index(tmp_path / "a.tif", tile=256) / "tiles.parquet").to_pylist()[0]
    (tmp_path / "a.jpg").write_bytes(row["thumbnail"])
    picture = np.asarray(Image.open(tmp_path / "a.jpg")).astype(int)
    assert picture.shape == (128, 128, 3) and len(row["thumbnail"]) < 20_000
    shrunk = np.asarray(Image.open(tmp_path / "a.tif").crop((0, 0, 256, 256)).resize((128, 128), Image.Resampling.BOX))
    assert np.abs(picture - shrunk).mean() < 12


def test_the_same_command_again_encodes_nothing(index, tmp_path, encoded, capsys):
    source = archive(tmp_path / "archive")
    out = index(source)
    before, encoded[0] = {path: path.stat().st_mtime_ns for path in out.iterdir()}, 0
    index(source)
    assert encoded == [0] and {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert "nothing has changed" in capsys.readouterr().out


@pytest.mark.slow
def test_new_and_changed_scenes_are_added_and_removed_ones_dropped(index, tmp_path, encoded, capsys):
    source = archive(tmp_path / "archive")
    out = index(source)
    write_tiff(source / "new.tif", noise(3, 64, 112, seed=20), **UTM)
    write_tiff(source / "rgb.tif", noise(3, 64, 64, seed=21), **UTM)
    (source / "alpha.tif").unlink()
    encoded[0] = 0
    index(source)
    assert encoded == [3]
    assert "new: 1, changed: 1, removed: 1" in capsys.readouterr().out
    assert same(out, index(source, out="fresh")) == []
    (source / "mask.tif").unlink()  # nothing to encode
    encoded[0] = 0
    index(source)
    assert encoded == [0] and same(out, index(source, out="fresher")) == [] and "mask.tif" not in scenes_of(out)


def test_a_further_source_is_added_and_one_that_is_forgotten_is_asked_for(index, tmp_path, encoded):
    one, two = (write_tiff(tmp_path / name / "a.tif", noise(3, 64, 64), **UTM) for name in ("one", "two"))
    index(one)
    encoded[0] = 0
    out = index(one, two)
    assert encoded == [1] and set(scenes_of(out)) == {"a.tif", str(two)}
    with pytest.raises(InputError, match=r"is of .*two/a.tif, too, which the command does not name"):
        index(one)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"tile": 32}, {"overlap": 0.5}, {"gsd": 5}, {"levels": 2}, {"bands": "1"}])
def test_other_settings_are_refused(index, tmp_path, options):
    path = write_tiff(tmp_path / "a.tif", noise(3, 64, 64), **UTM)
    index(path)
    with pytest.raises(InputError, match=f"was made with another {next(iter(options))} "):
        index(path, **options)


@pytest.mark.slow
def test_other_weights_under_the_same_name_are_refused(tmp_path):
    clip_folder(tmp_path / "tiny")
    path = write_tiff(tmp_path / "a.tif", noise(3, 64, 64), **UTM)
    words = [f"--checkpoint={tmp_path}/tiny", f"--out={tmp_path}/index", "--tile=64"]
    main([str(path), *words])
    for file in (tmp_path / "tiny").iterdir():
        file.unlink()
    (tmp_path / "tiny").rmdir()
    clip_folder(tmp_path / "tiny", seed=5)
    main([str(path), *words])  # nothing to encode
    write_tiff(path, noise(3, 64, 64, seed=1), **UTM)
    with pytest.raises(InputError, match="was made with another weights"):
        main([str(path), *words])


@pytest.mark.parametrize(
    "options",
    [{"tile": 0}, {"overlap": 1}, {"overlap": "nan"}, {"gsd": -2}, {"levels": 0}, {"batch_size": 0}, {"engine": "x"}],
)
def test_options_without_sense_are_refused(index, tmp_path, options):
    with pytest.raises(InputError, match=f"--{next(iter(options)).replace('_', '-')}"):
        index(tmp_path, **options)


def test_two_bands_are_refused(index, tmp_path):
    with pytest.raises(InputError, match="--bands=1,2: one or three"):
        index(tmp_path, bands="1,2")


@pytest.mark.parametrize("name", ["gs://bucket/x", "s3://bucket/x"])
def test_an_index_is_no_local_folder_with_the_name_of_an_address(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="a local or mounted folder is expected"):
        main(["a.tif", "--checkpoint=none", f"--out={name}"])
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(index, tmp_path):
    path = write_tiff(tmp_path / "a.tif", noise(3, 64, 64), **UTM)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        index(path)
    (tmp_path / "set").mkdir()
    meta = {"model": "a", "dataset": "b", "features": "projected"}
    (tmp_path / "set" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="an embedding set that is no index"):
        index(path, out="set")
    with pytest.raises(InputError, match="is a file, a folder is expected"):
        index(path, out="a.tif")
    assert (tmp_path / "index" / "mine.txt").read_text() == "mine"


def test_an_archive_without_a_single_tile_is_refused(index, tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((3, 64, 64), np.uint8), nodata=0, **UTM)
    with pytest.raises(InputError, match="not one tile of 1 scenes"):
        index(tmp_path / "a.tif")
