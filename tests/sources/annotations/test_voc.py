"""XML files of objects: Pascal VOC, its dialects of HRSC2016 and FAIR1M, and files that are none of them."""

import cv2
import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.data.images import read_image
from lrsclip_jax.sources.annotations import voc
from lrsclip_jax.sources.item import Fault, Item, Thing

SIZE = "<size><width>80</width><height>60</height></size>"
HRSC_OBJECT = """<HRSC_Object><Object_ID>1</Object_ID><Class_ID>{number}</Class_ID><box_xmin>10</box_xmin>
<box_ymin>12</box_ymin><box_xmax>41</box_xmax><box_ymax>31</box_ymax>{rotated}</HRSC_Object>"""
ROTATED = "<mbox_cx>25.5</mbox_cx><mbox_cy>21.5</mbox_cy><mbox_w>30</mbox_w><mbox_h>9</mbox_h><mbox_ang>-0.2</mbox_ang>"
FAIR1M = """<annotation><source><filename>7.png</filename></source>{size}<objects><object>
<coordinate>{unit}</coordinate><possibleresult><name>Boeing737</name><probability>1</probability></possibleresult>
<points>{points}</points></object></objects></annotation>"""
CORNERS = ((10.5, 20), (50, 22), (49, 40), (9, 38))


def hrsc(*objects, name="7"):
    size = "<Img_SizeWidth>80</Img_SizeWidth><Img_SizeHeight>60</Img_SizeHeight>"
    return f"""<HRSC_Image><Img_FileName>{name}</Img_FileName><Img_FileFmt>bmp</Img_FileFmt>{size}
<Annotated>1</Annotated><HRSC_Objects>{"".join(objects)}</HRSC_Objects></HRSC_Image>"""


def fair1m(corners=CORNERS, unit="pixel", size=SIZE):
    return FAIR1M.format(size=size, unit=unit, points="".join(f"<point>{x},{y}</point>" for x, y in corners))


@pytest.fixture
def read(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "7.png")

    def of_xml(text, name="7.xml") -> Item | Fault:
        (tmp_path / name).write_text(text, encoding="utf-8")
        (found,) = voc.read(tmp_path / name, tmp_path, "set")
        return found

    return of_xml


def test_hrsc2016_has_class_numbers_and_rotated_boxes(read):
    found = read(hrsc(HRSC_OBJECT.format(number=100000007, rotated=ROTATED)))
    (thing,) = found.things
    assert (found.id, found.width, found.height, found.note) == ("7.png", 80, 60, "")
    assert thing.name == "Arleigh Burke" and thing.box == (10, 12, 41, 31)
    expected = cv2.boxPoints(((25.5, 21.5), (30, 9), np.degrees(-0.2)))  # OpenCV's angle, too, is from x towards y
    assert len(thing.polygon) == 4
    for corner in thing.polygon:
        assert np.abs(expected - corner).max(axis=1).min() < 1e-4
    plain, unknown = (HRSC_OBJECT.format(number=n, rotated="") for n in (100000001, 42))
    assert [(thing.name, thing.polygon) for thing in read(hrsc(plain, unknown)).things] == [("ship", ()), ("42", ())]
    assert read(hrsc(name="other"), "7.xml").note == "no objects"


def test_images_of_hrsc2016_are_bitmaps(tmp_path):
    Image.new("RGB", (80, 60), (9, 99, 199)).save(tmp_path / "7.bmp")
    (tmp_path / "7.xml").write_text(hrsc(HRSC_OBJECT.format(number=100000007, rotated="")))
    (tmp_path / "8.xml").write_text("<annotation><filename>7.bmp</filename></annotation>")
    for name in ("7.xml", "8.xml"):  # the second names no size
        (found,) = voc.read(tmp_path / name, tmp_path, "set")
        assert isinstance(found, Item) and (found.id, found.width, found.height) == ("7.bmp", 80, 60)
        assert np.asarray(read_image(found.image))[0, 0].tolist() == [9, 99, 199]


def test_fair1m_has_points_that_come_back_to_the_first(read):
    thing = Thing("Boeing737", (9, 20, 50, 40), CORNERS)
    for corners in (CORNERS, (*CORNERS, CORNERS[0])):
        found = read(fair1m(corners))
        assert (found.id, found.things, found.where) == ("7.png", (thing,), "7.xml")
    assert read(f"<annotation>{SIZE}<objects/></annotation>").things == ()
    for corners, unit, words in (
        (
            CORNERS[:2],
            "pixel",
            "object 1, '', has no three points x,y (points/point); found: coordinate, possibleresult",
        ),
        ((("1", "2,3"),) * 3, "pixel", "no three points"),
        (CORNERS, "geodegree", "object 1: its points are in 'geodegree'"),
    ):
        assert words in read(fair1m(corners, unit)).reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations><image name='7.png'><box/></image></annotations>", "its root is <annotations>"),
        ("<annotation><filename>7.png</filename><Object><name>a</name></Object></annotation>", "found <Object>"),
        ("<annotation><filename>7.png</filename><box xmin='1'/></annotation>", "Pascal VOC keeps objects in object"),
        ("<annotation><objects><item><name>a</name></item></objects></annotation>", "objects/object, found <item>"),
        ("<HRSC_Image><Img_FileName>7</Img_FileName></HRSC_Image>", "there is no <HRSC_Objects>"),
        (hrsc("<Object><box_xmin>1</box_xmin></Object>"), "HRSC_Objects/HRSC_Object, found <Object>"),
    ],
)
def test_an_unknown_layout_is_named_and_never_passes_for_no_objects(read, text, words):
    found = read(text)
    assert isinstance(found, Fault) and words in found.reason and "an unknown layout" in found.reason
    assert found.where == "7.xml" and "\n" not in found.reason


def test_voc_without_objects_shows_none_and_other_boxes_are_named(read):
    about = "<source><database>x</database></source><owner><name>me</name></owner><segmented>0</segmented>"
    for text in (f"<annotation verified='yes'>{SIZE}{about}</annotation>", "<annotation/>"):
        assert (read(text).things, read(text).note) == ((), "no objects")
    found = read("<annotation><object><name>ship</name><robndbox><cx>5</cx></robndbox></object></annotation>")
    assert "object 1, 'ship', has no box of four numbers" in found.reason and "found: name, robndbox" in found.reason


@pytest.mark.parametrize("width", ["9" * 5000, "²", "-80", "80.5", "eighty", "٨٠"])
def test_a_size_that_is_no_number_is_a_fault(read, width):
    found = read(f"<annotation><size><width>{width}</width><height>60</height></size></annotation>")
    assert isinstance(found, Fault) and "no whole number of pixels" in found.reason and len(found.reason) < 200


@pytest.mark.slow
def test_sizes_that_nobody_knew_and_names_that_no_file_can_have(read):
    for width in ("0", "", "80", " 80.0 "):
        assert isinstance(
            read(f"<annotation><size><width>{width}</width><height>60</height></size></annotation>"), Item
        )
    for name in ("a" * 5000, "a\u0085b", "../" * 2000, "."):
        assert read(f"<annotation><filename>{name}</filename></annotation>").id == "7.png"
        assert read(hrsc(name=name)).id == "7.png"
    deep = read("<annotation>" + "<a>" * 100_000 + "</a>" * 100_000 + "</annotation>")
    assert isinstance(deep, Fault) and "found <a>" in deep.reason
    assert "no XML" in read("<?xml version='1.0' encoding='gb18030'?><annotation/>").reason
    assert "no XML" in read("<annotation>\x00</annotation>").reason


def test_files_that_file_systems_leave_behind_are_passed_over(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "7.png")
    (tmp_path / "7.xml").write_text(f"<annotation>{SIZE}</annotation>")
    (tmp_path / "._7.xml").write_bytes(b"\0\5\x16\7")
    assert [found.id for found in voc.read(tmp_path, tmp_path, "set")] == ["7.png"]
