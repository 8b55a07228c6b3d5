"""`lrsclip evaluate --leaks`: whole and cleaned rows next to each other in results, table and page."""

import csv
import json

import numpy as np
import pytest
from documents import EVIL, Document

from eval.cleaned import cleaned_retrieval
from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.leaks import Leaks, NearPair, TrainingSource, write_leaks
from eval.papers.measured import measured
from eval.papers.published_tables import tables
from eval.suite.__main__ import main
from eval.suite.tasks import captions, evaluated_part
from eval.zeroshot import zeroshot_of_set

IDS = [f"{row}.jpg" for row in range(30)]
TESTED = IDS[1::3]
NEAR = TESTED[:3]


def leaks(near=NEAR, images=TESTED, dataset="RSITMD"):
    pairs = [NearPair(name, f"train/{EVIL}", "corpus", max(0, 8 - number)) for number, name in enumerate(near)]
    return Leaks(dataset, "test", "rsitmd.json:test", 8, [TrainingSource("corpus", 400)], list(images), pairs)


@pytest.fixture
def place(tmp_path):
    """A set of 30 images in three splits with a short text each and texts of classes, and leaks of its test images."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(30, 6))
    rows = [
        {"id": name, "label": "ab"[row % 2], "split": ("train", "test", "val")[row % 3]} for row, name in enumerate(IDS)
    ]
    texts = [{"text": f"text {row}", "kind": "short", "image": name} for row, name in enumerate(IDS)]
    texts += [{"text": label, "kind": "class", "label": label} for label in "ab"]
    vectors = np.concatenate([images + rng.normal(size=(30, 6)), rng.normal(size=(2, 6))])
    meta = {"model": "ours", "dataset": "RSITMD", "features": "projected"}
    write_set(tmp_path / "set", meta, images, vectors, rows, texts)
    write_leaks(tmp_path / "leaks" / "RSITMD@test.json", leaks())
    return tmp_path


def run(place, *more):
    return main([str(place / "set"), f"--out={place / 'out'}", "--processes=1", "--only=retrieval,zeroshot", *more])


def result(place, task="retrieval_short"):
    return json.loads((place / "out" / "results" / "ours" / "RSITMD" / f"{task}.json").read_text())


def test_both_rows_stand_in_results_table_and_page(place, capsys):
    assert run(place, f"--leaks={place / 'leaks'}") == 0
    part = evaluated_part(open_set(place / "set"))
    near = np.array([image["id"] in NEAR for image in part.image_rows])
    _, texts, image_of_text = captions(part, "short")
    found = result(place)
    cleaned = found["cleaned"]
    assert cleaned_retrieval(part.images, texts, image_of_text, near).items() <= cleaned.items()
    assert (found["images"], cleaned["images"], cleaned["left_out"], cleaned["distance"]) == (10, 7, 3, 8)
    assert [pair["id"] for pair in cleaned["near"]] == NEAR[::-1]  # the nearest first
    accuracy = result(place, "zeroshot")["cleaned"]["accuracy"]
    assert accuracy == zeroshot_of_set(part, near=near)["cleaned"]["accuracy"]

    table = list(csv.DictReader((place / "out" / "results.csv").open()))
    values = {(row["task"], row["metric"]): float(row["value"]) for row in table}
    assert values["retrieval_short", "mean_recall"] == found["mean_recall"]
    assert values["retrieval_short", "cleaned/mean_recall"] == cleaned["mean_recall"]
    assert values["retrieval_short", "cleaned/random/mean_recall"] == cleaned["random"]["mean_recall"]
    assert values["zeroshot", "cleaned/images"] == 7 and values["zeroshot", "cleaned/accuracy"] == accuracy

    document = Document((place / "out" / "report.html").read_text())
    heads = document.text("th")
    first = heads.index("ours, cleaned: 7 images")
    assert heads[first - 1 : first + 2] == ["ours", "ours, cleaned: 7 images", "ours, 7 images at random"]
    assert {"chance, 10 texts of 10 images", "chance, 7 texts of 7 images", "RSITMD, test, cleaned"} <= set(heads)
    assert "Images near training images" in document.text("h2") and f"train/{EVIL}" in document.text("td")
    spread = f"{cleaned['random']['mean_recall_std']:.2f}"
    assert any("the mean of 10 draws" in said and spread in said for said in document.text("p"))
    said = capsys.readouterr().out
    assert "RSITMD, test, cleaned  ours" in said and f"{cleaned['mean_recall']:.2f}" in said


def test_tables_of_the_papers_have_a_cleaned_row_with_its_counts(place):
    assert run(place, f"--leaks={place / 'leaks'}") == 0
    (table,) = (table for table in tables() if (table.paper, table.label) == ("LRSCLIP", "III"))
    rows = measured([result(place)], table)
    assert list(rows) == ["ours", "ours, cleaned"]
    whole, cleaned = (rows[name].values["rsitmd", "mean_recall"] for name in rows)
    assert (whole.value, cleaned.value) == (result(place)["mean_recall"], result(place)["cleaned"]["mean_recall"])
    assert "7 texts of 7 images of split test" in cleaned.departures[0]


def test_only_other_leaks_are_measured_again(place, capsys):
    given = f"--leaks={place / 'leaks' / 'RSITMD@test.json'}"
    assert run(place, given) == run(place, given) == 0
    assert "2 results, 2 of them from before" in capsys.readouterr().out
    write_leaks(place / "leaks" / "RSITMD@test.json", leaks(NEAR[:2]))
    assert run(place, given) == 0 and result(place)["cleaned"]["left_out"] == 2
    first = result(place)["cleaned"]["random"]
    assert run(place, given, "--seed=1") == 0 and result(place)["cleaned"]["random"] != first
    assert run(place) == 0 and "cleaned" not in result(place)


def test_nothing_near_is_said(place, capsys):
    write_leaks(place / "leaks" / "RSITMD@test.json", leaks(near=()))
    assert run(place, f"--leaks={place / 'leaks'}") == 0
    assert capsys.readouterr().err == f"note: {place}/set: no image is near a training image, cleaned equals whole\n"
    assert result(place)["cleaned"]["left_out"] == 0 and "images" not in result(place)["cleaned"]
    document = Document((place / "out" / "report.html").read_text())
    assert "Images near training images" in document.text("h2")
    assert not any("cleaned:" in head for head in document.text("th"))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (leaks(TESTED), "set: no image is left, all 10 are near training images"),
        (leaks((), IDS[:3]), "set: {place}/leaks/RSITMD@test.json has not compared image '10.jpg' (9 of 10 images"),
        (leaks((), ["a", "b"], "UCM"), "RSITMD@test.json is of rsitmd.json:test: no set has its 2 images"),
    ],
    ids=["nothing left", "other images", "another set"],
)
def test_leaks_that_do_not_fit_are_one_line_and_the_whole_set_is_measured(place, capsys, found, message):
    write_leaks(place / "leaks" / "RSITMD@test.json", found)
    assert run(place, f"--leaks={place / 'leaks'}") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message.format(place=place) in errors[0]
    assert result(place)["images"] == 10 and "cleaned" not in result(place)


def test_a_torn_file_of_leaks_stops_before_anything_is_measured(place):
    file = place / "leaks" / "RSITMD@test.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(InputError, match="RSITMD@test.json: not JSON"):
        run(place, f"--leaks={file}")
    assert not (place / "out").exists()
