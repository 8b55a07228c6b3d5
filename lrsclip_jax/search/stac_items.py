"""The rasters that a STAC catalogue, collection, item or item collection names, at a path or at an address."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from eval.reading import parse_json
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.data.remote import is_address
from lrsclip_jax.errors import InputError

_LARGEST = 1 << 28  # bytes of a document
_VISUAL = ("visual", "rendered_preview", "image", "data")  # keys of the asset that shows a whole item, the best first
_SHOWN_ONLY = {"thumbnail", "overview", "metadata"}


class Asset(NamedTuple):
    """A raster of an item: a name, an absolute path or address, a version where the item tells, a date, a fault."""

    name: str
    href: str
    version: str = ""
    date: datetime | None = None
    fault: str | None = None


def assets_of(source: str, timeout: float) -> Iterator[Asset]:
    """Yields the rasters of all items of `source`, an absolute path or an address.

    Of an item the asset "visual" is taken, or the one that has that role; without one, every raster that is no
    thumbnail. A catalogue is untrusted: one in a folder names files below that folder, or addresses; one at an address
    names addresses alone.

    Raises:
      InputError: it can't be read, or is no STAC.
    """
    try:
        import pystac
    except ImportError:
        raise InputError(f"{source}: a STAC catalogue needs pystac: pip install 'lrsclip_jax[search]'") from None
    from pystac.stac_io import DefaultStacIO

    class Bounded(DefaultStacIO):
        """Reads what the catalogue may name."""

        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            return read_text(str(getattr(source, "href", source)), root, timeout)

    root = source if is_address(source) else str(Path(source).parent)
    document: Any = parse_json(read_text(source, root, timeout), source)
    if not is_address(source):
        root = str(_folder(Path(source), document))
    try:
        if isinstance(document, dict) and document.get("type") == "FeatureCollection":
            features = document.get("features")
            items: Iterable[Any] = [
                pystac.Item.from_dict(feature, href=source, preserve_dict=False) for feature in features or []
            ]
        else:
            found: Any = pystac.read_file(source, stac_io=Bounded())
            items = [found] if isinstance(found, pystac.Item) else found.get_items(recursive=True)
        for item in items:
            yield from _assets(item, root)
    except InputError:
        raise
    except Exception as error:  # pystac raises anything of a document that is none
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{source}: no STAC catalogue, collection or item collection ({said:.200})") from None


def _folder(path: Path, document: Any) -> Path:
    """The folder of the catalogue that a document is part of, if that lies above it; else the document's own."""
    links = document.get("links") if isinstance(document, dict) else None
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == "root" and isinstance(link.get("href"), str):
            root = (path.parent / link["href"]).resolve()
            above = path.resolve().is_relative_to(root.parent)
            if above and root.name in ("catalog.json", "collection.json") and root.is_file():
                return root.parent
    return path.parent


def read_text(href: str, root: str, timeout: float) -> str:
    """Returns a document that a catalogue at `root` names; InputError where it may not or can't be read."""
    if fault := outside(href, root):
        raise InputError(f"{href}: {fault}")
    try:
        if is_address(href):
            with urllib.request.urlopen(href, timeout=timeout) as answer:
                data = answer.read(_LARGEST + 1)
        else:
            with open(href, "rb") as file:
                data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise InputError(f"{href}: over {_LARGEST:,} bytes of JSON")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{href}: not UTF-8") from None
    except urllib.error.HTTPError as error:
        raise InputError(f"{href}: can't be read (HTTP status {error.code})") from None
    except (TimeoutError, OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise InputError(f"{href}: can't be read ({' '.join(str(said).split())})") from None


def outside(href: str, root: str) -> str | None:
    """Returns why a catalogue at `root`, a folder or an address, may not name `href`; None where it may."""
    if is_address(href):
        return None
    if "://" in href or href.startswith("/vsi"):
        return "only paths and addresses (https, http, s3, gs) are read"
    if is_address(root):
        return "a catalogue at an address names a file of this machine"
    if not Path(href).resolve().is_relative_to(Path(root).resolve()):
        return f"the catalogue names a file outside its folder {root}"
    return None


def _assets(item: Any, root: str) -> Iterator[Asset]:
    name = f"{item.collection_id}/{item.id}" if item.collection_id else item.id
    rasters = {key: asset for key, asset in item.assets.items() if _is_raster(asset)}
    visual = [key for key in _VISUAL[:1] if key in rasters]
    visual += [key for key, asset in rasters.items() if "visual" in (asset.roles or ())]
    visual += [key for key in _VISUAL if key in rasters]
    if not rasters:
        yield Asset(name, item.get_self_href() or root, date=item.datetime, fault="the item names no raster")
    for key in visual[:1] or rasters:
        asset = rasters[key]
        href = urllib.parse.unquote(asset.href.removeprefix("file://")) if "://" not in asset.href[5:] else asset.href
        if not is_address(href) and not Path(href).is_absolute():
            href = asset.get_absolute_href() or href
        fields = {**item.properties, **asset.extra_fields}
        version = str(fields.get("file:checksum") or fields.get("updated") or "")
        date = item.datetime or item.common_metadata.start_datetime
        yield Asset(name if visual or len(rasters) == 1 else f"{name}/{key}", href, version, date, outside(href, root))


def _is_raster(asset: Any) -> bool:
    if _SHOWN_ONLY & set(asset.roles or ()):
        return False
    kind = (asset.media_type or "").lower()
    path = urllib.parse.urlsplit(asset.href).path.lower()
    return "tiff" in kind or "jp2" in kind or (not kind and path.endswith(SUFFIXES)) or path.endswith((".tif", ".tiff"))
