"""The second version from an embedding set: the map of its rows, and a line for what is missing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.selo import selo_metrics, windows
from eval.selo.__main__ import main
from eval.selo.of_set import query_map, selo_of_set
from eval.selo.v2 import anchor_windows, coarse_windows, second_map, shuffled

SCENES = {"a.png": (600, 1300), "b.png": (1100, 1200)}
SQUARE = [[200, 100], [420, 100], [420, 330], [200, 330]]
QUERIES = [
    {"text": "a long grey pier", "kind": "query", "scene": "a.png", "points": [SQUARE]},
    {"text": "two boats", "kind": "query", "scene": "b.png", "points": [SQUARE]},
    {"text": "a long grey pier", "kind": "query", "scene": "b.png", "points": [SQUARE]},
]


def rows_of(scene, size):
    first = [tuple(map(int, window)) for window in windows(*size, (256, 512))]
    coarse = coarse_windows(*size)
    more = [*map(tuple, coarse.tolist()), *map(tuple, anchor_windows(coarse, *size).tolist())]
    known = [{"id": f"{scene}{window}", "scene": scene, "window": list(window)} for window in first]
    second = [window for window in dict.fromkeys(more) if window not in first]
    return known + [{"id": f"{scene}{w}", "scene": scene, "window": list(w), "look": 2} for w in second]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rng = np.random.default_rng(3)
    image_rows = [row for scene, size in SCENES.items() for row in rows_of(scene, size)]
    rng.shuffle(image_rows)
    asked = dict.fromkeys((query["text"], query["scene"]) for query in QUERIES)
    orders = [
        {"text": text, "kind": "shuffled", "query": query, "scene": scene}
        for query, scene in asked
        for text in shuffled(query, seed=0)
    ]
    images, texts = rng.normal(size=(len(image_rows), 12)), rng.normal(size=(len(QUERIES) + len(orders), 12))
    sizes = {name: {"height": height, "width": width} for name, (height, width) in SCENES.items()}
    meta = {"model": "m", "dataset": "two", "features": "projected", "scenes": sizes, "crops": "reference"}
    path = tmp_path_factory.mktemp("sets") / "s"
    return open_set(write_set(path, meta, images, texts, image_rows, [*QUERIES, *orders]))


def plain_map(made, row):
    """The map by float64 cosines, the query being the mean of the unit rows of a text and of its four orders."""
    query = made.text_rows[row]
    own = [
        number
        for number, text in enumerate(made.text_rows)
        if text["scene"] == query["scene"] and query["text"] in (text.get("query"), text["text"])
    ]
    assert len(own) == 5
    mean = np.asarray(made.texts[own], np.float64).mean(axis=0)
    of_window = {
        tuple(image["window"]): np.asarray(made.images[number], np.float64) @ mean
        for number, image in enumerate(made.image_rows)
        if image["scene"] == query["scene"]
    }
    return second_map(lambda asked: np.array([of_window[tuple(w)] for w in asked.tolist()]), *SCENES[query["scene"]])


def test_maps_and_metrics_are_those_of_the_rows(made):
    found = selo_of_set(made, version="v2")
    assert [query["text"] for query in found["queries"]] == [query["text"] for query in QUERIES]
    for row, query in enumerate(found["queries"]):
        map = query_map(made, row, version="v2")
        assert np.abs(map.astype(int) - plain_map(made, row)).max() <= 1  # scores are rounded to 1e-7
        assert selo_metrics(map, [SQUARE]).items() <= query.items()
    assert found["R_mi"] == pytest.approx(np.mean([query["R_mi"] for query in found["queries"]]))
    assert (found["version"], found["crops"], found["sides"], found["scenes"]) == ("v2", "reference", None, 2)


def test_the_first_version_leaves_the_windows_of_the_second_look_out(made, tmp_path):
    first = [row for row, image in enumerate(made.image_rows) if "look" not in image]
    texts = [row for row, text in enumerate(made.text_rows) if text["kind"] == "query"]
    rows = ([side[row] for row in chosen] for side, chosen in ((made.image_rows, first), (made.text_rows, texts)))
    alone = open_set(write_set(tmp_path / "s", made.meta, made.images[first], made.texts[texts], *rows))
    found, expected = selo_of_set(made), selo_of_set(alone)
    assert found == expected and found["sides"] == [256, 512] and found["version"] == "v1"


def test_what_a_second_look_lacks_is_named(made, tmp_path, capsys):
    keep = [row for row, image in enumerate(made.image_rows) if "look" not in image]
    image_rows = [made.image_rows[row] for row in keep]
    path = write_set(tmp_path / "a", made.meta, made.images[keep], made.texts, image_rows, made.text_rows)
    with pytest.raises(
        InputError, match=r"scene '.\.png' has no window \[.*\], which a second look asks for: embed with"
    ):
        selo_of_set(open_set(path), version="v2")
    path = write_set(tmp_path / "b", made.meta, made.images, made.texts[:3], made.image_rows, made.text_rows[:3])
    with pytest.raises(InputError, match="no text shuffles the query 'a long grey pier'"):
        selo_of_set(open_set(path), version="v2")


def test_the_command_takes_the_version(made, tmp_path, capsys):
    main([str(made.path), "--version=v2", f"--out={tmp_path / 'out'}"])
    assert "mean of 3 queries" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "selo.json").read_text())
    assert written["version"] == "v2" and written["R_mi"] == selo_of_set(made, version="v2")["R_mi"]
    with pytest.raises(InputError, match="--steps are of the first version"):
        main([str(made.path), "--version=v2", "--steps=256"])
