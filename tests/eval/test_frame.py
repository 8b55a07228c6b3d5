"""The frame of pages: contents, anchors, provenance, files; what comes from outside stays text."""

from __future__ import annotations

import sys

import pytest
from documents import EVIL, Document, assert_fetches_nothing

from eval.html.elements import Html, Told, link, paragraph, table
from eval.html.frame import page, provenance


def test_every_section_has_an_anchor_and_the_contents_lead_there():
    headings = ["Retrieval: RSICD", "retrieval rsicd", "日本", EVIL, "日本"]
    document = Document(page("title", [(heading, paragraph("content")) for heading in headings]))
    anchors = [section["id"] for section in document.all("section")]
    assert anchors[:3] == ["retrieval-rsicd", "retrieval-rsicd-2", "section"] and len({*anchors}) == 5
    links = [each["href"] for each in document.all("a")]
    assert links == [*(f"#{anchor}" for anchor in anchors), *(f"#{anchor}" for anchor in anchors)]
    assert document.text("a")[:5] == headings
    assert document.all("nav") and not Document(page("title", [("one", Html("")), ("two", Html(""))])).all("nav")


def test_what_comes_from_outside_stays_text():
    files = ['a "b" <c>.csv', "javascript:alert(1)", "results.csv"]
    markup = page(EVIL, [(EVIL, EVIL)] * 4, EVIL, {"Command": EVIL, EVIL: "x"}, files)
    document = Document(markup)
    assert not document.all("script") and not document.all("c")
    assert document.text("dd")[0] == EVIL and EVIL in document.text("dt") and document.text("section") == [EVIL] * 4
    assert_fetches_nothing(markup)
    assert [each["href"] for each in document.all("a")][:3] == [
        "a%20%22b%22%20%3Cc%3E.csv",
        "javascript%3Aalert%281%29",
        "results.csv",
    ]
    assert Document(link("a/b c.json", EVIL)).text("a") == [EVIL]


def test_provenance_says_when_and_with_which_command_and_keeps_secrets(monkeypatch):
    monkeypatch.setenv("HUB_TOKEN", "hf_123456789")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lrsclip", "evaluate", "my sets", "--token=hf_123456789"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    told = provenance({"Checkpoint": "https://me:secret@host/b16?token=abc", "Nothing": ""})
    assert list(told) == ["Date", "Version", "Checkpoint", "Command", "Machine"]
    assert told["Command"] == "lrsclip evaluate 'my sets' --token=…"
    assert told["Checkpoint"] == "https://…@host/b16?token=…"
    assert "lrsclip_jax 0." in told["Version"] and "Python 3." in told["Version"] and "cores" in told["Machine"]
    assert provenance({}, "8 × TPU v5e")["Machine"] == "8 × TPU v5e"


def test_a_rounded_cell_tells_its_value_to_a_pointer():
    rows = [["a", 12.3456789, 12.5, 7, None, Told("1.0 ± 0.1", EVIL)]]
    cells = Document(table(rows, list("abcdef"))).all("td")
    assert [cell.get("title") for cell in cells] == ["12.345679", None, None, None, EVIL]


def test_rows_of_a_table_are_marked_and_folded():
    rows = [[name, 1] for name in ("ours", "near", "far", "farther")]
    document = Document(table(rows, ["", "n"], kinds=["ours", "aside", "more", "more"], folded="more <rows>"))
    assert [row.get("class") for row in document.all("tr")[1:]] == ["ours", "aside", "more", "more"]
    assert document.text("summary") == ["2 more <rows>"]
    assert not Document(table(rows, ["", "n"])).all("details")
    with pytest.raises(ValueError, match="1 kinds for 4 rows"):
        table(rows, ["", "n"], kinds=["ours"])
