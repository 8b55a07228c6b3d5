"""The command `lrsclip search`: an index and a question in, the best tiles out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.command import command_line, expanded, path, whole_number
from eval.output import check_place
from eval.whole import whole
from lrsclip_jax.errors import InputError, cli

EPILOG = """
examples:
  lrsclip search archive.index "two planes next to a terminal"
  lrsclip search archive.index "a harbour with two piers" --not=clouds --bbox=8,53,11,55 --out=found.geojson
  lrsclip search archive.index --image=example.tif --within=county.geojson --since=2023 --until=2024-06 --out=found.gpkg
  lrsclip search archive.index "storage tanks" "a river" --scene='2024/*.tif' --out=found.html --heatmap

Several texts and images weigh the same, together; --not weighs half of them. Of tiles that share ground, whichever
their scene and level, the best counts. --bbox and --within hold what reaches into them; a west above the east goes
across the date line. --since and --until are included.

Every hit has three numbers. Its cosine with the query. Its percentile: per cent of the index's tiles that score no
higher. And z: how far the score lies above those of neutral texts, in standard deviations of texts of things that no
image from above shows, such as a bowl of soup. Where the best z is no higher than what those texts reach, there may be
nothing of what was asked; the line above the hits says so. lrsclip_jax/search/background.py describes it.

--out writes .geojson (RFC 7946), .gpkg (a GeoPackage), .csv, or .html, a page with pictures and a map. --heatmap draws
where within the 12 best tiles the query is: in the page, or as PNG in a folder next to another --out.

--engine=exact (the default) compares with every tile, and keeps 8-bit codes of a large index in its folder `cache`.
--engine=milvus:URI asks a Milvus cluster (http://host:19530) or a Milvus Lite file (archive.db); the first search fills
it, and says how much of what the exact engine finds it finds. It needs .[milvus].

exit status: 0 done, 1 nothing found, 2 bad input (one line says what and where)
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Finds the tiles of an archive that show what a text or an example says.",
        EPILOG,
        usage='INDEX ["text" …] [--image=FILE] [options]',
    )
    add = parse.add_argument
    add("index", metavar="INDEX", type=path, help="a folder that lrsclip index made")
    add("texts", metavar="text", nargs="*", help="what to look for; one of up to 248 tokens, or several")
    add("--image", metavar="FILE", action="append", default=[], type=expanded, help="an example, or several")
    add("--not", dest="negative", metavar="TEXT", action="append", default=[], help="what to stay away from")
    add("--bbox", metavar="W,S,E,N", help="degrees of longitude and latitude, such as 11,47,12,48.5")
    add("--within", metavar="FILE", type=expanded, help="an area: GeoJSON of polygons")
    add("--since", metavar="DATE", help="such as 2024, 2024-05, 2024-05-31 or 2024-05-31T12:00 (UTC)")
    add("--until", metavar="DATE", help="the same; the whole of it counts")
    add("--scene", metavar="NAME", action="append", default=[], help="a scene, or a pattern such as '2024/*.tif'")
    add("--top", metavar="N", type=whole_number(1), default=50, help="hits at most (%(default)s)")
    add("--out", metavar="FILE", type=path, help="found.geojson, .gpkg, .csv or .html")
    add("--heatmap", action="store_true", help="draw where within the best tiles the query is; needs --out")
    add("--engine", metavar="NAME", default="exact", type=expanded, help="exact, or milvus:URI (%(default)s)")
    add("--checkpoint", metavar="SRC", type=expanded, help="weights, where they have moved since the index was made")
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.search.search_command") -> int:
    """Prints the hits that the command line asks for, and writes them; returns the exit status."""
    parse = parser(prog)
    flags, rest = parse.parse_known_intermixed_args(arguments)  # texts may stand between options
    if rest:
        parse.error(f"unknown argument {rest[0]}")
    if flags.heatmap and not flags.out:
        raise InputError("--heatmap needs --out: a page, found.html, or a file next to which the maps are written")
    if flags.out:
        check_place(flags.out)
    from lrsclip_jax.search import open as open_index

    index = open_index(flags.index, flags.checkpoint, flags.engine)  # says which packages are missing
    from lrsclip_jax.search.exports import check_ending
    from lrsclip_jax.search.heatmaps import BEST, heat_pictures

    if flags.out:
        check_ending(flags.out)
    hits = index.search(
        text=flags.texts,
        image=flags.image,
        negative=flags.negative,
        bbox=flags.bbox,
        within=flags.within,
        since=flags.since,
        until=flags.until,
        scenes=flags.scene,
        top=flags.top,
    )
    print(f"{hits.asked}: {len(hits):,} of {hits.tiles:,} tiles" + _of(hits.considered, hits.tiles))
    print(hits.verdict)
    for note in [*hits.notes, *index.engine.notes]:
        print(f"note: {note}")
    for hit in hits:
        print(_line(hit))
    heat: dict[int, np.ndarray] = {}
    if flags.heatmap:
        heat, notes = heat_pictures(index, hits, hits[:BEST])
        for note in notes:
            print(f"note: {note}")
    if flags.out:
        index.write(hits, flags.out, heat)
        print(f"{flags.out}: {len(hits):,} hits")
        if heat and flags.out.suffix.lower() != ".html":
            _write_heat(flags.out, hits, heat)
    return 0 if len(hits) else 1


def _of(considered: int, tiles: int) -> str:
    return f", {considered:,} of which pass the filters" if considered < tiles else ""


def _line(hit) -> str:
    from lrsclip_jax.search.found_page import percentile_words, place_words

    r0, r1, c0, c1 = hit.window
    numbers = f"{hit.rank:4}  {hit.cosine:.4f}  z {hit.z:5.1f}  {percentile_words(hit.percentile):>9}"
    date = f", {hit.date:%Y-%m-%d}" if hit.date else ""
    return f"{numbers}  {hit.scene} rows {r0}–{r1}, columns {c0}–{c1}; {place_words(hit)}{date}"


def _write_heat(out: Path, hits, heat: dict[int, np.ndarray]) -> None:
    from PIL import Image

    folder = out.with_name(f"{out.stem}_heatmaps")
    folder.mkdir(exist_ok=True)
    for hit in hits:
        if hit.row in heat:
            with whole(folder / f"{hit.rank:02d}.png") as partial:
                Image.fromarray(heat[hit.row]).save(partial, "PNG")
    print(f"{folder}: {len(heat):,} heat maps")


if __name__ == "__main__":
    cli(main)
