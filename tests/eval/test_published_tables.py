"""The published tables: laid out as printed, every value at its address. Expected values are typed from the papers."""

from __future__ import annotations

import pytest

from eval.papers.published_tables import Value, address, key, parse, tables, values

TABLES = {
    "LRSCLIP": {"I": 11, "II": 8, "III": 16, "IV": 10, "V": 12, "VI": 2, "VII": 3, "VIII": 2, "IX": 2, "X": 4}
    | {"Fig. 7": 2, "Fig. 8": 4, "Fig. 9": 3, "Fig. 10": 9},
    "RSCLIP": {"I": 13, "II": 8, "III": 6, "IV": 5, "V": 15, "VI": 12, "Section II-B": 2},
    "GeoRSCLIP": {"README": 3},
    "SeLo": {"README": 14},
    "FarSLIP": {"classification": 11, "segmentation": 17},
    "DOFA-CLIP": {"README": 14},
    "DGTRS-CLIP": {"JSTARS": 2},
    "HiMo-CLIP": {"I": 19, "II": 14},
    "LoTLIP": {"README": 5},
    "Long-CLIP": {"model zoo": 2},
    "FLAIR": {"README": 4},
    "DeBias-CLIP": {"README": 2},
}


@pytest.mark.parametrize("paper", TABLES)
def test_every_table_is_there_with_all_its_rows(paper):
    assert {table.label: len(table.rows) for table in tables(paper)} == TABLES[paper]
    assert tables(paper.lower()) == tables(paper)


def test_all_tables_are_those_of_all_papers():
    assert len(tables()) == sum(map(len, TABLES.values()))
    assert tables("someone else") == []


@pytest.mark.parametrize(
    ("dataset", "metric", "paper", "table", "size", "method", "value"),
    [
        ("RSITMD-L", "mean_recall", "LRSCLIP", "II", "ViT-B/16", "LRSCLIP", 64.79),
        ("RSITMD-L", "text_to_image/R@1", "LRSCLIP", "II", "ViT-L/14", "LRSCLIP", 39.16),
        ("RSICD-L", "image_to_text/R@10", "LRSCLIP", "II", "ViT-L/14", "Long-CLIP", 38.52),
        ("RSITMD", "image_to_text/R@1", "LRSCLIP", "III", "ViT-B/16", "Long-CLIP", 8.98),
        ("RSICD", "text_to_image/R@5", "LRSCLIP", "III", "ViT-L/14", "GeoRSCLIP", 28.18),
        ("RS_C11", "accuracy", "LRSCLIP", "IV", "ViT-B/16", "LRSCLIP", 76.79),
        ("mean of six", "accuracy", "LRSCLIP", "IV", "ViT-L/14", "RemoteCLIP", 69.95),
        ("AIR-SLT", "R_as", "LRSCLIP", "V", "ViT-L/14", "GeoRSCLIP", 0.2513),
        ("RSITMD", "mean_recall", "LRSCLIP", "VI", "", "PCM True", 37.29),
        ("MillionAID", "pairs", "LRSCLIP", "I", "", "MillionAID", 920057),
        ("RSICD", "text_to_image/R@1", "RSCLIP", "I", "ViT-B/32", "CLIP", 6.44),
        ("RSICD", "mean_recall", "RSCLIP", "I", "ViT-B/32", "CLIP", 16.83),
        ("RSITMD", "text_to_image/R@10", "RSCLIP", "I", "", "RSCLIP", 63.14),
        ("RESISC45", "accuracy", "RSCLIP", "II", "", "UniPELT", 66.61),
        ("Sydney", "text_to_image/R@5", "RSCLIP", "III", "", "RSCLIP", 57.93),
        ("mean of four", "accuracy", "RSCLIP", "IV", "ViT-Base", "S-CLIP", 91.67),
        ("mean of eight", "accuracy", "RSCLIP", "IV", "", "RSCLIP", 61.14),
        ("AID", "16/accuracy", "RSCLIP", "V", "ViT-Base", "RSCLIP", 99.05),
        ("WHU-RS19", "knn/accuracy", "RSCLIP", "VI", "ViT-Base", "RemoteCLIP", 74.17),
        ("RESISC45", "accuracy", "FarSLIP", "classification", "ViT-B/16", "LRSCLIP", 74.28),
        ("mean of SkyScript's eight", "accuracy", "FarSLIP", "classification", "ViT-B/16", "FarSLIP-s2", 62.24),
        ("mean of SkyScript's eight", "accuracy", "DOFA-CLIP", "README", "Large", "DOFA-CLIP-L-384", 64.45),
        ("mean of eight", "mIoU", "FarSLIP", "segmentation", "ViT-B/16", "LRSCLIP", 33.23),
        ("RSITMD", "mean_recall", "DGTRS-CLIP", "JSTARS", "ViT-B/16", "DGTRS-CLIP", 37.58),
        ("RSITMD", "mean_recall", "DGTRS-CLIP", "JSTARS", "ViT-B/16", "DGTRS-CLIP, reproduced", 37.23),
        ("AID", "linear/accuracy", "RSCLIP", "VI", "ResNet-50", "Barlow Twins", 88.25),
        ("Urban-1k", "text_to_image/R@1", "HiMo-CLIP", "I", "ViT-B/16", "Long-CLIP", 79.5),
        ("Docci", "image_to_text/R@1", "HiMo-CLIP", "I", "ViT-L/14", "HiMo-CLIP", 82.4),
        ("Long-DCI", "text_to_image/R@1", "HiMo-CLIP", "I", "ViT-B/16", "TULIP", 50.6),
        ("COCO", "text_to_image/R@1", "HiMo-CLIP", "II", "ViT-L/14", "Long-CLIP", 46.3),
        ("IIW", "text_to_image/R@1", "LoTLIP", "README", "ViT-B/16", "LoTLIP", 92.65),
        ("COCO", "image_to_text/R@1", "Long-CLIP", "model zoo", "ViT-L/14", "Long-CLIP", 58.3),
        ("Flickr30k", "image_to_text/R@1", "FLAIR", "README", "ViT-B/16", "FLAIR", 94.7),
        ("DCI", "text_to_image/R@1", "DeBias-CLIP", "README", "ViT-B/16", "DeBias-CLIP", 67.6),
    ],
)
def test_a_value_stands_at_its_address(dataset, metric, paper, table, size, method, value):
    assert Value(paper, table, size, method, value) in values(dataset, metric)


def test_names_of_data_sets_are_read_by_letters_and_digits():
    assert key("RS_C11") == key("rs-c11") == "rsc11"
    assert values("rsitmd_l", "mean_recall") == values("RSITMD-L", "mean_recall") != []
    assert values("RSITMD", "mean_recall") != values("RSITMD-L", "mean_recall")
    assert values("RSITMD", "no such metric") == []
    assert address("WHU-RS19/knn/accuracy") == ("whurs19", "knn/accuracy")


def test_what_a_paper_only_draws_is_no_value():
    drawn = [row for table in tables("LRSCLIP") if table.label == "Fig. 7" for row in table.rows]
    assert all(value is None for row in drawn for value in row.values.values())
    assert all(found.table != "Fig. 7" for found in values("RSITMD", "mean_recall"))


def test_where_a_value_stands_is_said_in_words():
    (table,) = (table for table in tables("LRSCLIP") if table.label == "II")
    row = table.rows[0]
    assert table.name == "LRSCLIP, Table II"
    assert table.where(row, "RSITMD-L/image_to_text/R@5") == "Long-CLIP ViT-B/16, RSITMD-L, Image to text, R@5"


def test_a_row_with_a_value_too_many_is_refused():
    facts = {
        "paper": "P",
        "table": "I",
        "title": "t",
        "heads": {"method": "Method"},
        "columns": [["", "A", "A/accuracy"]],
    }
    assert parse({**facts, "rows": [{"method": "m", "values": [1.5]}]}).rows[0].values == {"A/accuracy": 1.5}
    with pytest.raises(ValueError):
        parse({**facts, "rows": [{"method": "m", "values": [1.5, 2.5]}]})
