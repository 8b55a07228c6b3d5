"""The commands and snippets of the documents run, as they are written, on small data."""

import json
import shutil

import numpy as np
import pytest
import snippets
import tiny_clip
from joblib.externals.loky import get_reusable_executor
from PIL import Image

from eval.facts import classes

pytestmark = pytest.mark.slow
SOME = ("harbour", "forest")


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(seed).integers(256, size=(6, 6, 3), dtype=np.uint8)
    Image.fromarray(rows.repeat(8, axis=0).repeat(8, axis=1)).save(path)


def geotiff(path, seed, side=160):
    rasterio = pytest.importorskip("rasterio", reason="the extra [search]")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(seed).integers(256, size=(3, side // 8, side // 8), dtype=np.uint8)
    transform = rasterio.transform.from_origin(11.0 + seed / 100, 48.0, 1e-4, 1e-4)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", crs="EPSG:4326", transform=transform
    ) as file:
        file.write(rows.repeat(8, axis=1).repeat(8, axis=2))


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    """A folder with what the documents name: captions, images, a model, an archive, boxes, data sets."""
    root = tmp_path_factory.mktemp("materials")
    rows = []
    for number in range(24):
        name = f"{SOME[number % 2]}/{number // 2 + 1}.png"
        picture(root / "images" / name, number)
        split = "test" if number >= 16 else "train"
        long = f"The image shows a {SOME[number % 2]}. There are {number} things in the upper left."
        rows.append({"image": name, "long": long, "short": [f"A {SOME[number % 2]}, number {number}."], "split": split})
    (root / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    karpathy = []
    for number in range(4):
        picture(root / "images" / f"{number}.png", 100 + number)
        sentences = [{"raw": f"scene {number} of kind {kind} .", "sentid": 2 * number + kind} for kind in range(2)]
        karpathy.append({"filename": f"{number}.png", "split": "test", "sentences": sentences})
    (root / "dataset_rsitmd.json").write_text(json.dumps({"images": karpathy, "dataset": "x"}))
    for number, folder in enumerate(classes.dataset("whu-rs19").classes):
        for image in range(6):
            picture(root / "WHU-RS19" / folder / f"{image}.png", 200 + 6 * number + image)

    tiny_clip.clip_folder(root / "clip")
    (root / "runs").mkdir()
    for run in ("b16", "mine", "quickstart"):  # the README trains runs/mine itself
        (root / "runs" / run).symlink_to(root / "clip")
    for number in range(2):
        geotiff(root / "archive" / f"scene_{number}.tif", number)
    geotiff(root / "scene.tif", 7)
    picture(root / "example.png", 300)

    picture(root / "boxed.png", 400)
    boxes = ["image_path,xmin,ymin,xmax,ymax,label"]
    boxes += [f"boxed.png,{x},{y},{x + 8},{y + 8},tree" for x in (2, 20, 36) for y in (2, 20, 36)]
    (root / "boxes.csv").write_text("\n".join(boxes) + "\n")
    return root


# Pages, and of how many blocks something runs at least.
PAGES = {
    "README.md": 8,
    "docs/tutorials/first_model.md": 1,
    "docs/tutorials/own_captions.md": 3,
    "docs/tutorials/evaluate_published.md": 4,
    "docs/tutorials/search_archive.md": 5,
    "docs/tutorials/build_corpus.md": 2,
    "docs/howto.md": 4,
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, materials, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path in materials.iterdir():
        if path.name == "runs":
            shutil.copytree(path, tmp_path / "runs", symlinks=True)
        else:
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    if page == "README.md":
        (tmp_path / "runs/mine").unlink()
    get_reusable_executor().shutdown()  # processes of another page, which work in its folder
    if page == "docs/howto.md":  # it begins where another tutorial has ended
        assert not snippets.cli.main(["prepare", "captions.jsonl", "--image-root=images", "--out=prepared"])
    assert snippets.run(snippets.ROOT / page) >= PAGES[page]


def test_all_other_pages_are_parsed_only():
    """A page that holds a block to run is in the list above."""
    for path in snippets.PAGES:
        name = str(path.relative_to(snippets.ROOT))
        runnable = [
            block
            for block in snippets.blocks(path)
            if block.language in ("bash", "python")
            and not block.needs
            and (block.language == "python" or any(words[0] == "lrsclip" for words in block.commands))
        ]
        assert name in PAGES or not runnable, f"{name}:{runnable[0].line}"
