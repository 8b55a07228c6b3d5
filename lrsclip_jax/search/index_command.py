"""The command `lrsclip index`: scenes and a checkpoint in, the index of an archive out."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.command import add_subject, command_line, expanded, integers, number, path, whole_number
from eval.embeddings import META
from eval.lock import alone
from eval.output import check_folder
from eval.whole import LOCK
from lrsclip_jax.data.bands import add_layout, rgb_numbers
from lrsclip_jax.data.tiling import add_options
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.search.index_settings import FOLDER, Settings, check_same, known, source_of

EPILOG = """
SOURCE, one or several:
  scene.tif, archive/, "2024/**/*.jp2"  a file, a folder with all below it, a pattern: GeoTIFF, JPEG 2000, photographs
  catalog.json, items.json              a STAC catalogue, collection, item or item collection
  https://…, s3://…, gs://…             a raster, read by requests for ranges of bytes, or a STAC document

examples:
  lrsclip index archive/ --checkpoint=runs/b16 --out=archive.index
  lrsclip index archive/ --checkpoint=runs/b16 --out=archive.index
      the same once more: adds scenes that are new or have changed, drops those that are gone, encodes nothing twice
  lrsclip index sentinel/catalog.json --checkpoint=runs/b16 --bands=4,3,2 --gsd=10 --levels=3 --out=sentinel.index
      tiles of 2.2, 4.5 and 9 km
  lrsclip index s3://bucket/scene.tif --checkpoint=hf:openai/clip-vit-base-patch32 --out=scene.index
  lrsclip search archive.index "two planes next to a terminal"

Tiles are squares on a grid, the last of a row and a column at the edge of the scene. Values of more than 8 bits are
stretched, each band of a scene from its percentiles 2 and 98 to 0 … 255. Masks, transparency, no-data and palettes
count; a tile with data in less than half of it is left out. A scene that can't be read is set aside with its reason,
and tried again by the next command unless the file is damaged and has not changed. A scene at an address counts as
changed when its server says so; of s3:// and gs:// the catalogue's checksum tells.

The index is an embedding set (eval/embeddings.py) with tiles.parquet, GeoParquet 1.1, and scenes.parquet. Photographs
lie at the point that their EXIF data tells. Stopped at any moment, the same command continues.

exit status: 0 done, 2 bad input (one line says what and where)
"""
_SHOWN = 10  # scenes that are set aside, or have no place


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Indexes an archive of imagery, to be searched by text.",
        EPILOG,
        usage="SOURCE… --checkpoint=SRC --out=INDEX [options]",
    )
    add_subject(parse, "source", metavar="SOURCE", help="what to index: see below", many=True)
    add = parse.add_argument
    add("--checkpoint", metavar="SRC", required=True, type=expanded, help="weights, see lrsclip convert --help")
    add("--out", metavar="INDEX", required=True, type=path, help="folder of the index: new, empty, or to be grown")
    add_options(add, "side of a tile in pixels (the model's own, mostly 224)")
    add(
        "--gsd",
        type=number(1e-3, 1e6),
        metavar="M",
        help="metres a pixel: finer scenes are reduced to it (each scene's own)",
    )
    add(
        "--bands",
        type=integers,
        metavar="B,B,B",
        help="one or three bands that are shown, and seen by a model of RGB, e.g. 4,3,2 (the first three)",
    )
    add_layout(add)
    add(
        "--batch-size",
        type=whole_number(1, 2**24),
        metavar="N",
        default=64,
        help="tiles encoded at once, over all devices (64)",
    )
    add("--engine", choices=("here", "ray"), default="here", help="ray: on all machines of a Ray cluster (here)")
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.search.index_command") -> None:
    """Makes or grows the index that the command line names."""
    flags = parser(prog).parse_args(arguments)
    if flags.bands is not None and (len(flags.bands) not in (1, 3) or min(flags.bands) < 1):
        raise InputError(f"--bands={','.join(map(str, flags.bands))}: one or three numbers from 1 are expected")
    for package in ("rasterio", "shapely", "pystac"):
        if not importlib.util.find_spec(package):
            raise InputError(f"indexing needs {package}: pip install 'lrsclip_jax[search]'")
    check_folder(flags.out, _is_begun)
    with alone(flags.out, "lrsclip index"):
        run(flags)


def _is_begun(out: Path) -> bool:
    """Whether a folder may hold an index, finished or not; `run` looks closer."""
    return (out / META).exists() or (out / FOLDER).is_dir()


def run(flags: argparse.Namespace) -> None:
    """Does what the parsed command line says, and prints what the index holds."""
    from lrsclip_jax.search import assembly, index_parts
    from lrsclip_jax.search.catalogues import entries_of
    from lrsclip_jax.search.indexing import compare, scene_rows

    out: Path = flags.out
    assembly.finish(out)
    meta = known(out)
    if meta is None and out.exists() and any(found.name not in (FOLDER, LOCK) for found in out.iterdir()):
        raise InputError(f"{out} is neither empty nor an index: choose another --out")
    checkpoint = source_of(flags.checkpoint)
    sources = [source if "://" in source else str(Path(source).absolute()) for source in flags.source]
    settings = _settings(flags, meta["index"]["tile"] if meta else 1)
    if meta:
        tile = {} if flags.tile is None else {"tile": flags.tile}
        check_same(out, meta, {"checkpoint": checkpoint, "index": {**settings.described(), **tile}})
        _check_sources(out, meta.get("sources", []), sources)
    entries = entries_of(sources)
    change = compare(out, entries, finished=meta is not None)
    if not change.any:
        index_parts.remove(out)
        _say(out, change, [of.row for of in change.kept.values()])
        return
    made = _encode(flags, out, change, settings, meta, sources)
    rows = scene_rows(change, entries, *made[:3])
    assembly.assemble(out, rows, *made[3:])
    _say(out, change, [of.row for of in rows])


def _settings(flags: argparse.Namespace, tile: int) -> Settings:
    tile = tile if flags.tile is None else flags.tile
    bands = flags.bands or rgb_numbers(flags.layout)
    return Settings(tile, flags.overlap, flags.gsd, bands, flags.levels, flags.layout)


def _encode(
    flags: argparse.Namespace,
    out: Path,
    change: Any,
    settings: Settings,
    meta: dict[str, Any] | None,
    sources: list[str],
) -> tuple[Any, ...]:
    """Returns the scenes that were encoded, their parts, faults, and meta.json with the dimension of embeddings."""
    from lrsclip_jax.search.indexing import encode_scenes, survey_scenes

    readable = any(not entry.fault for entry in change.todo)
    if meta and not readable:
        scenes, faults = survey_scenes(change.todo, settings)
        return scenes, {}, faults, {**meta, "sources": sources}, meta["dim"]

    # JAX takes seconds to import: only once the command is known to have something to do.
    from lrsclip_jax import pretrained
    from lrsclip_jax.embed.about_model import about_model

    model = pretrained.load(source_of(flags.checkpoint), batch_size=flags.batch_size, layout=flags.layout)
    if not meta and flags.tile is None:
        settings = _settings(flags, model.preprocessing.size)
    about = {**about_model(model), "dataset": out.name, "index": settings.described(), "sources": sources}
    if meta:
        check_same(out, meta, about)
    scenes, faults = survey_scenes(change.todo, settings)
    plan = {key: about[key] for key in ("checkpoint", "weights", "preprocessing", "dtype", "index")}
    parts, passing = encode_scenes(out, scenes, model, settings, plan, _engine(flags.engine))
    return scenes, parts, {**faults, **passing}, about, model.clip.image.embed_dim


def _engine(name: str) -> Any:
    if name == "ray":
        from lrsclip_jax.search.ray_engine import on_ray

        return on_ray
    from lrsclip_jax.search.indexing import here

    return here


def _check_sources(out: Path, before: Sequence[str], now: Sequence[str]) -> None:
    """A source that is forgotten would silently drop its scenes."""
    if missing := [source for source in before if source not in now]:
        raise InputError(
            f"{out} is of {missing[0]}, too, which the command does not name: name all its sources, or choose another "
            "--out"
        )


def _say(out: Path, change: Any, scenes: Sequence[Mapping[str, Any]]) -> None:
    """Prints what the index holds, and what it could not do."""
    aside = [row for row in scenes if row["status"] != "indexed"]
    tiles, empty = (sum(row[name] for row in scenes) for name in ("tiles", "empty"))
    left_out = f", {empty:,} mostly empty ones left out" if empty else ""
    print(f"{out}: {len(scenes) - len(aside):,} scenes, {tiles:,} tiles{left_out}")
    if change.any:
        print(f"  scenes that are new: {change.new:,}, changed: {change.changed:,}, removed: {change.removed:,}")
    else:
        print("  nothing has changed")
    unplaced = [row for row in scenes if row["status"] == "indexed" and row["reason"]]
    for what, rows in (("set aside", aside), ("note", unplaced)):
        for row in rows[:_SHOWN]:
            print(f"{what}: {row['scene']}: {row['reason']}")
        if len(rows) > _SHOWN:
            print(f"{what}: {len(rows) - _SHOWN:,} more, see {out}/scenes.parquet")


if __name__ == "__main__":
    cli(main)
