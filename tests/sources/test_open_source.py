"""The door: what it recognises, and what users are told where it does not."""

import json
import random

import pytest
from source_files import lines, picture, split_up, write

from lrsclip_jax.data.prepare.encode import Options
from lrsclip_jax.data.prepare.preparation import prepare
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import KINDS, Drawing, Fault, Item, Keys, open_source

ROWS = [
    {
        "image": "a/1.jpg",
        "long": "A long one.\nIn two lines.",
        "short": ["one", " two "],
        "label": "A",
        "split": "val",
    },
    {"image": "a/2.jpg", "long": None, "short": "three", "licence": "CC0", "id": 17, "source": "MillionAID"},
]


@pytest.mark.parametrize(
    ("name", "content"), [("list.json", ROWS), ("lines.jsonl", lines(ROWS)), ("odd.json", lines(ROWS))]
)
def test_rows_of_json_become_items_that_can_be_read_again(tmp_path, name, content):
    source = open_source(write(tmp_path / name, content))
    first, second = source
    assert first.image == tmp_path / "a/1.jpg" and second.image == tmp_path / "a/2.jpg"
    assert first.long == ("A long one. In two lines.",) and first.short == ("one", "two")
    assert second.long == () and second.short == ("three",) and second.empty_texts == 1
    assert (first.id, first.label, first.split, first.licence) == ("a/1.jpg", "A", "val", None)
    assert (second.id, second.split, second.licence, second.source) == ("17", None, "CC0", "MillionAID")
    assert first.source == source.name == name.partition(".")[0]
    assert list(source) == [first, second]


def test_keys_are_renamed_nested_and_joined(tmp_path):
    rows = [
        {
            "file": "1.tif",
            "cls": "Port",
            "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "A port."}],
        }
    ]
    (tmp_path / "images").mkdir()
    keys = Keys(image="cls/file", long="conversations.1.value", label="cls")
    (item,) = open_source(write(tmp_path / "vhm.json", rows), keys, image_root=tmp_path / "images")
    assert item.image == tmp_path / "images/Port/1.tif" and item.id == "Port/1.tif"
    assert item.long == ("A port.",) and item.label == "Port"


@pytest.mark.parametrize("image", ["image", "filepath", "file_name", "filename", "image_path"])
@pytest.mark.parametrize("caption", ["caption", "captions", "text", "title", "sentences", "raw"])
@pytest.mark.parametrize("label", ["label", "class", "cls"])
def test_the_usual_names_of_keys_need_no_options(tmp_path, image, caption, label):
    path = write(tmp_path / "a.jsonl", lines([{image: "1.jpg", caption: "A port.", label: "Port"}]))
    (item,) = open_source(path)
    assert (item.id, item.long, item.short, item.label) == ("1.jpg", (), ("A port.",), "Port")
    (item,) = open_source(path, Keys(long=caption))
    assert (item.long, item.short) == (("A port.",), ())


def test_a_split_of_any_source_can_be_asked_for(tmp_path):
    rows = [{"image": f"{n}.jpg", "short": "x", "split": "test" if n % 2 else "train"} for n in range(5)]
    path = write(tmp_path / "a.json", rows)
    source = open_source(f"{path}:test")
    assert [item.id for item in source] == ["1.jpg", "3.jpg"] and source.split == "test"
    with pytest.raises(InputError, match="a has no split 'tset', it has test, train, did you mean 'test'"):
        list(open_source(f"{path}:tset"))


def test_prepared_sets_come_back_as_they_went_in(tmp_path):
    rows = []
    for number in range(5):
        picture(tmp_path / f"{number}.png", number)
        split = "test" if number == 3 else "train"
        rows.append({"image": f"{number}.png", "short": [f"scene {number}"], "split": split, "label": "a"})
    prepare(open_source(write(tmp_path / "list.json", rows)), tmp_path / "set", Options())
    source = open_source(str(tmp_path / "set"))
    found = {(item.split, item.id, item.short, item.label) for item in source}
    assert source.name == "set" and found == {(r["split"], r["image"], tuple(r["short"]), "a") for r in rows}
    (only,) = open_source(f"{tmp_path / 'set'}:test")
    assert only.id == "3.png" and only.image.read_bytes()[:2] == b"\xff\xd8" and str(only.image) == "3.png"
    with pytest.raises(InputError, match="has no split 'val', it has test, train"):
        open_source(f"{tmp_path / 'set'}:val")


def test_procedural_scenes():
    items = list(open_source("scenes:3:7"))
    assert [item.image for item in items] == [Drawing(7, 0), Drawing(7, 1), Drawing(7, 2)]
    assert len({item.id for item in items}) == 3
    assert next(iter(open_source("scenes:1"))).image == Drawing(0, 0)
    with pytest.raises(InputError, match="scenes:many"):
        open_source("scenes:many")


def test_a_text_file_holds_queries(tmp_path):
    source = open_source(write(tmp_path / "q.txt", "\ufeffa pier\n\n two boats \n"))
    assert [query.text for query in source.queries] == ["a pier", "two boats"] and list(source) == []
    with pytest.raises(InputError, match="empty.txt: not a single text in it"):
        open_source(write(tmp_path / "empty.txt", " \n"))


def test_repeated_ids_are_numbered(tmp_path):
    rows = [{"image": f"{n}.jpg", "short": "x", "id": id} for n, id in enumerate(["a", "a", "a#2", "a", "b"])]
    assert [item.id for item in open_source(write(tmp_path / "r.jsonl", lines(rows)))] == [
        "a",
        "a#2",
        "a#2#2",
        "a#3",
        "b",
    ]


def test_an_id_that_all_rows_share_takes_no_longer_than_others(tmp_path):
    rows = [{"image": f"{n}.jpg", "short": "x", "id": 0} for n in range(30_000)]
    ids = [item.id for item in open_source(write(tmp_path / "r.jsonl", lines(rows)))]
    assert len(set(ids)) == len(ids) and ids[-1] == "0#30000"


def test_a_key_that_no_row_has_is_an_error_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        open_source(write(tmp_path / "c.jsonl", lines([{"img": "a.jpg", "short": "x"}])))
    assert str(caught.value) == (
        "c.jsonl, line 1: no key 'image' of the image (--image-key), nor any of filepath, file_name, filename, "
        "image_path; keys found: img, short, did you mean 'img'?"
    )
    with pytest.raises(InputError, match="c.json, record 1: no key 'long' or 'short' of the texts.*mean 'shrt'"):
        open_source(write(tmp_path / "c.json", [{"image": "a.jpg", "shrt": "x"}]))
    path = write(tmp_path / "d.json", ROWS)
    with pytest.raises(InputError, match="no record has the key 'licenses' that --licence-key names.*mean 'licence'"):
        open_source(path, Keys(licence="licenses"))
    with pytest.raises(InputError, match="d: no record has the key 'lng' that --long-key names"):
        open_source(path, Keys(long="lng", short="shrt"))


def test_a_bad_row_between_good_ones_is_a_fault_with_its_place(tmp_path):
    bad = [
        '{"img": "a.jpg", "short": "x"}',
        '{"image": "b.jpg"}',
        '{"image": "c.jpg", "short": 3}',
        '{"image": ["d.jpg"], "short": "x"}',
        '{"image": "e.jpg", "short": "x", "label": {}}',
        '{"image": "f.jpg", "sho',
        '"text"',
        '{"image": "g.jpg", "short": "a", "short": "b"}',
        '{"image": "h.jpg", "short": ' + "[" * 9000 + "]" * 9000 + "}",
        '{"image": "i.jpg", "short": "x", "id": ' + "9" * 5000 + "}",
        '{"image": "\\ud800.jpg", "short": "x"}',
        '{"image": "a\\u0000b.jpg", "short": "x"}',
        '{"image": "", "short": "x"}',
    ]
    good = ['{"image": "1.jpg", "short": "one"}', '{"image": "2.jpg", "short": "two"}']
    items, faults = split_up(open_source(write(tmp_path / "a.jsonl", "\n".join([good[0], *bad, good[1]]))))
    assert [item.id for item in items] == ["1.jpg", "2.jpg"]
    assert [fault.where for fault in faults] == [f"a.jsonl, line {number}" for number in range(2, len(bad) + 2)]
    expected = (
        "no key 'image'",
        "no key 'long' or 'short' of the texts",
        "'short' holds 3, a text or a list",
        "'image' is ['d.jpg'], the path of an image",
        "'label' is {}, a text or a number",
        "not JSON (Unterminated string",
        "a str where an object",
        "the key 'short' stands twice",
        "nested too deep",
        "not JSON (Exceeds the limit",
        "'image' is '\\ud800.jpg'",
        "'image' is 'a\\x00b.jpg'",
        "'image' is ''",
    )
    for fault, reason in zip(faults, expected, strict=True):
        assert fault.reason.startswith(reason)
    assert faults[2].id == "c.jpg"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '\n{"image": "x", "sho', "a.jsonl, line 2: not JSON"),
        ("a.json", "[{]", "a.json: record 1: not JSON"),
        ("a.json", '[{"image": "x", "short": "y"},', "a.json: after record 1: torn"),
        ("a.json", '[{"image": "x", "short": "y"}] []', "a.json: more after the end"),
        ("a.json", "[" * 100_000, "a.json: record 1: torn, or nested too deep"),
        ("a.json", "", "not a single|a.json: a JSON list"),
        ("a.json", '{"annotations": []}', "line 1: no key 'image'"),
        ("a.json", '{\n"annotations": []}', "a.json: neither a list of records"),
        ("a.json", '{\n"images": [{"filename": "x"}]}', "a.json, image 1: no key 'long' or 'short'"),
        ("a.parquet", "", "a.parquet: torn, or no Parquet file"),
        ("a.csv", "", "a.csv: empty, a header"),
        ("a.xlsx", "x", "a.xlsx: not recognised; expected one of: scenes:COUNT"),
        ("a.TIF", "x", "a.TIF is one image: name its folder, or a list that has it"),
    ],
)
def test_what_cannot_be_read_as_a_whole_is_one_line(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message) as caught:
        source = open_source(write(tmp_path / name, content))
        if not list(source):
            raise InputError("not a single row")
    assert "\n" not in str(caught.value)


def test_missing_sources_and_image_roots_are_named(tmp_path):
    for spec in (str(tmp_path / "nowhere.json"), "x" * 5000, "a\0b", str(tmp_path / "no-*.tar")):
        with pytest.raises(InputError, match="no such file or folder"):
            open_source(spec)
    with pytest.raises(InputError, match="the name of the source is empty"):
        open_source("")
    with pytest.raises(InputError, match="no such home folder"):
        open_source("~nobody-of-that-name/x.json")
    path = write(tmp_path / "a.json", ROWS)
    with pytest.raises(InputError, match="the image root .*gone is no folder"):
        open_source(path, image_root=tmp_path / "gone")
    with pytest.raises(InputError, match="leave out --image-root"):
        open_source(str(tmp_path), image_root=tmp_path)


def test_home_folders_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.json", ROWS)
    (tmp_path / "images").mkdir()
    first, _ = open_source("~/a.json", image_root="~/images")
    assert first.image == tmp_path / "images/a/1.jpg"


def test_every_kind_says_what_it_is():
    assert all(kind.help and "\n" not in kind.help for kind in KINDS.values())


def test_a_colon_in_the_name_of_a_file_is_no_split(tmp_path):
    path = write(tmp_path / "a:b.json", json.dumps(ROWS))
    assert len(list(open_source(path))) == 2


DAMAGED = {
    "a.jsonl": lines([{"image": f"{n % 7}.jpg", "caption": ["a é", 'x, "y"'][: n % 3], "label": n} for n in range(12)]),
    "a.json": json.dumps([{"image": f"{n % 7}.jpg", "caption": "a é", "id": n % 5} for n in range(9)]),
    "karpathy.json": json.dumps({"images": [{"filename": "a.jpg", "sentences": [{"raw": "x"}], "split": "t"}] * 3}),
    "coco.json": json.dumps(
        {
            "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(4)],
            "annotations": [{"id": n, "image_id": n % 5, "caption": "x"} for n in range(9)],
        }
    ),
    "nwpu.json": json.dumps(
        {"air": [{"filename": "a.jpg", "raw": "x", "raw_1": "y"}] * 2, "b": [{"filename": "b.jpg"}]}
    ),
    "a.csv": "filepath,title,label\n" + "".join(f'{n % 5}.jpg,"cap ""q"" {n}",{n}\n' for n in range(9)),
    "a.tsv": "filepath\ttitle\n" + "".join(f"{n % 5}.jpg\tcap {n}\n" for n in range(9)),
}
PIECES = (
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"\n",
    b"\xff\xfe",
    b"\0",
    b"\\",
    b"NaN",
    b"\xe9",
    b":",
    b"\r",
    b"1e999",
    b"'",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_lists_give_items_and_faults_or_one_line(tmp_path, name):
    draw = random.Random(0)
    for _ in range(150):
        data = bytearray(DAMAGED[name].encode())
        for _ in range(draw.randint(1, 6)):
            at, kind = draw.randrange(len(data)), draw.random()
            if kind < 0.3:
                data[at] = draw.randrange(256)
            elif kind < 0.7:
                data[at:at] = draw.choice(PIECES)
            else:
                del data[at : at + draw.randint(1, 20)]
        (tmp_path / name).write_bytes(data)
        try:
            source = open_source(str(tmp_path / name))
            found = list(source)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        assert list(source) == found
        ids = [item.id for item in found if isinstance(item, Item)]
        assert len(set(ids)) == len(ids)
        "".join(ids + [fault.where + fault.reason for fault in found if isinstance(fault, Fault)]).encode()
