"""Images inside tars and prepared sets become files, as every later stage wants a path."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath

from lrsclip_jax.data.formats import TarMember
from lrsclip_jax.errors import InputError


def folder_for(source: Path, extract_to: str | None) -> Path:
    """Returns the folder `extract_to`, which may be new; InputError where none was named, or a file."""
    if not extract_to:
        raise InputError(f"{source}: the option extract_to is needed, a folder where its images become files")
    folder = Path(extract_to).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"extract_to: {extract_to} is no folder")
    return folder


def extract(image: TarMember | bytes, folder: Path, name: str) -> Path:
    """Writes an image as `folder`/`name`, whole or not at all, unless it is there, and returns its path.

    Raises InputError for a name that leads out of the folder or is no name, where a file of that name but of another
    size is there, and for a torn tar.
    """
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or not inside.name or "\0" in name:
        raise InputError(f"{name!r:.80} is no name of an image, or leads out of {folder}")
    path = folder / inside
    size = image.size if isinstance(image, TarMember) else len(image)
    try:
        if path.is_file():
            if path.stat().st_size != size:
                raise InputError(f"{path}: another image is there, extract to another folder or delete it")
            return path
        data = image if isinstance(image, bytes) else _read(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # others, such as a full disk, befall every image
            raise
        raise InputError(f"{name!r:.80}: too long for the name of a file") from None
    return path


def _read(member: TarMember) -> bytes:
    try:
        return member.read_bytes()
    except OSError as error:
        raise InputError(f"{member}: can't be read ({error.strerror})") from None
