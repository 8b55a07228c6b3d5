"""Images inside tars, Parquet files and prepared sets become files, as every later stage wants a path."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath

from eval.whole import whole
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Cell, Entry, Item, Member

# How files of each format begin, and the endings of their names.
_FORMATS = {
    b"\xff\xd8\xff": (".jpg", ".jpeg"),
    b"\x89PNG": (".png",),
    b"RIFF": (".webp",),
    b"II": (".tif", ".tiff"),
    b"MM": (".tif", ".tiff"),
    b"BM": (".bmp",),
    b"\0\0\0\x0cjP": (".jp2",),
    b"\xff\x4f\xff\x51": (".jp2",),
}


def folder_for(extract_to: str) -> Path:
    """Returns the folder `extract_to`, which may be new; InputError where a file of that name is there."""
    folder = Path(extract_to).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"extract_to: {extract_to} is no folder")
    return folder


def extracted(item: Item, folder: Path, source: str) -> Path:
    """Writes the image of an item as a file below a folder, unless it is there, and returns its path.

    It is FOLDER/TAR/NAME for a member of a tar, FOLDER/FILE/ID for a cell of a Parquet file, and
    FOLDER/SOURCE/SPLIT/ID for a record of a prepared set; an id gets the suffix of its image's format.

    Raises InputError for an image that can't be read, a name that leads out of the folder or is none, and where a file
    of that name with another content is there: another image, or this one damaged.
    """
    image = item.image
    match image:
        case Member():
            return _written(image, image.size, folder / image.file.stem, image.name)
        case Cell():
            data = _bytes_of(image)
            return _written(data, len(data), folder / image.file.stem, _file_name(item.id, data))
        case Entry():
            data = _bytes_of(image)
            return _written(data, len(data), folder / source / (item.split or ""), _file_name(image.id, data))
    raise InputError("a scene that is still to be drawn: prepare the scenes first")


def _written(image: Member | bytes, size: int, folder: Path, name: str) -> Path:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or not inside.name or "\0" in name:
        raise InputError(f"{name!r:.80} is no name of an image, or leads out of {folder}")
    path = folder / inside
    try:
        there = path.is_file()
        if there and path.stat().st_size != size:
            raise InputError(f"{path}: another image is there, extract to another folder or delete it")
        data = image if isinstance(image, bytes) else _bytes_of(image)
        if there:
            if path.read_bytes() != data:
                raise InputError(f"{path}: another image is there, or it is damaged: delete it, or extract elsewhere")
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # others, such as a full disk, befall every image
            raise
        raise InputError(f"{name!r:.80}: too long for the name of a file") from None
    return path


def _write(path: Path, data: bytes) -> None:
    try:
        with whole(path, durable=False) as partial:
            partial.write_bytes(data)
    except InputError as error:
        raise error.__cause__ or error from None  # the disk's, which ends the run: only this image would be set aside


def _bytes_of(image: Member | Cell | Entry) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise InputError(f"{image}: can't be read ({error.strerror})") from None


def _file_name(id: str, data: bytes) -> str:
    """An id as a path that stays in its folder, with a suffix that tells the format of the image."""
    parts = ["%2E%2E" if part == ".." else part for part in PurePosixPath(id).parts if part != "/"]
    name = "/".join(parts)
    suffixes = next((suffixes for start, suffixes in _FORMATS.items() if data.startswith(start)), ("",))
    return name if name.lower().endswith(suffixes) else name + suffixes[0]
