"""Semantic localisation from an embedding set, and the command that prints it."""

from __future__ import annotations

import json
from shutil import copytree

import numpy as np
import pytest
from PIL import Image

from eval.embeddings import open_set, write_lines, write_set
from eval.errors import InputError, cli
from eval.selo import localisation_map, selo_metrics, windows
from eval.selo.__main__ import main
from eval.selo.of_set import METRICS, query_map, selo_of_set

SCENES = {"lake.png": {"height": 400, "width": 460, "file": "lake.png"}, "port.png": {"height": 300, "width": 320}}
STEPS = (64, 128, 256)


def square(x, y, half=60):
    return [[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]]


QUERIES = [
    {"text": "a pier\n", "kind": "query", "scene": "port.png", "points": [square(160, 150)]},
    {"text": "water", "kind": "query", "scene": "lake.png", "points": [square(110, 120), square(330, 280)]},
    {"text": "a boat", "kind": "query", "scene": "port.png", "points": [square(90, 200)]},
]


def write(path, change=lambda rows: None, **meta):
    """A set of random windows of two scenes, their rows shuffled, and a caption among the queries."""
    rng = np.random.default_rng(0)
    image_rows = [
        {"id": f"{name}/{number}", "scene": name, "window": window}
        for name, scene in SCENES.items()
        for number, window in enumerate(windows(scene["height"], scene["width"], STEPS).tolist())
    ]
    rng.shuffle(image_rows)
    text_rows = [*QUERIES[:1], {"text": "a caption", "kind": "short"}, *QUERIES[1:]]
    rows = json.loads(json.dumps({"images": image_rows, "texts": text_rows}))
    change(rows)
    images, texts = (rng.normal(size=(len(rows[side]), 16)) for side in ("images", "texts"))
    about = {"model": "random", "dataset": "two", "features": "projected", "scenes": SCENES, **meta}
    return write_set(path, about, images, texts, rows["images"], rows["texts"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("sets") / "random")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (400, 460, 3), np.uint8)).save(path / "lake.png")
    return path


@pytest.fixture(scope="module")
def found(made):
    return selo_of_set(open_set(made))


def test_every_query_in_order_with_the_metrics_of_its_own_map(made, found):
    embeddings = open_set(made)
    assert [query["row"] for query in found["queries"]] == [0, 2, 3]
    for query, told in zip(found["queries"], QUERIES, strict=True):
        assert (query["text"], query["scene"]) == (told["text"], told["scene"])
        size = SCENES[told["scene"]]["height"], SCENES[told["scene"]]["width"]
        of_scene = [row for row, image in enumerate(embeddings.image_rows) if image["scene"] == told["scene"]]
        boxes = [embeddings.image_rows[row]["window"] for row in of_scene]
        rows = embeddings.images[of_scene].astype(np.float64)
        scores = np.rint(rows @ embeddings.texts[query["row"]].astype(np.float64) * 1e7)
        map = localisation_map(scores, boxes, *size)
        np.testing.assert_array_equal(query_map(embeddings, query["row"]), map)
        metrics = selo_metrics(map, told["points"])
        assert {name: query[name] for name in metrics} == metrics


def test_means_and_counts(found):
    for name in METRICS:
        assert found[name] == pytest.approx(np.mean([query[name] for query in found["queries"]]), abs=1e-12)
    assert found["scenes"] == 2
    assert found["windows"] == sum(len(windows(s["height"], s["width"], STEPS)) for s in SCENES.values())


def test_threads_and_the_order_of_windows_change_nothing(made, found, tmp_path):
    assert selo_of_set(open_set(made), threads=1) == found
    embeddings = open_set(made)
    order = np.random.default_rng(2).permutation(len(embeddings.images))
    other = copytree(made, tmp_path / "other")
    np.save(other / "images.npy", embeddings.images[order])
    write_lines(other / "images.jsonl", [embeddings.image_rows[row] for row in order])
    assert selo_of_set(open_set(other)) == found


def test_some_sizes_of_windows_alone(made, found):
    some = selo_of_set(open_set(made), steps=(64, 128))
    assert some["windows"] == sum(len(windows(s["height"], s["width"], (64, 128))) for s in SCENES.values())
    assert some["R_su"] != found["R_su"]
    with pytest.raises(InputError, match=r"no windows of 512 pixels of the scene 'port.png'"):
        selo_of_set(open_set(made), steps=(512,))


def drop_window(rows):
    rows["images"] = [row for row in rows["images"] if row["scene"] != "lake.png"]


def only_largest(rows):
    rows["images"] = [row for row in rows["images"] if row["window"][:3:2] == [0, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.update(texts=[rows["texts"][1]]), "no text of kind 'query' to localise"),
        (lambda rows: rows["texts"][2].pop("scene"), r"texts.jsonl, line 3: the query names no scene"),
        (lambda rows: rows["texts"][2].pop("points"), r"texts.jsonl, line 3: no polygon"),
        (lambda rows: rows["texts"][3].update(points=[[[1, 1], [9, 9]]]), r"line 4: polygon 0 has 2 points"),
        (lambda rows: rows["texts"][3].update(points=[square(900, 900)]), r"line 4: polygon 0 lies outside the scene"),
        (lambda rows: rows["texts"][3].update(scene="sea.png"), r"meta.json: 'scenes' has no height and width of 'sea"),
        (drop_window, r"images.jsonl: no windows of the scene 'lake.png', which a query is of"),
        (lambda rows: rows["images"].append(rows["images"][0] | {"id": "again"}), r"the scene '.*' has a window twice"),
        (
            lambda rows: rows["images"][4].update(window=[0, 64, 0]),
            r"line 5: window: expected a list of length 4",
        ),
        (lambda rows: rows["images"][4].update(window=[0, 64, 0, 640]), r"scene '.*': window \d+, .* is empty or not"),
        (only_largest, r"texts.jsonl, line \d: no window holds the pixel"),
    ],
)
def test_bad_sets(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        selo_of_set(open_set(write(tmp_path / "set", change)))


def test_rows_that_are_not_unit(tmp_path):
    path = write(tmp_path / "set")
    np.save(path / "images.npy", 2 * np.load(path / "images.npy"))
    with pytest.raises(InputError, match=r"row 0 of the windows of scene 'port.png' in .* has length 2 instead of 1"):
        selo_of_set(open_set(path))


def test_the_command_prints_and_writes(made, found, tmp_path, capsys):
    main([f"--set={made}", f"--out={tmp_path / 'out'}"])
    head, *queries, mean = capsys.readouterr().out.splitlines()
    assert head.split() == list(METRICS)
    assert queries[0].split() == [*(f"{found['queries'][0][name]:.4f}" for name in METRICS), "port.png:", "a", "pier"]
    assert mean.split() == [*(f"{found[name]:.4f}" for name in METRICS), "mean", "of", "3", "queries"]
    written = json.loads((tmp_path / "out" / "selo.json").read_text("utf-8"))
    assert written["task"] == "selo" and written["model"] == "random" and written["R_mi"] == found["R_mi"]
    assert written["queries"][1]["centres"] == [list(centre) for centre in found["queries"][1]["centres"]]
    # Only one scene's picture is there.
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["query_2.png", "selo.json"]
    with Image.open(tmp_path / "out" / "query_2.png") as picture:
        assert picture.mode == "RGB" and picture.size == (460, 400)
    with pytest.raises(InputError, match="selo.json is there already: choose another --out"):
        main([f"--set={made}", f"--out={tmp_path / 'out'}"])


def test_the_command_exits_with_status_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        cli(lambda: main([f"--set={tmp_path}"]))
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "no finished embedding set" in said


def test_help_tells_what_the_metrics_are(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert all(name in told for name in METRICS) and "sets/air-slt --out=selo" in told
