"""Maps that are scaled by the text's background: against plain formulas, and whether what is absent stays dark."""

import json

import numpy as np
import pytest
import tiny_clip
from PIL import Image

import lrsclip_jax
from eval import selo
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.localise import finding
from lrsclip_jax.localise.__main__ import main
from lrsclip_jax.localise.background import ABSENT, Moments, deviation
from lrsclip_jax.localise.heatmap import NEUTRAL, heat, patch_encoder, text_directions

D = 48


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


class Colours:
    """Stands for a model: an image's row holds what its mean colour is of, a text's what the text names."""

    batch_size, preprocessing = 8, CLIP_PREPROCESSING

    def __init__(self):
        rng = np.random.default_rng(5)
        self.ground, self.speech, self.red, self.blue, *self.others = rng.normal(size=(30, D))

    def images(self, crops):
        crops = [np.asarray(crop, np.float64) for crop in crops]
        red = np.array([(crop[..., 0] > 200).mean() for crop in crops])
        grain = np.stack([np.random.default_rng(int(crop.sum())).normal(size=D) for crop in crops])
        return unit(2 * self.ground + 3 * red[:, None] * self.red + 0.3 * grain)

    def texts(self, texts):
        def of(text):
            named = {"red": self.red, "blue": self.blue}.get(text, 0)
            named = self.others[ABSENT.index(text)] if text in ABSENT else named
            return 2 * self.speech + named + 0.2 * np.random.default_rng(len(text)).normal(size=D)

        return unit(np.stack([of(text) for text in texts]))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Gravel, 128×192 pixels, with a red square in rows 32 to 63, columns 96 to 127."""
    pixels = np.random.default_rng(0).integers(60, 120, (128, 192, 3), np.uint8)
    pixels[32:64, 96:128] = (240, 20, 20)
    path = tmp_path_factory.mktemp("scene") / "gravel.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "clip"
    tiny_clip.clip_folder(folder)
    return lrsclip_jax.load(folder, batch_size=8)


def run(scene, out, *options):
    main([str(scene), "--checkpoint=loaded", "--text=red", "--text=blue", f"--out={out}", *options])
    maps = {text: np.asarray(Image.open(out / f"gravel-{text}-map.png")) for text in ("red", "blue")}
    told = {text: json.loads((out / f"gravel-{text}-found.json").read_text()) for text in ("red", "blue")}
    return maps, told


def test_what_is_absent_stays_dark_and_what_is_there_does_not(scene, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lrsclip_jax, "load", lambda source, batch_size, layout: Colours())
    for module in ("lrsclip_jax.localise.score_maps", "eval.selo.maps"):
        monkeypatch.setattr(f"{module}.MEDIAN", 9)  # 251 pixels would be all of this scene
    maps, _ = run(scene, tmp_path / "extremes", "--steps=32")
    assert maps["blue"].max() > 250  # by its own extremes, the absent thing is as bright as the present one
    capsys.readouterr()
    maps, told = run(scene, tmp_path / "background", "--steps=32", "--scale=background")
    assert maps["blue"].max() == 0 and maps["red"][36:60, 100:124].min() > 100
    outside = maps["red"].copy()
    outside[16:80, 80:144] = 0
    assert outside.max() == 0
    assert told["red"]["windows"][0]["window"] == [32, 64, 96, 128]
    assert told["red"]["windows"][0]["z"] > 2 * told["red"]["absent_z"] > 0
    said = capsys.readouterr().out
    assert f"found: the best z is {told['red']['windows'][0]['z']:.1f}" in said
    assert f"maybe nothing: the best z is {told['blue']['windows'][0]['z']:.1f}" in said


def plain(contrasts, texts):
    """Returns z, [N, texts], and σ, of contrasts [N, D], in float64."""
    contrasts = contrasts.astype(np.float64)
    centred = contrasts - contrasts.mean(axis=0)
    sigma = np.sqrt((centred[:, texts:] ** 2).mean())
    return centred[:, :texts] / sigma, sigma


def test_z_of_windows_is_the_plain_formula(scene, model):
    opened = finding_scene(scene)
    windows = selo.windows(128, 192, (32, 64))
    rows = model.images([opened.read(window) for window in windows]).astype(np.float64)
    texts = model.texts(["red", "blue", *ABSENT]) - model.texts(NEUTRAL).mean(axis=0)
    z, _ = plain(rows @ texts.T, 2)
    found = list(finding.by_windows(model, opened, ["red", "blue"], windows, background=True))
    for number, one in enumerate(found):
        order = np.argsort(-z[:, number])[:3]
        assert [box for box, _ in one.best] == [tuple(windows[row]) for row in order]
        np.testing.assert_allclose(one.z, z[order, number], rtol=2e-4, atol=2e-4)
        text = model.texts([["red", "blue"][number]])[0]
        np.testing.assert_allclose([cosine for _, cosine in one.best], rows[order] @ text, atol=1e-5)


def finding_scene(path):
    from lrsclip_jax.data.rasters import open_scene

    return open_scene(path)


def test_a_heat_map_is_z_of_patches(scene, model):
    opened = finding_scene(scene)
    windows = selo.windows(128, 192, (128,))
    patches = patch_encoder(model, 48)([opened.read(window) for window in windows])
    heats = heat(patches, text_directions(model, ["red", *ABSENT]))
    flat = np.moveaxis(heats, 1, -1).reshape(-1, 1 + len(ABSENT))
    _, sigma = plain(flat, 1)
    (found,) = finding.by_patches(model, opened, ["red"], windows, 48, background=True)
    (usual,) = finding.by_patches(model, opened, ["red"], windows, 48)
    assert found.peak == usual.peak
    assert found.level.deviation == pytest.approx(sigma, rel=1e-4)
    assert found.level.mean == pytest.approx(flat[:, 0].mean(dtype=np.float64), abs=1e-6)
    reached = ((flat.max(axis=0) - flat.mean(axis=0))[1:] / sigma).max()
    assert found.level.absent == pytest.approx(reached, rel=1e-3)
    z = found.level.z(np.array([found.level.mean, found.level.mean + sigma]))
    np.testing.assert_allclose(z, [0, 1], atol=1e-3)


def test_moments_of_parts_are_those_of_the_whole():
    contrasts = np.random.default_rng(1).normal(size=(500, 7)) * np.arange(1, 8) + 3
    moments = Moments(7, 2)
    for part in np.split(contrasts, [10, 10, 300]):
        moments.add(part)
    sigma = deviation(contrasts[:, 2:].T)
    for text in range(2):
        level = moments.level(text)
        assert level.mean == pytest.approx(contrasts[:, text].mean())
        assert level.deviation == pytest.approx(sigma)
        peaks = (contrasts.max(axis=0) - contrasts.mean(axis=0))[2:] / sigma
        assert level.absent == pytest.approx(peaks.max())
        shades = level.grey(level.mean + sigma * level.absent * np.array([-5, 0.99, 1.5, 2, 9]))
        assert shades.tolist() == [0, 0, 127, 255, 255] or shades.tolist() == [0, 0, 127, 254, 255]


def test_a_scene_of_one_window_is_dark(model, tmp_path):
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "one.png")
    opened = finding_scene(tmp_path / "one.png")
    (found,) = finding.by_windows(model, opened, ["red"], selo.windows(32, 32, (32,)), background=True)
    assert not found.map.any() and found.z == [0.0]
