"""Large images embedded tile by tile, and a note where they are cropped instead."""

import numpy as np
import pytest
from PIL import Image
from tiny_clip import clip_folder

import lrsclip_jax
from eval.embeddings import open_set
from lrsclip_jax.embed.__main__ import main


@pytest.fixture
def scenes(tmp_path):
    """Two scenes whose middles are the same, and a small one."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (2, 64, 192, 3), np.uint8)
    wide[1, :, 64:128] = wide[0, :, 64:128]
    (tmp_path / "scenes").mkdir()
    for name, pixels in zip(("a", "b", "small"), (*wide, wide[0, :32, :32]), strict=True):
        Image.fromarray(pixels).save(tmp_path / "scenes" / f"{name}.png")
    clip_folder(tmp_path / "tiny")
    return tmp_path / "scenes"


def embed(scenes, *options):
    out = scenes.parent / f"set{len(options)}"
    main([str(scenes), f"--checkpoint={scenes.parent}/tiny", f"--out={out}", *options])
    return open_set(out)


def test_a_crop_that_leaves_out_more_than_a_fifth_is_told(scenes, capsys):
    found = embed(scenes)
    assert found.images[0] @ found.images[1] > 0.9999  # the model has seen the middle alone
    said = capsys.readouterr().out
    assert "note: 2 of 3 images were cropped to their central square" in said and "--tile=32" in said


@pytest.mark.slow
def test_tiles_show_what_a_crop_leaves_out(scenes, capsys):
    found = embed(scenes, "--tile=64", "--overlap=0")
    assert "cropped" not in capsys.readouterr().out
    assert [row["id"] for row in found.image_rows] == [
        *(f"{name}.png#L0/r0,c{column}" for name in "ab" for column in (0, 64, 128)),
        "small.png",
    ]
    assert found.image_rows[1]["window"] == [0, 64, 64, 128] and found.image_rows[1]["scene"] == "a.png"
    cosines = (found.images[:3] * found.images[3:6]).sum(axis=1)
    assert cosines[1] > 0.9999 and (cosines[[0, 2]] < 0.99).all()
    crop = Image.open(scenes / "a.png").crop((128, 0, 192, 64))
    model = lrsclip_jax.load(scenes.parent / "tiny")
    np.testing.assert_allclose(found.images[2:3], model.images([crop]), atol=2e-6)
    assert found.meta["scenes"]["a.png"] | {"file": ""} == {"height": 64, "width": 192, "file": ""}


@pytest.mark.slow
def test_texts_of_images_that_are_cut_are_left_out_with_a_note(scenes, capsys):
    rows = "filename,title\n" + "".join(f"scenes/{name}.png,a field of {name}\n" for name in ("a", "small"))
    (scenes.parent / "list.csv").write_text(rows)
    out = scenes.parent / "of_list"
    words = [f"--checkpoint={scenes.parent}/tiny", f"--out={out}", "--tile=64"]
    main([str(scenes.parent / "list.csv"), *words])
    assert [row["text"] for row in open_set(out).text_rows] == ["a field of small"]
    assert "note: 1 texts are of whole images that are cut into tiles" in capsys.readouterr().out
