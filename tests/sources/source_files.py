"""What tests of sources write, and how they look at what comes back."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from lrsclip_jax.sources import Fault, Item


def write(path: Path, content: object, encoding: str = "utf-8") -> str:
    """Writes a text as it is, anything else as JSON, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode(encoding))
    return str(path)


def lines(rows: list) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def split_up(source) -> tuple[list[Item], list[Fault]]:
    """The items of a source, and its faults."""
    found = list(source)
    return [one for one in found if isinstance(one, Item)], [one for one in found if isinstance(one, Fault)]


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(value))
    return path


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
