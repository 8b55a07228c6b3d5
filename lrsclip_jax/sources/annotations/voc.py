"""XML files of objects, one an image: Pascal VOC's, and those of HRSC2016 and FAIR1M.

Pascal VOC  annotation/object         name, bndbox/xmin …; the image is called by filename
FAIR1M      annotation/objects/object possibleresult/name, points/point "x,y"; source/filename
HRSC2016    HRSC_Image/HRSC_Objects/HRSC_Object  Class_ID, box_xmin …, mbox_cx …; Img_FileName, without suffix
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.annotated import annotated, size_said
from lrsclip_jax.sources.annotations.hrsc2016 import CLASSES
from lrsclip_jax.sources.annotations.image_files import of_stem
from lrsclip_jax.sources.annotations.outlines import bounds
from lrsclip_jax.sources.item import Fault, Item, Thing
from lrsclip_jax.sources.listing import passed_over
from lrsclip_jax.sources.row_values import clean_name


def read(path: Path, root: Path, source: str) -> Iterator[Item | Fault]:
    """Reads a folder of XML files, or one of them, in the order of their names.

    VOC counts pixels from 1 and its boxes include their last ones: (1, 1, w, h) becomes (0, 0, w, h). The boxes of the
    other two are as annotated, with the rotated rectangle or the points as the outline. The image is the file that the
    XML names or, where that is not there, the one that is called as the XML. Object parts are no objects. A file
    without objects says that its image shows none, but only in a layout that is known.
    """
    files = sorted(file for file in path.glob("*.xml") if not passed_over(file.name)) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no .xml files there")
    for file in files:
        where = clean_name(file.name)
        try:
            document = _parsed(file)
            layout = _layout(document)
            image = _image(document.findtext(layout.image), root, file.stem)
            said = size_said(*(_text(document, side) for side in layout.size))
        except InputError as error:
            yield Fault(where, str(error), clean_name(file.stem))
            continue
        yield annotated(image, root, source, _things(document, layout, where), where, said)


class Layout(NamedTuple):
    """Paths of the elements in which a kind of file keeps what it says, and how an object becomes a thing.

    `thing` raises ValueError or OverflowError where the object's numbers are none, and InputError for other faults.
    """

    name: str
    image: str
    size: tuple[str, str]
    objects: str
    thing: Callable[[Element], Thing]
    box: str  # what an object has to have, in words


def _voc(node: Element) -> Thing:
    x0, y0, x1, y1 = (_number(node, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax"))
    return Thing(_text(node, "name"), (x0 - 1, y0 - 1, x1, y1))


def _fair1m(node: Element) -> Thing:
    if (unit := _text(node, "coordinate")) not in ("", "pixel"):
        raise InputError(f"its points are in '{unit:.40}', pixels are expected")
    points = [tuple(map(float, (point.text or "").split(","))) for point in node.findall("points/point")]
    corners = tuple((x, y) for x, y in points)
    if corners[1:] and corners[0] == corners[-1]:
        corners = corners[:-1]
    if len(corners) < 3:
        raise ValueError
    return Thing(_text(node, "possibleresult/name"), bounds(corners), corners)


def _hrsc2016(node: Element) -> Thing:
    """The angle is in radians, from x towards y, which points down."""
    number = _text(node, "Class_ID")
    x0, y0, x1, y1 = (_number(node, f"box_{edge}") for edge in ("xmin", "ymin", "xmax", "ymax"))
    outline: tuple[tuple[float, float], ...] = ()
    if node.find("mbox_cx") is not None:
        x, y, width, height, angle = (_number(node, f"mbox_{name}") for name in ("cx", "cy", "w", "h", "ang"))
        across = (width / 2 * math.cos(angle), width / 2 * math.sin(angle))
        down = (-height / 2 * math.sin(angle), height / 2 * math.cos(angle))
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        outline = tuple((x + a * across[0] + d * down[0], y + a * across[1] + d * down[1]) for a, d in signs)
    return Thing(CLASSES.get(number, number), (x0, y0, x1, y1), outline)


_SIDES = ("size/width", "size/height")
VOC = Layout("Pascal VOC", "filename", _SIDES, "object", _voc, "no box of four numbers (bndbox with xmin, …)")
FAIR1M = Layout("FAIR1M", "source/filename", _SIDES, "objects/object", _fair1m, "no three points x,y (points/point)")
HRSC2016 = Layout(
    "HRSC2016",
    "Img_FileName",
    ("Img_SizeWidth", "Img_SizeHeight"),
    "HRSC_Objects/HRSC_Object",
    _hrsc2016,
    "no box of numbers (box_xmin, …, and mbox_cx, …)",
)
# Elements with others inside that say nothing of objects.
_ABOUT = frozenset(("source", "owner", "size", "imagesize", "research", "objects", "HRSC_Objects"))


def _layout(document: Element) -> Layout:
    """InputError where the file is of none, or keeps its objects elsewhere: it must not pass for one without any."""
    if document.tag == "HRSC_Image":
        layout = HRSC2016
    elif document.tag == "annotation":
        layout = VOC if document.find("objects") is None else FAIR1M
    else:
        raise InputError(
            f"an unknown layout: its root is <{_shown(document)}>, <annotation> (Pascal VOC, FAIR1M) or <HRSC_Image> "
            "(HRSC2016) is expected"
        )
    if document.find(layout.objects) is None:
        strangers = [node for node in document if node.tag not in _ABOUT and (len(node) or node.attrib)]
        container = document.find(layout.objects.rpartition("/")[0] or "object")
        strangers += container if container is not None else ()
        missing = layout is HRSC2016 and container is None
        if strangers or missing:
            found = f"found <{_shown(strangers[0])}>" if strangers else "there is no <HRSC_Objects>"
            raise InputError(f"an unknown layout: {layout.name} keeps objects in {layout.objects}, {found}")
    return layout


def _things(document: Element, layout: Layout, where: str) -> Iterator[Thing | Fault]:
    for number, node in enumerate(document.findall(layout.objects), 1):
        try:
            thing = layout.thing(node)
        except InputError as error:
            yield Fault(where, f"object {number}: {error}")
            return
        except (ValueError, OverflowError):
            found = ", ".join(_shown(child) for child in list(node)[:20])
            name = _text(node, "name")[:80]
            yield Fault(where, f"object {number}, '{name}', has {layout.box}; found: {found}")
            return
        if not thing.name:
            yield Fault(where, f"object {number} has no name")
        yield thing


def _parsed(file: Path) -> Element:
    """The root of a file without a document type: entities that expand without end need one."""

    def refuse(*_: object) -> None:
        raise InputError("a document type (DOCTYPE) is not allowed in annotations")

    try:
        data = file.read_bytes()
        scan = expat.ParserCreate()
        scan.StartDoctypeDeclHandler = refuse
        scan.Parse(data, True)
        return ElementTree.fromstring(data)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})") from None
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: encodings
        raise InputError(f"no XML ({error})") from None


def _image(named: str | None, root: Path, stem: str) -> Path:
    name = (named or "").strip()
    if os.path.isfile(root / name):
        return root / name
    if name and not name.lower().endswith(SUFFIXES):
        try:
            return of_stem(root, name)
        except InputError:
            pass  # the image is called as the XML, then
    return of_stem(root, stem)


def _text(node: Element, path: str) -> str:
    return " ".join((node.findtext(path) or "").split())


def _number(node: Element, path: str) -> float:
    return float(node.findtext(path) or "")


def _shown(node: Element) -> str:
    return node.tag[:80]
