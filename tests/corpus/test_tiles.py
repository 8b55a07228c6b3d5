import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.corpus.stages import tiles
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

ROOF = (180, 40, 30)


def scene(folder, boxes, width=250, height=130, name="a b.png", **fields):
    """A grey scene with a red rectangle for each box."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = ROOF
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / name)
    things = tuple(Thing("roof", tuple(map(float, box))) for box in boxes)
    return CorpusRecord(f"set/{name}", str(folder / name), "set", things=things, **fields)


def test_boxes_lie_on_what_the_tiles_show(tmp_path):
    boxes = [(10, 10, 40, 50), (80, 20, 120, 60), (190, 95, 249, 129), (60, 105, 70, 128)]
    record = scene(tmp_path, boxes, licence="MIT", split="train", short=("Roofs.",), label="Town")
    found = list(tiles.cut([record], 100, tmp_path / "out", min_visible=0.01, quality=95))
    assert [tile.id for tile in found] == [f"set/a b.png/r{r}_c{c}" for r in (0, 30) for c in (0, 100, 150)]
    seen = 0
    for tile in found:
        pixels = np.asarray(Image.open(tile.image)).astype(int)
        assert pixels.shape == (tile.height, tile.width, 3) == (100, 100, 3)
        red = np.abs(pixels - ROOF).sum(-1) < np.abs(pixels - 90).sum(-1)
        drawn = np.zeros_like(red)
        for x0, y0, x1, y1 in (map(int, thing.box) for thing in tile.things):
            drawn[y0:y1, x0:x1] = True
        assert (red != drawn).mean() < 0.01  # JPEG blurs edges
        seen += drawn.sum()
        assert (tile.licence, tile.split, tile.short, tile.label) == ("MIT", "train", (), None)
    assert seen > 5000
    assert found[0].provenance == (Step("tiles", "", "rows 0 to 100, columns 0 to 100"),)


def test_things_mostly_outside_are_left_out(tmp_path):
    record = scene(tmp_path, [(90, 0, 110, 20), (94, 40, 114, 60)], width=200, height=100)
    outline = ((90.0, 70.0), (110.0, 70.0), (110.0, 90.0))
    more = (Thing("path", (90, 70, 110, 90), outline), Thing("sea"))
    record = CorpusRecord(record.id, record.image, "set", things=(*record.things, *more), width=200, height=100)
    left, right = tiles.cut([record], 100, tmp_path / "out", min_visible=0.5)
    assert left.things == (Thing("roof", (90, 0, 100, 20)), Thing("path", (90, 70, 100, 80), left.things[1].polygon))
    assert set(left.things[1].polygon) == {(90, 70), (100, 70), (100, 80)}
    assert right.things[0].box == (0, 0, 10, 20) and right.things[1].box == (0, 40, 14, 60)
    assert right.things[2].box == (0, 70, 10, 90)
    assert left.provenance[-1].detail.endswith("; mostly outside and left out: 1")


def test_tiles_are_written_once_and_whole(tmp_path, monkeypatch):
    record = scene(tmp_path, [(0, 0, 9, 9)])
    first = list(tiles.cut([record], 100, tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    monkeypatch.setattr(tiles, "open_scene", lambda path: pytest.fail("read again"))
    assert list(tiles.cut([record], 100, tmp_path / "out")) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")} == before
    monkeypatch.undo()
    smaller = list(tiles.cut([record], 60, tmp_path / "out"))  # next to the others
    assert not {tile.image for tile in smaller} & {tile.image for tile in first}


def test_a_tile_that_was_damaged_between_two_starts_is_named_and_made_again(tmp_path, capsys):
    record = scene(tmp_path, [(0, 0, 9, 9)])
    first = list(tiles.cut([record], 100, tmp_path / "out"))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    damaged = Path(first[2].image)
    assert len(before) == 7  # and the checksums
    damaged.write_bytes(before[damaged][:-40] + b"\xff" + before[damaged][-39:])
    kept = {
        path: path.stat().st_mtime_ns for path in before if path not in (damaged, damaged.parent / ".checksums.json")
    }
    assert list(tiles.cut([record], 100, tmp_path / "out")) == first
    assert (
        capsys.readouterr().err
        == f"note: {damaged} is damaged: its content is not what was written; it is made again\n"
    )
    assert {path: path.read_bytes() for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_tiles_of_a_scene_that_a_kill_left_unfinished_are_made_again(tmp_path):
    record = scene(tmp_path, [(0, 0, 9, 9)])
    *_, tile = itertools.islice(tiles.cut([record], 100, tmp_path / "out"), 4)
    Path(tile.image).write_bytes(b"")  # a power cut
    found = list(tiles.cut([record], 100, tmp_path / "out"))
    assert len(found) == 6 and all(Image.open(tile.image).size == (tile.width, tile.height) for tile in found)


def test_ids_do_not_lead_out_of_the_folder(tmp_path):
    record = scene(tmp_path / "in", [])
    records = [CorpusRecord(name, record.image, "set") for name in ("..", "../x", "/x", "a/b", "a%2Fb")]
    found = list(tiles.cut(records, 500, tmp_path / "out"))
    assert len({tile.image for tile in found}) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert {path.parent for path in (tmp_path / "out").rglob("*.jpg")} == set((tmp_path / "out").iterdir())


def test_scenes_that_cannot_be_read_are_set_aside(tmp_path):
    torn = scene(tmp_path, [], name="torn.png")
    data = (tmp_path / "torn.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(data[: len(data) // 2])
    resized = scene(tmp_path, [], name="resized.png", width=30, height=40)
    resized = CorpusRecord(resized.id, resized.image, "set", width=60, height=80)
    missing = CorpusRecord("set/missing", str(tmp_path / "missing.png"), "set")
    good = scene(tmp_path, [], name="good.png", width=30, height=40)
    *aside, tile = tiles.cut([torn, resized, missing, good], 100, tmp_path / "out")
    assert [one.id for one in aside] == ["set/torn.png", "set/resized.png", "set/missing"]
    assert all(isinstance(one, SetAside) and one.stage == "tiles" and "\n" not in one.reason for one in aside)
    assert (tile.id, tile.width, tile.height) == ("set/good.png/r0_c0", 30, 40)
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_geotiff_is_read_by_windows(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 12, 16), np.uint8).repeat(16, 1).repeat(16, 2)
    kind = {"driver": "GTiff", "width": 256, "height": 192, "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.open(tmp_path / "s.tif", "w", blockxsize=64, blockysize=64, **kind) as file:
        file.write(pixels)
    monkeypatch.setattr(TiffImageFile, "load", lambda self: pytest.fail("decoded whole"))
    found = list(tiles.cut([CorpusRecord("s", str(tmp_path / "s.tif"), "set")], 64, tmp_path / "out", quality=95))
    monkeypatch.undo()
    assert len(found) == 12
    for tile in found:
        r0, c0 = (int(part[1:]) for part in tile.id.split("/")[1].split("_"))
        difference = np.asarray(Image.open(tile.image), int) - pixels[:, r0 : r0 + 64, c0 : c0 + 64].transpose(1, 2, 0)
        assert np.abs(difference).mean() < 12  # other windows differ by 85


def test_a_full_disk_ends_the_stage_and_is_no_fault_of_the_scene(tmp_path, monkeypatch):
    scenes = [scene(tmp_path, [], name=f"{n}.png", width=30, height=40) for n in range(2)]

    def full(self, path, *args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match=r"can't write .*/r0_c0_30x40\.jpg: No space left on device"):
        list(tiles.cut(scenes, 100, tmp_path / "out"))


def test_a_tile_that_a_power_cut_emptied_is_written_again(tmp_path):
    (tile,) = tiles.cut([scene(tmp_path, [], width=30, height=40)], 100, tmp_path / "out")
    before = Path(tile.image).read_bytes()
    Path(tile.image).write_bytes(b"")
    list(tiles.cut([scene(tmp_path, [], width=30, height=40)], 100, tmp_path / "out"))
    assert before and Path(tile.image).read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"overlap": 100}, {"overlap": -1}, {"min_visible": 0}, {"min_visible": 2}, {"quality": 101}],
)
def test_bad_options_are_refused_at_once(tmp_path, options):
    with pytest.raises(InputError, match=f"tiles: {next(iter(options))}"):
        tiles.cut([], **({"size": 100, "out": tmp_path} | options))
