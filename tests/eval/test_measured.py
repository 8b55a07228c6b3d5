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
    assert ours["m"]["rsitmdl", "text_to_image/R@5"] == (20.0, "")
    assert ours["m"]["rsitmdl", "mean_recall"] == (20.0, "")
    assert measured([retrieval(name, "long")], short) == {}
    assert measured([retrieval(name, "short", texts=2260)], short)["m"]["rsitmd", "mean_recall"] == (20.0, "")
    assert measured([retrieval(name, "short")], long) == {}


@pytest.mark.parametrize(("paper", "label"), [("RSCLIP", "I"), ("RSCLIP", "III"), ("LRSCLIP", "III")])
def test_another_data_set_is_in_no_table(paper, label):
    others = [retrieval("aid-rsicd", "short"), zeroshot("my tiles", 50.0, 10), result("length", "rsitmd")]
    assert measured(others, table(paper, label)) == {}


def test_the_mean_of_accuracies_needs_all_of_them():
    zic = table("LRSCLIP", "IV")
    results = [zeroshot(name, 50.0 + number, images) for number, (name, images) in enumerate(SIX.items())]
    assert measured(results, zic)["m"]["meanofsix", "accuracy"] == (52.5, "")
    assert ("meanofsix", "accuracy") not in measured(results[:-1], zic)["m"]
    assert measured(results, table("LRSCLIP", "VI"))["m"].keys() >= {("meanofsix", "accuracy")}
    assert measured(results[:-1], table("LRSCLIP", "VI")) == {}


def test_the_papers_own_template_is_taken_out_of_an_ensemble():
    many = {"a satellite photo of {}": 61.0, "a satellite image of {}": 62.0, "an overhead view of {}": 63.0}
    ours = zeroshot("aid", 70.0, 10000, templates=many, per_template=many)
    assert measured([ours], table("RSCLIP", "II"))["m"]["aid", "accuracy"] == (62.0, "")
    other = measured([zeroshot("aid", 70.0, 10000, templates=["x {}", "y {}"])], table("RSCLIP", "II"))
    assert other["m"]["aid", "accuracy"] == (70.0, "aid: 2 templates, published with “a satellite image of {}”")


def test_another_test_set_is_said():
    ours = measured([zeroshot("whu-rs19", 80.0, 201, split="test")], table("LRSCLIP", "IV"))
    assert ours["m"]["whurs19", "accuracy"] == (80.0, "whu-rs19: 201 images of split test, published 1,005")
    ours = measured([retrieval("rsitmd", "short", 500, 100, split="val")], table("LRSCLIP", "III"))
    departure = "rsitmd: 500 texts of 100 images of split val, published 2,260 of 452"
    assert ours["m"]["rsitmd", "mean_recall"] == (20.0, departure)


def test_of_two_results_the_one_that_keeps_to_the_protocol_is_taken():
    part, whole = zeroshot("whu-rs19", 80.0, 201, split="test"), zeroshot("whu-rs19", 70.0, 1005)
    for results in ([part, whole], [whole, part]):
        assert measured(results, table("LRSCLIP", "IV"))["m"]["whurs19", "accuracy"] == (70.0, "")


def test_probes_stand_by_shots_and_kinds_and_features_in_rows_of_their_own():
    few = {"1": {"mean": 40.0, "std": 1.0}, "32": {"mean": 90.0, "std": 1.0}}
    results = [
        result("few_shot", "AID", shots=few),
        result("knn", "AID", accuracy=91.0, accuracy_weighted=92.0),
        result("linear_probe", "AID", accuracy=93.0, features="encoder"),
    ]
    assert measured(results, table("RSCLIP", "V")) == {
        "m": {("aid", "1/accuracy"): (40.0, ""), ("aid", "32/accuracy"): (90.0, "")}
    }
    assert measured(results, table("RSCLIP", "VI")) == {
        "m": {("aid", "knn/accuracy"): (91.0, "")},
        "m, encoder features": {("aid", "linear/accuracy"): (93.0, "")},
    }


def test_localisation_stands_in_every_table_that_has_it():
    ours = result("selo", "air-slt", R_su=0.7, R_as=0.3, R_da=0.6, R_mi=0.675)
    assert measured([ours], table("LRSCLIP", "V"))["m"]["airslt", "R_as"] == (0.3, "")
    assert measured([ours], table("RSCLIP", "II"))["m"]["airslt", "R_mi"] == (0.675, "")
    assert measured([ours], table("LRSCLIP", "IX"))["m"] == {("airslt", "R_mi"): (0.675, "")}


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
