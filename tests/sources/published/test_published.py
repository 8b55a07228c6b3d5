"""Published corpora in small: every row an item with all its texts, or a fault."""

import json

import pytest

from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.published import lrs2m_json, remoteclip, vhm
from lrsclip_jax.sources.row_keys import Keys


def split_up(found):
    found = list(found)
    return [one for one in found if isinstance(one, Item)], [one for one in found if isinstance(one, Fault)]


def turns(*answers):
    return [
        turn
        for answer in answers
        for turn in ({"from": "human", "value": "<image>\n?"}, {"from": "gpt", "value": answer})
    ]


def test_vhm_takes_the_answers_of_an_image_wherever_they_stand(tmp_path):
    rows = [
        {"image": "1.jpg", "source_dataset": "fmow", "conversations": turns("<image>A harbour.", "Two piers.")},
        {"image": "1.jpg", "source_dataset": "loveda", "conversations": turns("A road.")},
        {"image": "2.jpg", "source_dataset": "fmow", "conversations": None},
        {"image": "3.jpg", "source_dataset": "fmow", "conversations": [{"from": "gpt", "value": 5}]},
        [],
        {"image": "1.jpg", "source_dataset": "fmow", "conversations": turns("Again.")},
    ]
    path = tmp_path / "list_pretrain.json"
    path.write_text(json.dumps(rows))
    (first, second), faults = split_up(vhm.read(path, tmp_path, "VHM"))
    assert (first.id, first.image, first.source) == ("fmow/1.jpg", tmp_path / "fmow/1.jpg", "fmow")
    assert first.long == ("A harbour.", "Two piers.", "Again.") and first.short == ()
    assert (second.id, second.long, second.where) == ("loveda/1.jpg", ("A road.",), "list_pretrain.json, record 2")
    assert [fault.where[-1] for fault in faults] == ["3", "4", "5"]
    assert "'conversations' with turns" in faults[0].reason
    (only,), _ = split_up(vhm.read(path, tmp_path, "VHM", only="loveda"))
    assert only == second


@pytest.mark.parametrize("column", ["filename", "filepath"])
def test_remoteclips_rows_of_an_image_are_one_item(tmp_path, column):
    path = tmp_path / "rsicd.csv"
    path.write_bytes(f"{column},title\nx/港.jpg,a harbour\ny.jpg,a road\nx/港.jpg,a pier\n".encode("gb18030"))
    items, faults = split_up(remoteclip.read(path, tmp_path, "Ret-3"))
    assert [(one.id, one.short) for one in items] == [("x/港.jpg", ("a harbour", "a pier")), ("y.jpg", ("a road",))]
    assert not faults


@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_lrs2m_has_keys_that_can_be_renamed(tmp_path, form):
    path = tmp_path / "lrs2m.json"
    path.write_text(form.format(json.dumps({"file": "a.jpg", "long_caption": "Long.", "short": ["s", ""]})))
    (item,) = lrs2m_json.read(path, tmp_path, "LRS2M", Keys(image="file", long="long_caption"))
    assert (item.id, item.long, item.short, item.empty_texts) == ("a.jpg", ("Long.",), ("s",), 1)
