"""Data sets and templates: complete, distinct, found under every spelling, and what the papers' tables say of them."""

from __future__ import annotations

import pytest

from eval.errors import InputError
from eval.facts import classes
from eval.papers import published_tables

CLASSES = {
    "aid": 30,
    "eurosat": 10,
    "fmow": 62,
    "million-aid": 51,
    "mlrsnet": 46,
    "optimal-31": 31,
    "patternnet": 38,
    "resisc45": 45,
    "rs-c11": 11,
    "rsi-cb128": 45,
    "rsi-cb256": 35,
    "rsicd-cls": 31,
    "ucm-cls": 21,
    "whu-rs19": 19,
}


def zeroshot_tables():
    papers = published_tables.tables("LRSCLIP") + published_tables.tables("RSCLIP")
    return [table for table in papers if table.tasks[0] == "zeroshot"]


def test_data_sets_have_their_classes_and_are_those_of_both_papers():
    assert {name: len(classes.dataset(name).classes) for name in classes.datasets()} == CLASSES
    headings = {
        column.path.split("/")[0]
        for table in zeroshot_tables()
        for column in table.columns
        if column.path.endswith("/accuracy")
    }
    papers = {heading for heading in headings if not heading.startswith("mean of")}
    assert papers == {classes.dataset(name).title for name in classes.datasets()} - {"fMoW", "Million-AID"}


def test_of_skyscripts_eight_data_sets_all_but_its_own_have_words():
    printed = {
        tuple(path.split("/")[0] for path in row.values)
        for paper in ("FarSLIP", "DOFA-CLIP")
        for table in published_tables.tables(paper)
        for row in table.rows
        if table.tasks == ("zeroshot",)
    }
    ((own, *others, mean),) = printed
    assert own == "SkyScript" and mean.startswith("mean of") and len(others) == 7
    assert [classes.dataset(name).title for name in others] == others
    fmow, million = classes.dataset("fmow_rgb"), classes.dataset("MillionAID")
    assert fmow.words(["factory_or_powerplant", "multi-unit_residential"]) == {
        "factory_or_powerplant": "factory or power plant",
        "multi-unit_residential": "multi unit residential",
    }
    assert million.words(["basketball_court"])["basketball_court"] == "basketball court"


def test_counts_are_those_that_published_accuracies_are_shares_of():
    counted = {title: images for table in zeroshot_tables() for title, images in table.counts.items()}
    assert len(counted) == len(CLASSES) - 2
    assert {title: classes.dataset(title).images for title in counted} == counted


@pytest.mark.parametrize("name", ["optimal-31", "rs-c11"])
def test_a_count_follows_from_the_ten_published_accuracies(name):
    """Of all numbers from 1,200 to 2,000 each printed accuracy is a possible share of this one only."""
    found = classes.dataset(name)
    accuracies = [value.value for value in found.published]
    assert len(accuracies) == 10

    def possible(images):
        return all(round(100 * round(share * images / 100) / images, 2) == share for share in accuracies)

    assert [images for images in range(1200, 2000) if possible(images)] == [found.images]


def test_published_accuracies_come_with_their_table():
    values = [
        (value.paper, value.table, value.value)
        for value in classes.dataset("WHU-RS19").published
        if value.method in ("LRSCLIP", "RSCLIP")
    ]
    assert values == [("LRSCLIP", "IV", 87.16), ("LRSCLIP", "IV", 88.26), ("RSCLIP", "IV", 86.67)]


@pytest.mark.parametrize("name", CLASSES)
def test_facts_are_whole(name):
    found = classes.dataset(name)
    assert (
        found.name == name
        and found.source
        and set(found.verified) == {"classes", "images"} - set(() if found.images else ["images"])
    )
    assert len(found.folders) == len(found.classes) + len(found.spellings)
    folders = set(found.classes)
    assert set(found.spellings.values()) <= folders and not set(found.spellings) & folders
    for protocol in (classes.PLAIN, *found.wordings):
        words = found.words(found.classes, protocol)
        assert len(set(words.values())) == len(folders) and all(text.strip() == text for text in words.values())
    assert set(found.wordings) <= set(found.templates)
    for protocol, wording in found.wordings.items():
        assert set(wording) <= folders, protocol
        assert all(text != found.classes[folder] for folder, text in wording.items()), protocol
    plain = "".join(found.classes.values())
    assert plain == plain.lower() and plain.replace(" ", "").isalpha()


@pytest.mark.parametrize("spelt", [str, str.upper, lambda name: name.replace("_", " "), classes.words])
def test_a_data_set_is_recognised_by_its_folders(spelt):
    for name in classes.datasets():
        labels = [spelt(folder) for folder in classes.dataset(name).classes]
        assert classes.recognise(labels + labels[:3]).name == name
        assert classes.recognise(labels[1:]) is None
        assert classes.recognise([*labels, "launch pad"]) is None


def test_aliases_of_folders_are_recognised_and_put_into_words():
    whu = [folder.lower() for folder in classes.dataset("whu-rs19").classes]
    assert classes.recognise(whu).title == "WHU-RS19"
    assert classes.dataset("whurs19").words(["footballfield", "railway_station"]) == {
        "footballfield": "football field",
        "railway_station": "railway station",
    }
    c11 = [*classes.dataset("RS_C11").classes][:-1]
    assert classes.recognise([*c11, "storagetanks"]).name == "rs-c11"
    assert classes.recognise([*c11, "storagetanks", "stroagetanks"]) is None
    assert classes.dataset("rs_c11").words(["stroagetanks"]) == {"stroagetanks": "storage tanks"}


def test_protocols_have_their_own_words():
    eurosat = classes.dataset("EuroSAT")
    names = ["SeaLake", "Forest"]
    assert list(eurosat.words(names).values()) == ["sea lake", "forest"]
    assert list(eurosat.words(names, "itra").values()) == ["lake or sea", "forest"]
    assert list(eurosat.words(names, "georsclip").values()) == ["sealake", "forest"]
    assert eurosat.words(names, "lrsclip") == eurosat.words(names)


@pytest.mark.parametrize(
    ("label", "words"),
    [("BareLand", "bare land"), ("bare_land", "bare land"), ("sea-ice", "sea ice"), ("RS2 Field", "rs2 field")],
)
def test_labels_in_words(label, words):
    assert classes.words(label) == words


def test_templates_hold_one_place_for_the_class():
    counts = {protocol: len(found) for protocol, found in classes.dataset("aid").templates.items()}
    assert counts == {"lrsclip": 1, "rsclip": 1, "rsclip-the": 1, "skyscript": 2, "itra": 5, "georsclip": 105}
    assert [len(classes.templates("itra", name)) for name in ("NWPU-RESISC45", "EuroSAT", "my own", None)] == [
        18,
        3,
        5,
        5,
    ]
    for name in classes.datasets():
        for found in classes.dataset(name).templates.values():
            assert len(set(found)) == len(found) and all(template.count("{}") == 1 for template in found)


def test_templates_are_those_that_the_papers_print():
    printed = {(table.paper, table.label): table.templates for table in zeroshot_tables()}
    assert printed["LRSCLIP", "IV"] == classes.templates("lrsclip")
    assert printed["RSCLIP", "II"] == classes.templates("rsclip")
    assert set(printed["RSCLIP", "IV"]) == {*classes.templates("rsclip"), *classes.templates("rsclip-the")}


def test_the_templates_of_georsclip_are_35_patterns_of_three_nouns():
    found = classes.templates("georsclip")
    nouns = ("remote sensing image", "aerial image", "satellite image")
    patterns = [
        {template.replace(noun, "*").replace("an *", "a *") for template in found if noun in template} for noun in nouns
    ]
    assert [len(of_noun) for of_noun in patterns] == [35, 35, 35]
    assert patterns[0] == patterns[1] == patterns[2]
    assert "a jpeg corrupted aerial image of the {}." in found and "an aerial image of many {}." in found


def test_a_template_is_its_own_set():
    assert classes.templates("a drone's view of {}") == ("a drone's view of {}",)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classes.dataset("resics45"), "no data set is called 'resics45', did you mean 'resisc45'"),
        (lambda: classes.templates("georsclp"), "no templates are called 'georsclp', did you mean 'georsclip'"),
        (lambda: classes.templates("a photo of {class}"), "'a photo of {class}' must have {} once"),
        (lambda: classes.templates("{} and {}"), "must have {} once"),
        (lambda: classes.dataset("aid").words(["Airprt"]), "'Airprt' is no class of AID, did you mean 'Airport'"),
        (
            lambda: classes.dataset("aid").words(["Airport"], "itre"),
            "no templates are called 'itre', did you mean 'itra'",
        ),
    ],
)
def test_unknown_names_are_one_line_with_the_nearest_known_one(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)
