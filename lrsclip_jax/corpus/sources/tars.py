"""Images inside WebDataset tars become files, as every later stage wants a path."""

from __future__ import annotations

import glob
from pathlib import Path, PurePosixPath

from lrsclip_jax.data.formats import TarMember
from lrsclip_jax.errors import InputError


def tar_files(path: Path) -> list[Path]:
    """Returns the tars that a path names in order: one, those of a folder, or those of a pattern "train-*.tar"."""
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    if path.suffix != ".tar":
        return []
    return [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))


def extract(member: TarMember, folder: Path, name: str) -> Path:
    """Writes a member as `folder`/`name`, whole or not at all, unless it is there, and returns its path.

    Raises InputError for a name that leads out of the folder, and for a torn tar.
    """
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or not inside.name:
        raise InputError(f"{member.tar}: its member is called {name!r:.80}, which leads out of {folder}")
    path = (folder / inside).absolute()
    if path.is_file() and path.stat().st_size == member.size:
        return path
    try:
        data = member.read_bytes()
    except OSError as error:
        raise InputError(f"{member}: can't be read ({error.strerror})") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
    return path
