"""Semantic localisation with exact ground truth: `python -m benchmarks.selo_mosaics PREPARED --split=test --out=DIR`.

Scenes are n×n tiles, captioned images of one split of a prepared set, pasted in seeded order; each tile is used once.
A query is a caption of a tile that names the tile's class, and its regions are the squares of all tiles of this class.
The folder has AIR-SLT's shape: scenes as JPEG, and anno.json next to them; `lrsclip_jax.embed --data=air-slt:DIR` reads
it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.command import command_line
from lrsclip_jax.data.draws import pick, shuffled, stream
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.mosaic.mosaic_writer import plan_mosaics
from lrsclip_jax.data.prepared.records import Record, RecordReader
from lrsclip_jax.data.preprocessing import resize_and_crop
from lrsclip_jax.errors import InputError, cli


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the folder, anno.json last, and says what is in it."""
    parser = command_line("python -m benchmarks.selo_mosaics", __doc__.split("\n\n")[1])
    parser.add_argument("prepared", metavar="PREPARED", help="a prepared set with captions and labels")
    parser.add_argument("--split", default="test", help="whose images are the tiles; test")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a folder, new or empty")
    parser.add_argument("--n", type=int, default=8, help="tiles in a row; 8")
    parser.add_argument("--tile", type=int, default=256, help="side of a tile in pixels; 256")
    parser.add_argument("--scenes", type=int, help="how many (default: as many as there are tiles for)")
    parser.add_argument("--queries-per-scene", type=int, default=4, help="at most; 4")
    parser.add_argument("--seed", type=int, default=0, help="which tiles lie where, and what is asked; 0")
    options = parser.parse_args(arguments)

    records = RecordReader(options.prepared, options.split)
    most = len(records) // max(options.n, 1) ** 2
    count = most if options.scenes is None else options.scenes
    if not 1 <= count <= most or options.tile < 1 or options.queries_per_scene < 1:
        raise InputError(f"{len(records)} tiles fill 1 to {most} scenes of {options.n}×{options.n}, not {count}")
    options.out.mkdir(parents=True, exist_ok=True)
    if any(options.out.iterdir()):
        raise InputError(f"{options.out} is not empty: choose another --out")
    annotations = []
    plan = plan_mosaics(len(records), options.n, count, options.seed)
    for number, chosen in enumerate(tqdm(plan, unit=" scenes", disable=None, leave=False), 1):
        tiles = [records[index] for index in chosen]
        name = f"{number}.jpg"
        Image.fromarray(paste(tiles, options.tile)).save(options.out / name, quality=95)
        rng = stream(options.seed, number, purpose=1)
        annotations += [
            {"jpg_name": name, "caption": caption, "points": regions(tiles, label, options.tile)}
            for label, caption in queries(tiles, options.queries_per_scene, rng)
        ]
    (options.out / "anno.json").write_text(json.dumps(annotations, indent=1, ensure_ascii=False) + "\n")
    polygons = sum(len(query["points"]) for query in annotations)
    side = options.n * options.tile
    print(f"{options.out}: {count} scenes of {side}×{side}, {len(annotations)} queries, {polygons} polygons")


def paste(tiles: Sequence[Record], side: int) -> np.ndarray:
    """Returns n² images pasted in reading order, uint8 [n·side, n·side, 3]: central squares, resized (bicubic)."""
    n = math.isqrt(len(tiles))
    squares = np.stack([resize_and_crop(read_image(tile.image, name=tile.id), side) for tile in tiles])
    return squares.reshape(n, n, side, side, 3).swapaxes(1, 2).reshape(n * side, n * side, 3)


def queries(tiles: Sequence[Record], count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Returns at most `count` pairs (label, caption), classes and captions drawn by `rng`, no class twice."""
    found = []
    labels = sorted({tile.label for tile in tiles if tile.label})
    for label in shuffled(rng, labels):
        captions = [text for tile in tiles if tile.label == label for text in tile.short if names(text, label)]
        if captions and len(found) < count:
            found.append((label, pick(rng, captions)))
    return found


def names(caption: str, label: str) -> bool:
    """Whether a caption has the name of a class, such as BareLand or bare_land: "bare land", "barelands"."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", label)
    return bool(re.search(rf"\b{' ?'.join(words).removesuffix('s')}(s|es)?\b", caption, re.IGNORECASE))


def regions(tiles: Sequence[Record], label: str, side: int) -> list[list[list[int]]]:
    """Returns the squares of all tiles of a class as polygons [[x, y], …], corners being their outermost pixels.

    A mask that includes its boundary, such as OpenCV's, then has just the tiles' pixels, and no two squares overlap.
    """
    n = math.isqrt(len(tiles))
    corners = [divmod(number, n) for number, tile in enumerate(tiles) if tile.label == label]
    boxes = [(x * side, y * side, (x + 1) * side - 1, (y + 1) * side - 1) for y, x in corners]
    return [[[x0, y0], [x1, y0], [x1, y1], [x0, y1]] for x0, y0, x1, y1 in boxes]


if __name__ == "__main__":
    cli(main)
