"""Pascal VOC's XML files of objects, one an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Thing
from lrsclip_jax.corpus.sources.origin import Origin
from lrsclip_jax.corpus.sources.pictures import of_stem
from lrsclip_jax.errors import InputError


def read(path: Path, origin: Origin) -> Iterator[CorpusRecord | SetAside]:
    """Reads a folder of XML files, or one of them, in the order of their names.

    VOC counts pixels from 1 and its boxes include their last ones: (1, 1, w, h) becomes (0, 0, w, h). The image is the
    file that the XML names or, where that is not there, the one that is called as the XML. Object parts are no objects.
    """
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no .xml files there")
    for file in files:
        try:
            root = _parsed(file)
            image = origin.root / (root.findtext("filename") or "").strip()
            if not image.is_file():
                image = of_stem(origin.root, file.stem)
            said = _size(root)
        except InputError as error:
            yield origin.set_aside(file.stem, str(error))
            continue
        yield origin.annotated(image, _things(root, file.name), file.name, said)


def _parsed(file: Path) -> ElementTree.Element:
    """The root of a file without a document type: entities that expand without end need one."""

    def refuse(*_: object) -> None:
        raise InputError(f"{file}: a document type (DOCTYPE) is not allowed in annotations")

    try:
        data = file.read_bytes()
        scan = expat.ParserCreate()
        scan.StartDoctypeDeclHandler = refuse
        scan.Parse(data, True)
        return ElementTree.fromstring(data)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror})") from None
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: encodings
        raise InputError(f"{file}: no XML ({error})") from None


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    values = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    # Annotation programs write 0 where they did not know.
    return (int(values[0]), int(values[1])) if all(v.isdigit() and int(v) for v in values) else None


def _things(root: ElementTree.Element, where: str) -> Iterator[Thing]:
    for number, node in enumerate(root.findall("object"), 1):
        name = " ".join((node.findtext("name") or "").split())
        try:
            x0, y0, x1, y1 = (float(node.findtext(f"bndbox/{edge}") or "") for edge in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError:
            raise InputError(f"{where}: object {number}, '{name}', has no box of four numbers") from None
        if not name:
            raise InputError(f"{where}: object {number} has no name")
        yield Thing(name, (x0 - 1, y0 - 1, x1, y1))
