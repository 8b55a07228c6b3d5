"""Folders of images: in folders of their classes, with a list of Hugging Face's imagefolder, or just images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from eval.facts import classes
from lrsclip_jax.data.bands import LAYOUTS
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.json_kinds import read_json
from lrsclip_jax.sources.listing import Parts, images_below, metadata_files, split_of_folder
from lrsclip_jax.sources.numbering import numbered
from lrsclip_jax.sources.row_values import caption_of_label, clean_name
from lrsclip_jax.sources.source import TEMPLATE, Reading, Source
from lrsclip_jax.sources.tables import read_table


@dataclass
class _Layout:
    """How images lie below a folder: how many at each depth, an example of each, and the names of their folders."""

    images: Counter[int] = field(default_factory=Counter)
    example: dict[int, str] = field(default_factory=dict)
    labels: dict[int, set[str]] = field(default_factory=dict)
    tops: dict[int, set[str]] = field(default_factory=dict)

    def add(self, parts: Parts) -> None:
        depth = len(parts) - 1
        self.images[depth] += 1
        self.example.setdefault(depth, "/".join(parts))
        if depth:
            self.labels.setdefault(depth, set()).add(parts[-2])
            self.tops.setdefault(depth, set()).add(parts[0])


def read_folder(path: Path, reading: Reading) -> Source:
    """Opens a folder of images.

    Class folders may lie deeper than one level, all of them equally deep: the label is the name of an image's own
    folder (RSI-CB has folders of categories around them), and the split is the first folder's where all of those are
    called after splits. Images at another depth are left out, with a note.

    Raises InputError where there are no images, or with `folders` "captions" none in class folders.
    """
    layout = _Layout()
    for parts in images_below(path):
        layout.add(parts)
    if not layout.images and reading.folders != "captions":
        raise InputError(f"{path}: no images in it ({', '.join(SUFFIXES)})")
    template = reading.template or TEMPLATE if reading.folders == "captions" else None
    if template and "{class}" not in template:
        raise InputError(f"the template '{template}' has no {{class}} in it")
    depth = _depth_of_classes(layout, reading.folders)
    if depth is None and reading.folders == "captions":
        raise InputError(f"{path}: no images in its subfolders; class folders or .tar files are expected there")
    splits = bool(depth and depth > 1 and all(map(split_of_folder, layout.tops[depth])))

    def stream() -> Iterator[Item | Fault]:
        for parts in images_below(path):
            if depth is None:
                yield _item(path, parts, None, None)
            elif len(parts) == depth + 1:
                yield _item(path, parts, parts[-2], template, parts[0].lower() if splits else None)

    return Source(path.name, lambda: numbered(stream()), notes=tuple(_notes(path, layout, depth)))


def read_eurosat_ms(folder: str, reading: Reading) -> Source:
    """Opens the multispectral EuroSAT (Helber et al., doi:10.5281/zenodo.7711810): FOLDER/Forest/Forest_1.tif, ….

    Its 13 bands lie in the order B01 to B12, then B8A. Raises InputError as `read_folder`, and for other classes.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise InputError(f"eurosat-ms:{folder}: no such folder")
    source = read_folder(path, replace(reading, folders="captions" if reading.folders == "captions" else "labels"))
    try:
        classes.dataset("eurosat").words({str(item.label) for item in source.stream() if isinstance(item, Item)})
    except InputError as error:
        raise InputError(f"eurosat-ms:{folder}: {error}") from None
    note = "published numbers on EuroSAT are mostly of its RGB images, these have 13 bands"
    return replace(source, layout=LAYOUTS["eurosat"], notes=(*source.notes, note))


def _depth_of_classes(layout: _Layout, folders: str) -> int | None:
    """How many folders are above each image in class folders; None where there are none."""
    nested = Counter({depth: count for depth, count in layout.images.items() if depth})
    if not nested:
        return None
    (depth, count), *_ = nested.most_common(1)
    labels = layout.labels[depth]
    if all(map(split_of_folder, labels)):
        return None
    if folders == "known" and (len(labels) < 2 or not _are_known(labels) or 2 * count < layout.images.total()):
        return None
    return depth


def _are_known(labels: set[str]) -> bool:
    """Whether names are all classes of one known data set."""
    for name in classes.datasets():
        try:
            classes.dataset(name).words(labels)
        except InputError:
            continue
        return True
    return False


def _notes(path: Path, layout: _Layout, depth: int | None) -> Iterator[str]:
    total = layout.images.total()
    if depth is None:
        folders = max((len(names) for names in layout.labels.values()), default=0)
        if folders > 1:
            yield (
                f"the {folders:,} subfolders of {path.name} are not those of a known data set: images have no labels; "
                "--labels=folders takes the names of folders for classes"
            )
    elif left_out := total - layout.images[depth]:
        example = next(example for other, example in layout.example.items() if other != depth)
        yield f"{left_out:,} of {total:,} images lie at another depth than the others ({clean_name(example)}): left out"


def _item(root: Path, parts: Parts, label: str | None, template: str | None, split: str | None = None) -> Item:
    file, name = root.joinpath(*parts), clean_name("/".join(parts))
    label = clean_name(label) if label else None
    short = (caption_of_label(label, template),) if label and template else ()
    return Item(name, root.name, file, short=short, label=label, split=split, where=name)


def read_imagefolder(path: Path, reading: Reading) -> Source:
    """Opens Hugging Face's imagefolder: images with a metadata.jsonl or metadata.csv that calls them by `file_name`.

    Where each split has a folder with a list of its own, the split is the folder's name.
    """
    parts = [(file.parent.relative_to(path), _read_list(file, reading)) for file in metadata_files(path)]

    def stream() -> Iterator[Item | Fault]:
        for folder, source in parts:
            split = next(filter(None, map(split_of_folder, folder.parts)), None)
            for item in source.stream():
                if isinstance(item, Item):
                    name = f"{folder.as_posix()}/{item.id}" if folder.parts else item.id
                    item = replace(item, id=clean_name(name), split=item.split or split)
                yield item

    return Source(
        path.name, lambda: numbered(stream()), notes=tuple(note for _, source in parts for note in source.notes)
    )


def _read_list(file: Path, reading: Reading) -> Source:
    return read_table(file, reading) if file.suffix == ".csv" else read_json(file, reading)
