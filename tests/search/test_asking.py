"""An open index is asked: by text, image and liked tiles; what it answers, and how it refuses."""

import json
import shutil
import sys
import threading
import warnings

import numpy as np
import pytest
import tiny_clip
from PIL import Image
from small_index import write_index

import lrsclip_jax
import lrsclip_jax.search
from eval.scores import best_matches
from lrsclip_jax.errors import InputError
from lrsclip_jax.search import tiles_table

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    tiny_clip.clip_folder(folder / "clip")
    return write_index(folder / "index", checkpoint=str(folder / "clip")).parent


@pytest.fixture(scope="module")
def index(folder):
    return lrsclip_jax.search.open(folder / "index")


@pytest.fixture(scope="module")
def model(folder):
    return lrsclip_jax.load(folder / "clip", batch_size=32)


def plain(index, query, most):
    """Rows by NumPy: sorted by their scores, each left out that overlaps a better one of its scene by a tenth."""
    rows, scores = best_matches(query[None], index.rows, len(index))
    _, of_tile = index.tiles.scenes
    kept = []
    for row in rows[0]:
        r0, r1, c0, c1 = index.tiles.windows[row]
        for better in kept:
            if of_tile[better] == of_tile[row]:
                a0, a1, b0, b1 = index.tiles.windows[better]
                if max(0, min(a1, r1) - max(a0, r0)) * max(0, min(b1, c1) - max(b0, c0)) > 0.1 * 224**2:
                    break
        else:
            kept.append(row)
    score = dict(zip(rows[0].tolist(), scores[0], strict=True))
    return [(row, score[row]) for row in kept[:most]]


@pytest.mark.slow
@pytest.mark.parametrize("top", [1, 5, 50])
def test_a_text_finds_what_numpy_finds(index, model, top):
    hits = index.search(text="a harbour", top=top)
    assert [(hit.row, hit.cosine) for hit in hits] == plain(index, model.texts(["a harbour"])[0], top)
    assert hits.tiles == hits.considered == 48 and [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_a_hit_says_where_and_when_and_how_unusual(index):
    hits = index.search(text="a harbour")
    by_scene = {hit.scene: hit for hit in hits}
    alps, fiji, nowhere = (by_scene[name] for name in ("alps.tif", "fiji.tif", "nowhere.tif"))
    r0, r1, c0, c1 = alps.window
    assert alps.bbox == pytest.approx((11 + c0 * 1e-4, 47.5 - r1 * 1e-4, 11 + c1 * 1e-4, 47.5 - r0 * 1e-4))
    assert alps.date.isoformat() == "2023-07-14T10:00:00+00:00" and alps.gsd == 11 and alps.crs == "EPSG:4326"
    assert -180 <= fiji.place[0] <= 180 and fiji.place[1] < -16
    assert nowhere.geometry is nowhere.bbox is nowhere.place is nowhere.date is None
    scores = np.asarray(index.rows, np.float64) @ hits.query.astype(np.float64)
    for hit in hits:
        assert hit.percentile == pytest.approx(100 * (scores <= hit.cosine + 5e-8).mean())
        assert index.tiles.rows_of([hit.id]) == [hit.row]
    assert len(hits.reached) == 16 and list(hits.reached) == sorted(hits.reached, reverse=True)


def test_a_footprint_across_the_date_line_has_its_box_and_place_across_it(index):
    hit = next(hit for hit in index.search(text="a", scenes="fiji.tif") if hit.geometry.geom_type == "MultiPolygon")
    west, south, east, north = hit.bbox
    assert west == pytest.approx(179.99) and east == pytest.approx(-179.9876)
    assert hit.place[0] == pytest.approx(-179.9988)


def test_filters_hold_and_percentiles_are_of_the_whole_index(index):
    everything = {hit.row: hit for hit in index.search(text="a harbour")}
    hits = index.search(text="a harbour", bbox=(170, -20, -170, 0), until="2024")
    assert len(hits) and {hit.scene for hit in hits} == {"fiji.tif"} and hits.considered == 16
    assert hits.notes == [
        "16 of 48 tiles have no place and are left out",
        "16 of 48 tiles have no date and are left out",
    ]
    shared = [hit for hit in hits if hit.row in everything]
    assert shared and all(hit.percentile == pytest.approx(everything[hit.row].percentile) for hit in shared)


def test_an_example_image_is_asked_by_path_array_or_pil(index, model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "example.png")
    rows = [
        [(hit.row, hit.cosine) for hit in index.search(image=image)]
        for image in (
            tmp_path / "example.png",
            str(tmp_path / "example.png"),
            pixels,
            Image.fromarray(pixels),
            [pixels],
        )
    ]
    assert all(found == rows[0] for found in rows) and rows[0] == plain(index, model.images([pixels])[0], 50)
    hits = index.search(image=pixels)
    assert not hits.reached and hits.verdict.startswith("The best z is")


def test_texts_images_and_negatives_are_one_direction(index, model):
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    parts = [*model.texts(["a", "b"]), model.images([pixels])[0], model.texts(["c"])[0]]
    spread = (np.stack(parts) @ np.asarray(index.rows).T).std(axis=1)
    expected = np.array([1 / 3, 1 / 3, 1 / 3, -0.5]) / spread @ np.stack(parts)
    hits = index.search(text=["a", "b"], image=pixels, negative="c")
    np.testing.assert_allclose(hits.query, expected / np.linalg.norm(expected), atol=1e-6)
    assert hits.asked == "“a” and “b” and an image, not “c”"


def test_more_like_a_tile_finds_it_first_without_a_model(folder):
    index = lrsclip_jax.search.open(folder / "index", checkpoint="nothing at all")
    hits = index.search(more=[7])
    assert hits[0].row == 7 and hits[0].cosine == pytest.approx(1) and hits.asked == "more like 1 tile"
    by_id = index.search(more=[hits[0].id], less=[int(hits[-1].row)])
    assert by_id[0].row == 7 and hits[-1].row not in [hit.row for hit in by_id[:5]]


def test_a_long_text_is_cut_with_a_note_and_no_warning(index):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hits = index.search(text="a harbour " * 1000)
    assert hits.notes == ["a text of 2,002 tokens was cut to 77, which is what the model reads"] and len(hits)


def test_twenty_threads_get_what_one_gets(index):
    texts = [f"text number {n}" for n in range(20)]
    alone = [[hit.row for hit in index.search(text=text, top=5)] for text in texts]
    fresh = lrsclip_jax.search.open(index.path)
    together = {}

    def ask(text):
        together[text] = [hit.row for hit in fresh.search(text=text, top=5)]

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together.get(text) for text in texts] == alone


def test_nothing_passes_the_filters(index):
    hits = index.search(text="a harbour", bbox="0,0,1,1")
    assert len(hits) == 0 and hits.verdict == "No tile passes the filters; the index holds 48."
    assert hits.to_geojson()["features"] == [] and hits.table().num_rows == 0


def test_a_thumbnail_is_a_jpeg(index):
    assert index.thumbnail(30)[:2] == b"\xff\xd8"
    with pytest.raises(InputError, match="the index has no row 48, it has 48 tiles"):
        index.thumbnail(48)


@pytest.mark.slow
def test_opening_reads_no_rows_and_searching_leaves_the_folder_as_it_was(folder):
    before = {path: path.read_bytes() for path in (folder / "index").iterdir()}
    lrsclip_jax.search.open(folder / "index").search(text="a harbour")
    assert {path: path.read_bytes() for path in (folder / "index").iterdir()} == before


@pytest.mark.parametrize(
    "asked, said",
    [
        ({}, "say what to look for"),
        ({"negative": "clouds"}, "say what to look for"),
        ({"text": "  "}, "an empty text"),
        ({"text": ["a", ""]}, "an empty text"),
        ({"text": "a", "negative": ""}, "an empty negative text"),
        ({"text": "a", "top": 0}, "top is 0: expected a whole number between 1 and 10,000"),
        ({"text": "a", "top": 2.5}, "top is 2.5"),
        ({"text": "a", "top": 10**6}, "top is 1000000"),
        ({"text": "a", "more": [48]}, "the index has no row 48"),
        ({"text": "a", "less": [-1]}, "the index has no row -1"),
        ({"more": ["alps.tif#L0/r1,c1"]}, "the index has no tile 'alps.tif#L0/r1,c1'"),
        ({"image": "none.png"}, "none.png"),
        ({"image": np.zeros((4, 4), np.uint8)}, "an image array must be uint8"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(index, asked, said):
    with pytest.raises(InputError, match=said) as caught:
        index.search(**asked)
    assert "\n" not in str(caught.value)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder / "index", tmp_path / "index")


def opened(path, **how):
    return lrsclip_jax.search.open(path, **how).search(text="a harbour")


def meta(copy, **changed):
    path = copy / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_an_unfinished_index_a_missing_one_and_an_embedding_set_are_refused(copy, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        opened(tmp_path / "none")
    tables = copy / "tiles.parquet"
    tables.rename(copy / "away")
    with pytest.raises(InputError, match="an embedding set, but no index"):
        opened(copy)
    (copy / "meta.json").unlink()
    with pytest.raises(InputError, match="no finished index"):
        opened(copy)


def test_torn_files_are_named(copy):
    table = tiles_table.read_tiles(copy / "tiles.parquet")
    tiles_table.write_tiles(copy / "tiles.parquet", [table.slice(0, 47)])
    with pytest.raises(InputError, match="torn: 47 rows in tiles.parquet, 48 in images.npy"):
        opened(copy)
    (copy / "tiles.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="tiles.parquet: torn"):
        opened(copy)
    (copy / "images.npy").write_bytes((copy / "images.npy").read_bytes()[:-9])
    with pytest.raises(InputError, match="images.npy: .* torn or damaged"):
        opened(copy)


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_refused(copy, tmp_path):
    tower = {"width": 64, "layers": 1, "heads": 1, "embed_dim": 8}
    other = tiny_clip.model(image={"embed_dim": 8}, text=tower)
    tiny_clip.clip_folder(tmp_path / "other", other)
    with pytest.raises(InputError, match="holds embeddings of 16 dimensions, .* makes 8"):
        opened(copy, checkpoint=str(tmp_path / "other"))
    with pytest.raises(InputError, match="the model of the index can't be loaded"):
        opened(copy, checkpoint=str(tmp_path / "none"))
    meta(copy, weights="0" * 16)
    with pytest.raises(InputError, match="was made with other weights"):
        opened(copy)
    meta(copy, checkpoint=None, weights=None)
    with pytest.raises(InputError, match="names no checkpoint"):
        opened(copy)


def test_an_index_without_a_tile_answers_with_none(copy):
    tiles_table.write_tiles(copy / "tiles.parquet", [])
    np.save(copy / "images.npy", np.zeros((0, 16), np.float32))
    hits = lrsclip_jax.search.open(copy).search(text="a harbour")
    assert len(hits) == 0 and hits.verdict == "The index holds no tiles."


def test_an_unknown_engine_is_refused(folder):
    with pytest.raises(InputError, match="unknown engine 'exakt'"):
        opened(folder / "index", engine="exakt")


@pytest.mark.parametrize("package", ["shapely", "faiss"])
def test_a_missing_package_is_named(folder, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("lrsclip_jax.search.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}: pip install 'lrsclip_jax\[search\]'|needs FAISS: pip"):
        opened(folder / "index")
