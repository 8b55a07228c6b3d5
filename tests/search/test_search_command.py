"""The command `lrsclip search`: what it prints, writes and refuses, and its exit status."""

import json
import re

import numpy as np
import pytest
import tiny_clip
from PIL import Image
from small_index import write_index

from lrsclip_jax import cli
from lrsclip_jax.errors import InputError
from lrsclip_jax.search import tiles_table

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An index whose scene nowhere.tif is there to be read."""
    folder = tmp_path_factory.mktemp("archive")
    tiny_clip.clip_folder(folder / "clip")
    index = write_index(folder / "index", checkpoint=str(folder / "clip"))
    scenes = tiles_table.read_scenes(index / "scenes.parquet").to_pylist()
    pixels = np.random.default_rng(0).integers(0, 256, (728, 728, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "nowhere.png")
    for scene in scenes:
        if scene["scene"] == "nowhere.tif":
            scene["source"] = str(folder / "nowhere.png")
    tiles_table.write_scenes(index / "scenes.parquet", scenes)
    return index


def run(*arguments):
    return cli.main(["search", *map(str, arguments)])


@pytest.mark.slow
def test_hits_are_printed_with_their_numbers_and_places(archive, capsys):
    assert run(archive, "a harbour", "--top=4", "--not=clouds") == 0
    first, verdict, *lines = capsys.readouterr().out.splitlines()
    assert first == "“a harbour”, not “clouds”: 4 of 48 tiles" and verdict.startswith(("Found: ", "Maybe nothing: "))
    assert len(lines) == 4
    for rank, line in enumerate(lines, 1):
        pattern = rf" +{rank}  -?\d\.\d{{4}}  z +-?\d+\.\d +\d+\.\d+ %  \w+\.tif rows \d+–\d+, columns \d+–\d+; .+"
        assert re.fullmatch(pattern, line), line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["found.geojson", "found.gpkg", "found.csv", "deep/found.html"])
def test_hits_are_written(archive, tmp_path, capsys, name):
    assert run("--top=3", archive, f"--out={tmp_path / name}", "a harbour") == 0  # options and texts in any order
    assert (tmp_path / name).stat().st_size > 300 and f"{name}: 3 hits" in capsys.readouterr().out


def test_filters_are_taken_and_nothing_found_is_status_1(archive, tmp_path, capsys):
    area = tmp_path / "area.geojson"
    area.write_text(
        json.dumps({"type": "Polygon", "coordinates": [[[11, 47], [12, 47], [12, 48], [11, 48], [11, 47]]]})
    )
    assert (
        run(archive, "a", f"--within={area}", "--since=2023", "--until=2023-12", "--scene=a*", "--bbox=11,47,11.01,48")
        == 0
    )
    out = capsys.readouterr().out
    assert "4 of which pass the filters" in out and "alps.tif" in out and "fiji.tif" not in out
    assert run(archive, "a", "--since=2030") == 1
    assert "No tile passes the filters; the index holds 48." in capsys.readouterr().out


@pytest.mark.slow
def test_an_example_image_and_a_text_are_asked_together(archive, tmp_path, capsys):
    Image.new("RGB", (40, 40), (200, 30, 30)).save(tmp_path / "example.png")
    assert run(archive, f"--image={tmp_path / 'example.png'}", "a", "b", "--top=1") == 0
    assert capsys.readouterr().out.startswith("“a” and “b” and example.png: 1 of 48 tiles")


@pytest.mark.slow
def test_heat_maps_stand_in_the_page_or_next_to_another_file(archive, tmp_path, capsys):
    assert run(archive, "a", "--top=5", "--heatmap", f"--out={tmp_path / 'found.geojson'}") == 0
    out = capsys.readouterr().out
    pictures = sorted((tmp_path / "found_heatmaps").iterdir())
    drawn = [line.split()[0] for line in out.splitlines() if "nowhere.tif rows" in line]
    assert [path.name for path in pictures] == [f"{int(rank):02d}.png" for rank in drawn] and drawn
    assert Image.open(pictures[0]).size == (224, 224)
    assert "note: no heat map of alps.tif: /archive/alps.tif: image can't be read" in out
    assert run(archive, "a", "--scene=nowhere.tif", "--heatmap", f"--out={tmp_path / 'found.html'}") == 0
    assert not (tmp_path / "found_heatmaps" / "page").exists() and (tmp_path / "found.html").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["a", "--heatmap"], "--heatmap needs --out"),
        (["a", "--out=found.pdf"], "expected a name that ends in"),
        (["a", "--top=0"], "--top=0: expected a whole number from 1"),
        (["a", "--bbox=1,2"], "expected west,south,east,north"),
        (["a", "--within=none.geojson"], "none.geojson is missing"),
        (["a", "--since=soon"], "expected a date"),
        (["a", "--scene=alp.tif"], "did you mean 'alps.tif'"),
        (["--image=none.jpg"], "none.jpg"),
        (["a", "--engine=faiss"], "unknown engine 'faiss'"),
        ([], "say what to look for"),
    ],
)
def test_bad_input_is_one_line(archive, arguments, said):
    with pytest.raises(InputError, match=said) as caught:
        run(archive, *arguments)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_and_a_missing_index_end_with_status_2(archive, capsys):
    for arguments, said in (([archive, "a", "--botom=3"], "unknown argument --botom=3"), ([], "INDEX")):
        with pytest.raises(InputError, match=said):
            run(*arguments)
