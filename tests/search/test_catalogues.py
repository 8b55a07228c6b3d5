"""What users point at becomes a list of scenes: names, dates and fingerprints, and nothing outside a catalogue."""

import json
import os
from datetime import UTC, datetime

import pystac
import pytest
from PIL import Image
from range_server import serving

from lrsclip_jax.errors import InputError
from lrsclip_jax.search.catalogues import entries_of


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


@pytest.fixture
def archive(tmp_path):
    for name in ("a.tif", "sub/b.jpg", "sub/deep/c.png", "sub/notes.txt", ".hidden.tif"):
        picture(tmp_path / "archive" / name) if name[-3:] != "txt" else (tmp_path / "archive" / name).write_text("x")
    return tmp_path / "archive"


def item(name, href, date=datetime(2024, 5, 1, tzinfo=UTC), **fields):
    made = pystac.Item(name, None, None, date, fields)
    made.add_asset("visual", pystac.Asset(str(href), media_type=pystac.MediaType.COG, roles=["data"]))
    made.add_asset("thumbnail", pystac.Asset("thumb.jpg", media_type=pystac.MediaType.JPEG, roles=["thumbnail"]))
    return made


def catalogue(folder, kind=pystac.CatalogType.SELF_CONTAINED, names=("one", "two")):
    root = pystac.Catalog("root", "a test")
    extent = pystac.Extent(pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]]))
    collection = pystac.Collection("alps", "a test", extent)
    root.add_child(collection)
    for name in names:
        collection.add_item(item(name, picture(folder / "tiffs" / f"{name}.tif")))
    root.normalize_hrefs(str(folder))
    if kind == pystac.CatalogType.SELF_CONTAINED:
        root.make_all_asset_hrefs_relative()
    root.save(kind)
    return folder / "catalog.json"


def names(*sources):
    return [entry.scene for entry in entries_of([str(source) for source in sources])]


def test_files_folders_and_patterns(archive, monkeypatch):
    assert names(archive) == ["a.tif", "sub/b.jpg", "sub/deep/c.png"]
    assert names(archive / "sub" / "b.jpg") == ["b.jpg"]
    assert names(archive / "**" / "*.[jp][pn]g") == ["sub/b.jpg", "sub/deep/c.png"]
    monkeypatch.chdir(archive)
    assert names("sub", "*.tif") == ["a.tif", "b.jpg", "deep/c.png"]
    [entry] = entries_of(["a.tif"])
    assert entry.source == str(archive / "a.tif") and entry.size == (archive / "a.tif").stat().st_size


def test_a_scene_that_two_sources_hold_is_there_once_and_names_never_clash(archive, tmp_path):
    picture(tmp_path / "other" / "a.tif")
    assert names(archive, archive / "a.tif") == ["a.tif", "sub/b.jpg", "sub/deep/c.png"]
    assert names(archive / "a.tif", tmp_path / "other") == [str(tmp_path / "other" / "a.tif"), "a.tif"]


def test_the_fingerprint_changes_with_the_file(archive):
    [before] = entries_of([str(archive / "a.tif")])
    assert entries_of([str(archive / "a.tif")]) == [before]
    os.utime(archive / "a.tif", (1, 1))
    [after] = entries_of([str(archive / "a.tif")])
    assert after.fingerprint != before.fingerprint and after.modified == 10**9


@pytest.mark.parametrize("kind", [pystac.CatalogType.SELF_CONTAINED, pystac.CatalogType.ABSOLUTE_PUBLISHED])
def test_a_stac_catalogue_a_collection_and_an_item(tmp_path, kind):
    path = catalogue(tmp_path, kind)
    found = entries_of([str(path)])
    assert [entry.scene for entry in found] == ["alps/one", "alps/two"]
    assert found[0].source == str(tmp_path / "tiffs" / "one.tif") and not found[0].fault
    assert found[0].date == datetime(2024, 5, 1, tzinfo=UTC)
    assert names(tmp_path / "alps" / "collection.json") == ["alps/one", "alps/two"]
    assert names(tmp_path / "alps" / "two" / "two.json") == ["alps/two"]


def test_an_item_collection_of_which_the_visual_asset_or_every_raster_counts(tmp_path):
    picture(tmp_path / "a.tif")
    bands = item("bands", "a.tif")
    del bands.assets["visual"]
    for band in ("B02", "B03", "copy"):
        picture(tmp_path / f"{band}.tif")
        bands.add_asset(
            band,
            pystac.Asset(f"{band.replace('copy', 'B02')}.tif", media_type=pystac.MediaType.GEOTIFF, roles=["data"]),
        )
    empty = item("empty", "a.tif")
    empty.assets = {}
    collection = pystac.ItemCollection([item("seen", "a.tif"), bands, empty])
    path = tmp_path / "items.json"
    path.write_text(json.dumps(collection.to_dict()))
    found = {entry.scene: entry for entry in entries_of([str(path)])}
    assert found["seen"].source == str(tmp_path / "a.tif")
    assert found["empty"].fault == "the item names no raster"
    assert set(found) == {"seen", "bands/B02", "bands/B03", "empty"}  # a file counts once


@pytest.mark.parametrize("href", ["/etc/hostname.tif", "../secret.tif", "/vsizip/a.zip/b.tif", "ftp://x/a.tif"])
def test_a_catalogue_names_nothing_outside_its_folder(tmp_path, href):
    picture(tmp_path / "secret.tif")
    (tmp_path / "stac").mkdir()
    path = tmp_path / "stac" / "items.json"
    path.write_text(json.dumps(pystac.ItemCollection([item("a", href)]).to_dict()))
    [entry] = entries_of([str(path)])
    assert "outside its folder" in entry.fault or "only paths and addresses" in entry.fault


def test_a_catalogue_and_a_raster_at_an_address(tmp_path):
    catalogue(tmp_path)
    picture(tmp_path / "b.tif")
    with serving(tmp_path) as server:
        found = entries_of([f"{server.url}/catalog.json", f"{server.url}/b.tif"])
        assert [entry.scene for entry in found] == ["alps/one", "alps/two", f"{server.url}/b.tif"]
        assert found[0].source == f"{server.url}/tiffs/one.tif" and found[0].fingerprint and found[0].size
        assert entries_of([f"{server.url}/b.tif"])[0] == found[2]
        server.change()
        assert entries_of([f"{server.url}/b.tif"])[0].fingerprint != found[2].fingerprint
        (tmp_path / "tiffs" / "one.tif").unlink()
        assert "404" in entries_of([f"{server.url}/catalog.json"])[0].fault
        local = item("local", "/etc/hostname.tif")
        (tmp_path / "items.json").write_text(json.dumps(pystac.ItemCollection([local]).to_dict()))
        assert "a file of this machine" in entries_of([f"{server.url}/items.json"])[0].fault


@pytest.mark.parametrize(
    "content, message",
    [("{", "not JSON"), ("[1]", "no STAC"), ('{"type": "Feature"}', "no STAC"), ('{"type": "Catalog"}', "no STAC")],
)
def test_what_is_no_catalogue_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message):
        entries_of([str(tmp_path / "a.json")])


def test_a_source_without_scenes_is_named(tmp_path):
    with pytest.raises(InputError, match="no scenes there"):
        entries_of([str(tmp_path)])
    for missing in ("none", "none/*.tif"):
        with pytest.raises(InputError, match="is there"):
            entries_of([str(tmp_path / missing)])
    with pytest.raises(InputError, match="can't be read"):
        entries_of(["http://127.0.0.1:9/catalog.json"])
