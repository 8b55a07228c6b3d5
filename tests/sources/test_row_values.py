"""Values of rows as JSON, pandas, numpy and people write them."""

from pathlib import Path

import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Keys
from lrsclip_jax.sources.row_keys import row_reader
from lrsclip_jax.sources.row_values import clean, value

NAN = float("nan")


def item(keys: Keys | None = None, template: str | None = None, **row):
    return row_reader(keys or Keys(), Path("/root"), "set", template).item({"image": "a.jpg", **row}, "here")


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("['a road .', 'two cars .', 'it \\'s a port .']", ("a road .", "two cars .", "it 's a port .")),
        ("['a road .'\n 'two cars .'\n \"it's a port .\"]", ("a road .", "two cars .", "it's a port .")),
        ("['a road .' 'two cars .']", ("a road .", "two cars .")),
        ('["a road", "caf\\u00e9"]', ("a road", "café")),
        ("['one']", ("one",)),
        ("[ 'one' ,\n'two', ]", ("one", "two")),
        ("[sic] a road [x]", ("[sic] a road [x]",)),
        ("[]", ("[]",)),
        ([" a\nroad ", None, NAN], ("a road",)),
        ([{"raw": "a road", "tokens": []}, {"raw": ""}], ("a road",)),
        (("a", "b"), ("a", "b")),
        ("a \ud800 b", ("a ? b",)),
    ],
)
def test_lists_of_texts_are_read_also_where_they_are_written_as_one_text(given, texts):
    assert item(captions=given).short == texts


@pytest.mark.parametrize("given", ["['a' ... 'b']", "['a', 'b'", "['a', 3]", "['a' 'b\\']", ["a", 3], {"x": 1}, 3])
def test_what_is_no_list_of_texts_is_an_error(given):
    with pytest.raises(InputError, match="'captions' holds"):
        item(captions=given)


def test_the_first_key_that_holds_something_counts():
    assert item(caption=None, text="a road").short == ("a road",)
    assert item(caption="", text="a road").empty_texts == 1
    assert item(caption="a road", title="x").short == ("a road",)
    assert item(Keys(long="caption"), caption="a road", title="x").short == ("x",)


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ({"label": 26, "label_name": "farmland"}, "farmland"),
        ({"label_name": "farmland", "label": "26"}, "farmland"),
        ({"label": 26, "class_name": "farmland"}, "farmland"),
        ({"label": "farm", "label_name": "Farmland"}, "farm"),
        ({"class_name": "farmland"}, "farmland"),
        ({"label": 26, "label_name": None}, "26"),
        ({"label": 1.0}, "1"),
        ({"label": "1.0"}, "1"),
        ({"label": -3.00}, "-3"),
        ({"label": 1.5}, "1.5"),
        ({"label": True}, "True"),
        ({"label": NAN, "short": "x"}, None),
        ({"label": "", "short": "x"}, None),
        ({"label": " bare\nland "}, "bare land"),
        ({"label": 10**30}, str(10**30)),
    ],
)
def test_names_are_preferred_to_numbers_and_whole_numbers_stay_whole(row, label):
    assert item(**row).label == label


def test_a_key_that_was_asked_for_is_the_only_one():
    assert item(Keys(label="label"), label=26, label_name="farmland").label == "26"
    with pytest.raises(InputError, match="no key 'img' of the image"):
        item(Keys(image="img"))


@pytest.mark.parametrize(
    ("row", "image"),
    [
        ({"image": 7, "file_name": "x.png"}, "x.png"),
        ({"image": "airport", "filename": "airport_1.JPG"}, "airport_1.JPG"),
        ({"image": "{'bytes': b''}", "filename": "b.jpg"}, "b.jpg"),
        ({"image": "a.jpg", "image_path": "b.jpg"}, "a.jpg"),
        ({"image": "a", "filepath": "train2014", "filename": "c.jpg"}, "train2014/c.jpg"),
        ({"image": "a.JPEG", "filepath": "x/b.jpg", "filename": "b.jpg"}, "a.JPEG"),
    ],
)
def test_of_several_names_that_of_a_file_is_the_image(row, image):
    assert item(**row, short="x").image == Path("/root") / image


def test_names_that_are_no_utf8_lead_to_their_files_and_have_readable_ids():
    found = item(image="b\udcff.jpg", short="x")
    assert found.image == Path("/root/b\udcff.jpg") and found.id == "b⟨ff⟩.jpg"
    spelled = item(image="b⟨ff⟩.jpg", short="x")  # as `eval.file_names` has it, such as in a corpus
    assert spelled.image == found.image and spelled.id == found.id


def test_a_template_makes_texts_of_labels_where_there_are_none():
    assert item(template="a {class} from above", label="BareLand").short == ("a bare land from above",)
    assert item(template="a {class} from above", label="BareLand", short="x").short == ("x",)
    assert item(label="BareLand").short == ()


def test_texts_are_cleaned_as_line_by_line():
    for text in ("", " a ", "a\nb", "a\x0bb\u2028c", "\u00a0a", "a\tb", "é\ud83d", "机场\r\n"):
        assert clean(text) == " ".join(text.splitlines()).strip().encode("utf-8", "replace").decode()


def test_values_in_nested_rows():
    row = {"a": [{"b": "x"}], "a.0.c": 1, "f": "folder", "n": 3}
    assert value(row, "a.0.b") == "x" and value(row, "a.0.c") == 1 and value(row, "f/n", path=True) == "folder/3"
    missing = [value(row, key) for key in ("a.1.b", "a.x", "z", "f.g.h", "f/n", "")]
    assert len(set(map(id, missing))) == 1
