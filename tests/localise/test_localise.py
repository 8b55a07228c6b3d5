import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_clip
from PIL import Image

import lrsclip_jax
from eval import selo
from eval.selo.v2 import second_map, shuffled
from lrsclip_jax.data.crops import crop_window
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.rasters import RasterScene, open_scene
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.localise import finding, outputs
from lrsclip_jax.localise.__main__ import main
from lrsclip_jax.localise.heatmap import heat, patch_encoder, text_directions
from lrsclip_jax.localise.score_maps import reduction, window_map

TEXTS = ["a harbour", "a dense forest"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "clip"
    tiny_clip.clip_folder(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(source):
    return lrsclip_jax.load(source, batch_size=8)


@pytest.fixture
def loaded(model, monkeypatch):
    """Spares programs the loading of the model, and its compilation."""
    monkeypatch.setattr(lrsclip_jax, "load", lambda source, batch_size, layout: model)


@pytest.fixture(scope="module")
def pixels():
    return smooth(96, 160)


def smooth(height, width, seed=0):
    """An RGB image of soft blobs, so that windows differ."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write_tiff(path, values, **profile):
    rasterio = pytest.importorskip("rasterio")
    count, height, width = values.shape
    with rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, **profile) as file:
        file.write(values)
    return path


def georeferenced(path, pixels):
    affine = pytest.importorskip("rasterio").Affine
    transform = affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)
    values = pixels.transpose(2, 0, 1)
    return write_tiff(path, values, dtype="uint8", crs="EPSG:32632", transform=transform)


def test_a_crop_is_cut_as_it_is_or_as_the_reference_does(pixels, tmp_path):
    np.testing.assert_array_equal(crop_window(pixels, (8, 72, 3, 67), False), pixels[8:72, 3:67])
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)[8:72, 3:67]  # the reference's own lines
    cv2.imwrite(str(tmp_path / "crop.jpg"), cv2.resize(bgr, (256, 256), interpolation=cv2.INTER_CUBIC))
    expected = np.asarray(Image.open(tmp_path / "crop.jpg"))
    np.testing.assert_array_equal(crop_window(pixels, (8, 72, 3, 67), True), expected)


@pytest.mark.parametrize("window", [(0, 97, 0, 64), (-1, 63, 0, 64), (5, 5, 0, 64)])
def test_a_window_lies_in_its_image(pixels, window):
    with pytest.raises(InputError, match="does not lie in an image of 96×160"):
        crop_window(pixels, window, False)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_windows_of_a_tiff_are_those_of_the_whole_image(tmp_path):
    values = np.random.default_rng(1).integers(200, 9000, (5, 60, 70)).astype(np.uint16)
    values[:, :9, :9] = 0
    path = write_tiff(tmp_path / "s2.tif", values, dtype="uint16", nodata=0, tiled=True, blockxsize=16, blockysize=16)
    for bands in (None, (4, 3, 2), (5,)):
        scene, whole = open_scene(path, bands), np.asarray(read_image(path, bands))
        assert isinstance(scene, RasterScene) and scene.georeference is None
        np.testing.assert_array_equal(scene.read((0, 60, 0, 70)), whole)
        np.testing.assert_array_equal(scene.read((5, 37, 50, 70)), whole[5:37, 50:70])
        assert scene.overview(6, 7).shape == (6, 7, 3)


def test_a_palette_is_looked_up_and_eight_bits_are_kept(tmp_path, pixels):
    path = tmp_path / "palette.tif"
    Image.fromarray(pixels).quantize(16).save(path)
    np.testing.assert_array_equal(open_scene(path).read((0, 96, 0, 160)), np.asarray(read_image(path)))
    path = georeferenced(tmp_path / "rgb.tif", pixels)
    np.testing.assert_array_equal(open_scene(path).read((3, 40, 5, 30)), pixels[3:40, 5:30])


@pytest.mark.slow
def test_maps_of_a_geotiff(source, model, pixels, tmp_path, monkeypatch, capsys):
    rasterio = pytest.importorskip("rasterio")
    path = georeferenced(tmp_path / "scene.tif", pixels)
    reads, read = [], RasterScene.read
    monkeypatch.setattr(RasterScene, "read", lambda self, window: reads.append(tuple(window)) or read(self, window))
    texts = [f"--text={text}" for text in TEXTS]
    main(
        [
            f"--checkpoint={source}",
            f"--image={path}",
            *texts,
            "--steps=32,64,512",
            "--batch-size=8",
            f"--out={tmp_path / 'out'}",
        ]
    )
    with pytest.warns(UserWarning, match="512"):
        windows = selo.windows(96, 160, (32, 64, 512))
    assert reads == [tuple(window) for window in windows.tolist()]  # once each, though there are two texts
    said = capsys.readouterr().out
    assert "note: windows of 512 pixels do not fit" in said

    scores = model.images([pixels[r0:r1, c0:c1] for r0, r1, c0, c1 in windows]) @ model.texts(TEXTS).T
    for text, column in zip(TEXTS, scores.T, strict=True):
        stem = tmp_path / "out" / f"scene-{text.replace(' ', '-')}"
        expected = selo.localisation_map(column, windows, 96, 160)
        assert np.ptp(expected) > 20
        grey = np.asarray(Image.open(f"{stem}-map.png"))
        np.testing.assert_allclose(grey.astype(int), expected, atol=1)  # a score's rounding may cross a grey value
        with rasterio.open(f"{stem}-map.tif") as file:
            assert file.crs.to_epsg() == 32632 and file.transform == open_scene(path).georeference.transform
            np.testing.assert_array_equal(file.read(1), grey)
        colours = cv2.applyColorMap(grey, cv2.COLORMAP_JET)[:, :, ::-1]
        shown = np.asarray(Image.open(f"{stem}-overlay.png"))
        np.testing.assert_allclose(shown, 0.7 * pixels + 0.3 * colours, atol=0.6)
        r0, _, c0, c1 = windows[column.argmax()]
        assert f"columns {c0}–{c1}; EPSG:32632: x {500_000 + c0 / 2:.2f}–{500_000 + c1 / 2:.2f}, y" in said
        assert f"–{5_400_000 - r0 / 2:.2f}\n" in said


def test_the_best_windows_are_written_with_cosines_and_places(loaded, pixels, tmp_path, capsys):
    pytest.importorskip("rasterio")
    from rasterio.warp import transform

    path = georeferenced(tmp_path / "scene.tif", pixels)
    main(["--checkpoint=loaded", f"--image={path}", "--text=a harbour", "--steps=32", f"--out={tmp_path}/out"])
    found = json.loads((tmp_path / "out" / "scene-a-harbour-found.json").read_text())
    assert found["text"] == "a harbour" and len(found["windows"]) == 3
    said = capsys.readouterr().out
    assert all(f"{window['cosine']:.4f}" in said for window in found["windows"])
    features = json.loads((tmp_path / "out" / "scene-a-harbour-found.geojson").read_text())["features"]
    assert [feature["properties"] for feature in features] == [{"text": "a harbour", **one} for one in found["windows"]]
    r0, r1, c0, c1 = found["windows"][0]["window"]
    xs, ys = 500_000 + np.array([c0, c1, c1, c0]) / 2, 5_400_000 - np.array([r0, r0, r1, r1]) / 2
    corners = np.transpose(transform("EPSG:32632", "EPSG:4326", xs.tolist(), ys.tolist()))
    ring = np.array(features[0]["geometry"]["coordinates"][0])[:-1]
    np.testing.assert_allclose(np.sort(ring, axis=0), np.sort(corners, axis=0), atol=1e-9)


def test_a_wide_overlay_has_a_legend_below():
    picture = np.full((30, 400, 3), 90, np.uint8)
    shown = np.asarray(outputs.with_legend(picture))
    assert shown.shape == (50, 400, 3) and (shown[:30] == 90).all()
    bar = shown[40, 80:-80].astype(int)
    assert bar[0, 2] > bar[0, 0] and bar[-1, 0] > bar[-1, 2]  # from blue to red
    assert (shown[30:, :60] < 100).any()  # words
    assert np.asarray(outputs.with_legend(picture[:, :100])).shape == (30, 100, 3)


def test_a_vast_scene_gets_a_reduced_map(loaded, pixels, tmp_path, monkeypatch, capsys):
    rasterio = pytest.importorskip("rasterio")
    path = georeferenced(tmp_path / "scene.tif", pixels)
    monkeypatch.setattr(finding, "MAP_PIXELS", 24 * 40)
    monkeypatch.setattr(outputs, "OVERLAY_SIDE", 80)
    command = ["--checkpoint=loaded", f"--image={path}", "--text=a harbour", "--steps=32", f"--out={tmp_path}"]
    main(command)
    assert "a pixel of the map is 4×4 of the scene" in capsys.readouterr().out
    with rasterio.open(tmp_path / "scene-a-harbour-map.tif") as file:
        assert (file.height, file.width) == (24, 40)
        assert file.bounds == rasterio.open(path).bounds
    assert Image.open(tmp_path / "scene-a-harbour-overlay.png").size == (80, 48)
    with pytest.raises(InputError, match="scene-a-harbour-map.png is there already: choose another --out"):
        main(command)


def test_what_a_stopped_command_has_begun_it_writes_again_and_others_do_not(model, pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(lrsclip_jax, "load", lambda source, batch_size, layout: model)
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    command = ["--checkpoint=loaded", f"--image={tmp_path / 'scene.png'}", *(f"--text={text}" for text in TEXTS)]
    main([*command, "--steps=32", f"--out={tmp_path / 'whole'}"])
    write, out = Image.Image.save, tmp_path / "out"

    def full(image, file, *rest):
        if len(list(out.glob("*.png"))) == 3:
            raise OSError(28, "No space left on device", str(file))
        write(image, file, *rest)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match="No space left on device"):
        main([*command, "--steps=32", f"--out={out}"])
    monkeypatch.setattr(Image.Image, "save", write)
    with pytest.raises(InputError, match="map.png is there already: choose another --out"):
        main([*command, "--steps=48", f"--out={out}"])
    main([*command, "--steps=32", f"--out={out}"])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()
    }


def test_a_reduced_map_is_the_average_over_reduced_windows():
    windows = selo.windows(96, 160, (32,))
    scores = np.random.default_rng(2).normal(size=len(windows))
    total, count = np.zeros((2, 24, 40))
    for (r0, r1, c0, c1), score in zip(windows // 4, scores, strict=True):
        total[r0:r1, c0:c1] += score
        count[r0:r1, c0:c1] += 1
    mean = total / count - (total / count).min()
    expected = cv2.medianBlur(np.uint8(255 * (mean / mean.max())), 251 // 4 | 1)
    np.testing.assert_array_equal(window_map(scores, windows, 96, 160, 4), expected)
    assert window_map(scores, windows, 96, 160, 5).shape == (20, 32)


def test_a_reduction_is_no_larger_than_it_must_be():
    assert reduction(16384, 16384) == 1 and reduction(16385, 16384) == 2
    for height, width, pixels in ((1000, 30, 500), (97, 101, 9), (7, 9, 63), (7, 9, 62)):
        factor = reduction(height, width, pixels)
        size = [-(-height // f) * -(-width // f) for f in (factor, max(factor - 1, 1))]
        assert size[0] <= pixels and (factor == 1 or size[1] > pixels)


def test_the_second_version(loaded, model, tmp_path):
    pixels = smooth(520, 528, seed=3)
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    texts = [f"--text={text}" for text in TEXTS]
    main(["--checkpoint=loaded", f"--image={tmp_path / 'scene.png'}", *texts, "--method=v2", f"--out={tmp_path}"])
    for text in TEXTS:
        query = model.texts([text, *shuffled(text, 0)]).mean(axis=0)

        def score(windows, query=query):
            return model.images([pixels[r0:r1, c0:c1] for r0, r1, c0, c1 in windows]) @ query

        grey = np.asarray(Image.open(tmp_path / f"scene-{text.replace(' ', '-')}-map.png"))
        np.testing.assert_allclose(grey.astype(int), second_map(score, 520, 528), atol=1)


def test_a_heat_map(loaded, model, pixels, tmp_path, capsys):
    Image.fromarray(pixels[:, :96]).save(tmp_path / "photo.png")
    where = [f"--image={tmp_path / 'photo.png'}", f"--out={tmp_path}"]
    main(["--checkpoint=loaded", *where, "--text=a harbour", "--heatmap=patches", "--heatmap-size=48"])
    heats = heat(patch_encoder(model, 48)([pixels[:, :96]]), text_directions(model, ["a harbour"]))[0, 0]
    drawn = cv2.resize(heats, (96, 96), interpolation=cv2.INTER_LINEAR)
    expected = 255 * (drawn - drawn.min()) / np.ptp(drawn)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "photo-a-harbour-map.png")), expected - 0.5, atol=0.51)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert f"hottest at row {row + 0.5:g}, column {column + 0.5:g}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps=128,256"], "scene.png: image smaller than every window"),
        (["--method=v2"], "scene.png: image smaller than every window"),
        (["--text= "], "--text is empty"),
        (["--image=none.png"], "none.png: image can't be read"),
        (["--image=none.tif"], "none.tif: image can't be read"),
        (["--bands=1,2"], "bands"),
        (["--checkpoint=nowhere", "--steps=32"], "nowhere"),
        (["--out=scene.png/sub", "--steps=32"], "scene.png is a file, a folder is expected"),
        (["--heatmap=patches", "--method=v1"], "leave --method and --crops out"),
        (["--heatmap-size=32"], "only applies with --heatmap=patches"),
        (["--method=v2", "--steps=32"], "leave --steps out"),
        (["--method=v2", "--seed=-1"], "--seed=-1"),
        (["--heatmap=patches", "--heatmap-size=40"], "multiple of the tower's patch, 16"),
    ],
)
def test_bad_input_is_one_line_and_status_2(source, pixels, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels).save("scene.png")
    usual = [f"--checkpoint={source}", "--image=scene.png", "--text=a harbour", "--out=out"]
    with pytest.raises(SystemExit) as caught:
        cli(lambda: main([*usual, *options]))
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said
    assert not list(tmp_path.glob("out/*"))


def test_mosaics_for_semantic_localisation_have_exact_squares(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    mosaics = importlib.import_module("benchmarks.selo_mosaics")
    record = importlib.import_module("lrsclip_jax.data.prepared.records").Record
    labels = ["Port", "BareLand", "Port", "Port"]
    file = cv2.imencode(".png", np.full((5, 5, 3), 200, np.uint8))[1].tobytes()
    tiles = [record(str(i), "test", file, short=("a bareland at a port",), label=name) for i, name in enumerate(labels)]
    assert mosaics.paste(tiles, 16).shape == (32, 32, 3)
    polygons = mosaics.regions(tiles, "Port", 16)
    assert json.loads(json.dumps(polygons))[0] == [[0, 0], [15, 0], [15, 15], [0, 15]]
    mask = cv2.fillPoly(np.zeros((32, 32)), [np.int32(polygon) for polygon in polygons], 1)
    expected = np.ones((32, 32))
    expected[:16, 16:] = 0  # the second tile; squares that touch do not cancel each other
    np.testing.assert_array_equal(mask, expected)
    found = mosaics.queries(tiles, 5, np.random.default_rng(0))
    assert sorted(found) == [("BareLand", "a bareland at a port"), ("Port", "a bareland at a port")]
    assert mosaics.names("Two storage tanks.", "StorageTanks") and not mosaics.names("a parking lot", "Park")


def test_no_data_stays_no_data_in_maps(loaded, model, pixels, tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio")
    values = np.maximum(pixels, 1).transpose(2, 0, 1).copy()
    values[:, :, 96:] = 0
    values[:, 10, 10] = 0
    path = tmp_path / "scene.tif"
    transform = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)
    write_tiff(path, values, dtype="uint8", nodata=0, crs="EPSG:32632", transform=transform)
    for options in (["--steps=32"], ["--heatmap=patches", "--heatmap-size=48"]):
        out = tmp_path / options[0][2:5]
        main(["--checkpoint=loaded", f"--image={path}", "--text=a harbour", *options, f"--out={out}"])
        with rasterio.open(out / "scene-a-harbour-map.tif") as file:
            assert file.nodata == 0
            np.testing.assert_array_equal(file.dataset_mask() > 0, (values > 0).any(axis=0))
            grey = file.read(1)
        np.testing.assert_array_equal(grey, np.asarray(Image.open(out / "scene-a-harbour-map.png")))
        overlaid = np.asarray(Image.open(out / "scene-a-harbour-overlay.png"))
        assert not overlaid[:, 96:].any() and overlaid[:, :96].any()
        if options == ["--steps=32"]:
            best = [line.split("columns ")[1] for line in capsys.readouterr().out.splitlines() if "rows" in line]
            assert len(best) == 3 and all(int(columns.split("–")[0]) < 96 for columns in best)
    # The scores of windows without data are those of the worst of the others: they do not stretch the map.
    windows = selo.windows(96, 160, (32,))
    scores = model.images([pixels_of(values, window) for window in windows]) @ model.texts(["a harbour"])[0]
    empty = windows[:, 2] >= 96
    scores[empty] = scores[~empty].min()
    expected = np.maximum(selo.localisation_map(scores, windows, 96, 160), 1)
    with rasterio.open(tmp_path / "ste" / "scene-a-harbour-map.tif") as file:
        found = file.read(1)
    np.testing.assert_allclose(found[found > 0].astype(int), expected[found > 0], atol=1)


def pixels_of(values, window):
    r0, r1, c0, c1 = window
    return np.ascontiguousarray(values[:, r0:r1, c0:c1].transpose(1, 2, 0))


@pytest.mark.parametrize("options", [["--steps=32"], ["--heatmap=patches", "--heatmap-size=48"]])
def test_a_scene_without_any_data_is_refused(loaded, tmp_path, options):
    path = write_tiff(tmp_path / "scene.tif", np.zeros((3, 64, 64), np.uint8), dtype="uint8", nodata=0)
    with pytest.raises(InputError, match="scene.tif: no data in"):
        main(["--checkpoint=loaded", f"--image={path}", "--text=a harbour", *options, f"--out={tmp_path / 'out'}"])


def test_a_map_of_a_scene_with_control_points_has_them_too(loaded, pixels, tmp_path, monkeypatch, capsys):
    rasterio = pytest.importorskip("rasterio")
    point = rasterio.control.GroundControlPoint
    points = [point(row, col, 10 + col / 2 + row / 9, 50 - row / 4) for row in (0, 48, 96) for col in (0, 160)]
    path = tmp_path / "scene.tif"
    write_tiff(path, pixels.transpose(2, 0, 1), dtype="uint8", gcps=points, crs="EPSG:4326")
    monkeypatch.setattr(finding, "MAP_PIXELS", 48 * 80)
    main(["--checkpoint=loaded", f"--image={path}", "--text=a harbour", "--steps=32", f"--out={tmp_path}"])
    assert "note: " in (said := capsys.readouterr().out) and "6 control points" in said
    with rasterio.open(tmp_path / "scene-a-harbour-map.tif") as file:
        found, crs = file.gcps
    assert crs.to_epsg() == 4326
    assert [(p.row * 2, p.col * 2, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]
