"""Names under which the papers' data sets are published: each means one data set, and says so."""

from __future__ import annotations

import json

import pytest

from eval.errors import InputError
from eval.facts import classes
from eval.facts.identify import identify
from eval.facts.names import FILE, meaning, says_nothing
from eval.papers.published_tables import key, tables

TABLE = json.loads(FILE.read_text())
KINDS = ("captions", "classes", "scenes")
AID = list(classes.dataset("aid").classes)
UCM = list(classes.dataset("ucm-cls").classes)


@pytest.mark.parametrize(
    ("name", "kind", "dataset"),
    [
        ("dataset_rsitmd", "captions", "RSITMD"),
        ("dataset_RSITMD", "captions", "RSITMD"),
        ("rsitmd_long", "captions", "RSITMD-L"),
        ("dataset_rsicd", "captions", "RSICD"),
        ("rsicd_test", "captions", "RSICD"),
        ("UCM_captions", "captions", "UCM"),
        ("Sydney_captions", "captions", "Sydney"),
        ("2750", "classes", "EuroSAT"),
        ("EuroSAT_RGB", "classes", "EuroSAT"),
        ("AID_dataset", "classes", "AID"),
        ("RSDataset", "classes", "WHU-RS19"),
        ("WHURS19", "classes", "WHU-RS19"),
        ("UCMerced_LandUse", "classes", "UCM-CLS"),
        ("NWPU-RESISC45", "classes", "RESISC45"),
        ("RS_C11_Database", "classes", "RS_C11"),
        ("RSI-CB256", "classes", "RSI-CB256"),
        ("OPTIMAL31", "classes", "OPTIMAL-31"),
        ("AIR-SLT", "scenes", "AIR-SLT"),
        ("rsicd", "captions", "RSICD"),
        ("rsicd", "classes", "RSICD-CLS"),
        ("rsicd", "scenes", None),
        ("AID_blurred", "classes", None),
        ("Images", "classes", None),
    ],
)
def test_a_published_name_means_its_data_set(name, kind, dataset):
    assert meaning(name, kind) == dataset


def test_every_data_set_is_in_a_table_and_no_name_means_two():
    printed = {path.split("/")[0] for table in tables() for row in table.rows for path in row.values}
    for kind in KINDS:
        assert set(TABLE[kind]) <= printed
        names = [key(name) for dataset, names in TABLE[kind].items() for name in (*names, dataset)]
        assert len(set(names)) == len(names), kind
        assert not any(map(says_nothing, names))
    assert {classes.dataset(name).title for name in classes.datasets()} == set(TABLE["classes"])


def test_a_name_that_means_something_is_believed():
    assert identify(["dataset_rsitmd"], "captions") == ("RSITMD", "dataset_rsitmd is RSITMD, by its name")
    assert identify(["whu_rs19"], "classes", ["Airport"]) == ("whu_rs19", "")
    assert identify(["harbours"], "captions") == ("harbours", "")


def test_a_name_that_says_nothing_leaves_it_to_the_folders_around_it_and_to_the_classes():
    assert identify(["Images", "UCMerced_LandUse", "data"], "classes", UCM[:5]).name == "UCM-CLS"
    assert identify(["dataset", "Sydney_captions"], "captions").name == "Sydney"
    assert identify(["Images", "mine"], "classes", UCM) == ("UCM-CLS", "Images is UCM-CLS, by its classes")
    assert identify(["Images", "mine"], "classes", UCM[1:]) == ("Images", "")
    assert identify(["mine", "UCMerced_LandUse"], "classes", UCM[:3]).name == "mine"


def test_classes_alone_rename_no_source_whose_name_says_something():
    name, note = identify(["AID_blurred"], "classes", AID)
    assert name == "AID_blurred" and note == "AID_blurred has the classes of AID: say so if it is that data set"


def test_classes_of_another_data_set_are_believed_more_than_the_name():
    name, note = identify(["UCMerced_LandUse"], "classes", AID)
    assert name == "AID" and note == "UCMerced_LandUse is AID, by its classes, which are not those of UCM-CLS"


def test_published_names_name_the_words_of_classes():
    assert classes.dataset("2750").name == "eurosat" and classes.dataset("AID_dataset").name == "aid"
    assert len(classes.templates("itra", "NWPU-RESISC45")) == 18
    with pytest.raises(InputError, match="no data set is called 'Images'"):
        classes.dataset("Images")
