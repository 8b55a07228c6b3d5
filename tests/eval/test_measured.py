"""Our results at the papers' addresses: names in any spelling, the papers' protocols, departures from them."""

from __future__ import annotations

import json

import pytest

from eval.errors import InputError
from eval.papers.measured import measured, read_results
from eval.papers.published_tables import tables

RECALLS = {"R@1": 10.0, "R@5": 20.0, "R@10": 30.0}


def table(paper, label):
    (one,) = (table for table in tables(paper) if table.label == label)
    return one


def result(task, dataset, **rest):
    return {"task": task, "model": "m", "dataset": dataset, "split": None, "features": "projected", **rest}


def retrieval(dataset, kind, texts=452, images=452, **rest):
    counts = {"texts": texts, "image_queries": images, "images": images}
    ways = {"text_to_image": RECALLS, "image_to_text": RECALLS, "mean_recall": 20.0}
    return result("retrieval", dataset, kind=kind, **counts, **ways, **rest)


def zeroshot(dataset, accuracy, images, templates=("a satellite photo of {}",), **rest):
    return result("zeroshot", dataset, accuracy=accuracy, images=images, templates=list(templates), **rest)


SIX = {"RESISC45": 31500, "eurosat": 27000, "pattern_net": 30400, "whu-rs19": 1005, "OPTIMAL31": 1860, "rs c11": 1232}


@pytest.mark.parametrize("name", ["RSITMD-L", "rsitmd", "RSITMD"])
def test_long_texts_stand_in_the_table_of_long_texts(name):
    long, short = table("LRSCLIP", "II"), table("LRSCLIP", "III")
    ours = measured([retrieval(name, "long")], long)
    assert ours["m"].values["rsitmdl", "text_to_image/R@5"] == (20.0, ())
    assert ours["m"].values["rsitmdl", "mean_recall"] == (20.0, ())
    assert measured([retrieval(name, "long")], short) == {}
    assert measured([retrieval(name, "short", texts=2260)], short)["m"].values["rsitmd", "mean_recall"] == (20.0, ())
    assert measured([retrieval(name, "short")], long) == {}


def test_long_texts_of_photographs_stand_next_to_those_of_the_models_that_are_compared_there():
    results = [retrieval("Urban1k", "long", 1000, 1000), retrieval("DOCCI", "long", 100, 100)]
    values = measured(results, table("HiMo-CLIP", "I"))["m"].values
    assert values["urban1k", "text_to_image/R@1"] == (10.0, ())
    assert values["docci", "image_to_text/R@1"] == (
        10.0,
        ("DOCCI: 100 texts of 100 images, published 5,000 of 5,000",),
    )


@pytest.mark.parametrize(("paper", "label"), [("RSCLIP", "I"), ("RSCLIP", "III"), ("LRSCLIP", "III")])
def test_another_data_set_is_in_no_table(paper, label):
    others = [retrieval("aid-rsicd", "short"), zeroshot("my tiles", 50.0, 10), result("length", "rsitmd")]
    assert measured(others, table(paper, label)) == {}


def test_the_mean_of_accuracies_needs_all_of_them():
    zic = table("LRSCLIP", "IV")
    results = [zeroshot(name, 50.0 + number, images) for number, (name, images) in enumerate(SIX.items())]
    assert measured(results, zic)["m"].values["meanofsix", "accuracy"] == (52.5, ())
    assert ("meanofsix", "accuracy") not in measured(results[:-1], zic)["m"].values
    study = {"study": {"table": "lrsclip:VI", "heads": {"pcm": "True"}}}
    of_study = [{**each, **study} for each in results]
    assert measured(of_study, table("LRSCLIP", "VI"))["m, seed 0"].values.keys() >= {("meanofsix", "accuracy")}
    assert measured(of_study[:-1], table("LRSCLIP", "VI")) == {}


def test_the_papers_own_template_is_taken_out_of_an_ensemble():
    many = {"a satellite photo of {}": 61.0, "a satellite image of {}": 62.0, "an overhead view of {}": 63.0}
    ours = zeroshot("aid", 70.0, 10000, templates=many, per_template=many)
    assert measured([ours], table("RSCLIP", "II"))["m"].values["aid", "accuracy"] == (62.0, ())
    other = measured([zeroshot("aid", 70.0, 10000, templates=["x {}", "y {}"])], table("RSCLIP", "II"))
    said = ("aid: 2 templates, published with “a satellite image of {}”",)
    assert other["m"].values["aid", "accuracy"] == (70.0, said)


def test_another_test_set_is_said():
    ours = measured([zeroshot("whu-rs19", 80.0, 201, split="test", classes=["a"] * 18)], table("LRSCLIP", "IV"))
    said = ("whu-rs19: 201 images of split test, published 1,005; 18 classes, published 19",)
    assert ours["m"].values["whurs19", "accuracy"] == (80.0, said)
    ours = measured([retrieval("rsitmd", "short", 500, 100, split="val")], table("LRSCLIP", "III"))
    said = ("rsitmd: 500 texts of 100 images of split val, published 2,260 of 452",)
    assert ours["m"].values["rsitmd", "mean_recall"] == (20.0, said)
    more = {**retrieval("rsitmd", "short", 2260), "images": 500}
    assert measured([more], table("LRSCLIP", "III"))["m"].values["rsitmd", "mean_recall"].departures == (
        "rsitmd: 48 images without a text are among those to be found",
    )


def test_texts_without_their_last_stop_are_said_where_the_paper_does_not_take_it_off():
    stripped = retrieval("dataset_rsitmd", "short", 2260, stops="stripped")
    said = ("dataset_rsitmd: the texts' last full stop is taken off",)
    assert measured([stripped], table("LRSCLIP", "III"))["m"].values["rsitmd", "mean_recall"].departures == said
    assert measured([stripped], table("RSCLIP", "I"))["m"].values["rsitmd", "mean_recall"].departures == ()


@pytest.mark.parametrize(
    ("name", "key"), [("dataset_rsitmd", "rsitmd"), ("RSITMD-captions", "rsitmd"), ("rsicd_test", "rsicd")]
)
def test_published_names_of_files_reach_the_table(name, key):
    assert (key, "mean_recall") in measured([retrieval(name, "short")], table("LRSCLIP", "III"))["m"].values
    assert (f"{key}l", "mean_recall") in measured([retrieval(name, "long")], table("LRSCLIP", "II"))["m"].values


def test_what_the_suite_has_found_a_set_to_be_counts():
    ours = zeroshot("Images", 80.0, 2100, templates=["a satellite image of {}"], benchmark="UCM-CLS")
    assert measured([ours], table("RSCLIP", "IV"))["m"].values["ucmcls", "accuracy"] == (80.0, ())


def test_of_two_results_the_one_that_keeps_to_the_protocol_is_taken():
    part, whole = zeroshot("whu-rs19", 80.0, 201, split="test"), zeroshot("whu-rs19", 70.0, 1005)
    for results in ([part, whole], [whole, part]):
        assert measured(results, table("LRSCLIP", "IV"))["m"].values["whurs19", "accuracy"] == (70.0, ())


def test_probes_stand_by_shots_and_kinds_and_features_in_rows_of_their_own():
    few = {"1": {"mean": 40.0, "std": 1.0}, "32": {"mean": 90.0, "std": 1.0}}
    results = [
        result("few_shot", "AID", shots=few),
        result("knn", "AID", accuracy=91.0, accuracy_weighted=92.0),
        result("linear_probe", "AID", accuracy=93.0, features="encoder"),
    ]
    shots, others = (measured(results, table("RSCLIP", label)) for label in ("V", "VI"))
    assert {place: found.value for place, found in shots["m"].values.items()} == {
        ("aid", "1/accuracy"): 40.0,
        ("aid", "32/accuracy"): 90.0,
    }
    assert {name: {place: found.value for place, found in row.values.items()} for name, row in others.items()} == {
        "m": {("aid", "knn/accuracy"): 91.0},
        "m, encoder features": {("aid", "linear/accuracy"): 93.0},
    }


def test_probes_say_their_estimator_their_split_and_their_test_images():
    parts = {"rule": "80/20 of each class, seed 0", "train": 6400, "validation": 1600, "test": 2000}
    seeded = result("linear_probe", "AID", accuracy=93.0, estimator="logistic regression", parts=parts)
    (said,) = measured([seeded], table("RSCLIP", "VI"))["m"].values["aid", "linear/accuracy"].departures
    assert said.startswith("logistic regression; split: 80/20 of each class, seed 0; published by ITRA, but")
    fewer = {**seeded, "parts": {**parts, "test": 100}}
    said = measured([fewer], table("RSCLIP", "VI"))["m"].values["aid", "linear/accuracy"].departures
    assert said[0] == "AID: 100 test images, published 2,000" and len(said) == 2
    whu = result("few_shot", "WHU-RS19", shots={"1": {"mean": 1.0}}, draws=5, parts={**parts, "test": 206})
    (said,) = measured([whu], table("RSCLIP", "V"))["m"].values["whurs19", "1/accuracy"].departures
    assert said.startswith("split: 80/20")  # 1,030 images are five draws of 206


def test_probes_by_itra_keep_to_the_protocol_and_are_preferred():
    parts = {"rule": "80/20 of each class, by the order of ids", "test": 2000}
    seeded = result("knn", "AID", accuracy=91.0, accuracy_weighted=92.0, parts=parts)
    itra = {**seeded, "protocol": "itra", "accuracy": 81.0, "accuracy_weighted": 82.0}
    for results in ([seeded, itra], [itra, seeded]):
        assert measured(results, table("RSCLIP", "VI"))["m"].values["aid", "knn/accuracy"] == (82.0, ())


SELO = {"R_su": 0.7, "R_as": 0.3, "R_da": 0.6, "R_mi": 0.675}
AS_PUBLISHED = {"crops": "reference", "sides": [256, 512, 768], "queries": [{}] * 59, "scenes": 22, "version": "v1"}


def test_localisation_stands_in_every_table_that_has_it():
    ours = result("selo", "air-slt", **SELO, **AS_PUBLISHED)
    assert measured([ours], table("LRSCLIP", "V"))["m"].values["airslt", "R_as"] == (0.3, ())
    assert measured([ours], table("RSCLIP", "II"))["m"].values["airslt", "R_mi"] == (0.675, ())
    second = {**ours, "version": "v2", "sides": None, "R_mi": 0.7}
    both = measured([ours, second], table("LRSCLIP", "V"))
    assert {name: row.values["airslt", "R_mi"] for name, row in both.items()} == {
        "m": (0.675, ()),
        "m, SeLo v2": (0.7, ()),
    }


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"crops": "direct"}, "windows as they are, AIR-SLT's code makes JPEG files of 256×256 of them"),
        ({"crops": None}, "how windows were cut is not stated, AIR-SLT's code makes JPEG files of 256×256 of them"),
        ({"sides": [256, 512]}, "windows of 256 and 512 pixels, published 256, 512 and 768"),
        ({"queries": [{}] * 16, "scenes": 4}, "queries: 16, scenes: 4; published 59 and 22"),
    ],
)
def test_localisation_says_how_it_differs(other, said):
    ours = result("selo", "air-slt", **{**SELO, **AS_PUBLISHED, **other})
    assert measured([ours], table("LRSCLIP", "V"))["m"].values["airslt", "R_mi"].departures == (f"air-slt: {said}",)


def test_tables_of_ablations_hold_only_models_that_say_so():
    ours = retrieval("rsitmd", "long")
    study = {"table": "lrsclip:fig10", "heads": {"ratio": "9:1"}, "seed": 3}
    of_study = {**ours, "model": "omega", "study": study}
    assert measured([ours, of_study], table("LRSCLIP", "VI")) == {}
    found = measured([ours, of_study], table("LRSCLIP", "Fig. 10"))
    assert list(found) == ["omega, seed 3"] and found["omega, seed 3"].heads == {"ratio": "9:1"}
    assert set(measured([ours, of_study], table("LRSCLIP", "II"))) == {"m", "omega"}


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"table": "lrsclip:IV", "heads": {}}, "table is 'lrsclip:IV', a table of an ablation is expected"),
        ({"table": "lrsclip", "heads": {}}, "a table of an ablation is expected"),
        (
            {"table": "lrsclip:VII", "heads": {"method": "CLIP"}},
            "heads of lrsclip:VII are method, data, missing is 'data'",
        ),
        ({"table": "lrsclip:VI", "heads": {"pmc": "True"}}, "study: heads of lrsclip:VI are pcm"),
        ({"table": "lrsclip:XX", "heads": {}}, "no table is called 'lrsclip:XX'"),
        ({"table": "lrsclip:VI", "heads": {"pcm": True}}, "study: heads"),
        ("lrsclip:VI", "study: expected an object"),
    ],
)
def test_a_study_that_is_none_is_named(study, message):
    with pytest.raises(InputError, match=message):
        measured([{**retrieval("rsitmd", "long"), "study": study}], table("LRSCLIP", "VI"))


def test_a_damaged_result_is_named():
    with pytest.raises(InputError, match="result zeroshot of m on aid is damaged.*'accuracy'.*measure it again"):
        measured([result("zeroshot", "aid")], table("RSCLIP", "II"))


def test_results_are_found_below_a_folder_and_other_files_passed_over(tmp_path):
    (tmp_path / "m" / "aid").mkdir(parents=True)
    (tmp_path / "m" / "aid" / "knn.json").write_text(json.dumps(result("knn", "aid", accuracy=1.0)))
    (tmp_path / "meta.json").write_text('{"model": "m", "dataset": "aid"}')
    (tmp_path / "list.json").write_text("[1, 2]")
    assert read_results(tmp_path) == [result("knn", "aid", accuracy=1.0)]


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no results there"):
        read_results(tmp_path)
    (tmp_path / "torn.json").write_text('{"task": ')
    with pytest.raises(InputError, match=r"torn\.json: not JSON"):
        read_results(tmp_path)


def test_a_study_without_a_published_table_enters_none():
    own = {**result("zeroshot", "RESISC45", accuracy=50.0), "study": {"table": "own:kps", "heads": {"keep": "20"}}}
    assert measured([own], table("LRSCLIP", "VI")) == {}
