"""Mosaics: n×n captioned tiles pasted into one image, under one long caption composed of theirs and their places.

They are long text over real pixels, with exact ground truth for localisation: which words speak of which square.

    lrsclip mosaic PREPARED --split=train --n=3 --out=DIR
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.file_names import spelled
from eval.lock import alone
from eval.output import check_folder
from eval.reading import read_json
from eval.whole import whole, write_text
from lrsclip_jax.data.draws import shuffled, stream
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.mosaic.mosaic_text import MAX_TOKENS, CountTokens, choose_clauses, clause, describe, summaries
from lrsclip_jax.data.prepared.records import Record, RecordReader, RecordWriter, encoded
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.data.preprocessing import check_side, resize_and_crop
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError

_BEGUN = ".mosaic-{}.json"  # of a split: what an unfinished one is to be
MAX_SHORT_TOKENS = 60  # with start and end: within a context of 77
SHARD_SIZE = 4096


@dataclass(frozen=True)
class Region:
    """A tile of a mosaic: its number in reading order, its record, what is said of it, and its square in pixels."""

    tile: int
    id: str
    caption: str
    label: str | None
    box: tuple[int, int, int, int]  # x0, y0, x1, y1


@dataclass(frozen=True)
class Mosaic:
    """image: uint8 [n·t, n·t, 3]; long: its tiles' captions with their places; short: one or two summaries."""

    image: np.ndarray
    long: str
    short: tuple[str, ...]
    regions: tuple[Region, ...]


def plan_mosaics(tiles: int, n: int, count: int, seed: int) -> list[list[int]]:
    """Returns, for each of `count` mosaics, the numbers of its n² tiles out of `tiles`, in reading order.

    Tiles are dealt like cards: shuffled by (seed, deal), n² to a mosaic, and shuffled again when fewer are left.
    So no tile is twice in a mosaic, all are used about equally often, and mosaic i is the same for any `count`.
    Raises InputError for n below 2 and for too few tiles.
    """
    if n < 2:
        raise InputError(f"mosaics of {n}×{n} tiles: n must be at least 2")
    if tiles < n * n:
        raise InputError(f"a mosaic of {n}×{n} tiles needs {n * n} captioned images, there are {tiles}")
    mosaics: list[list[int]] = []
    deal = 0
    while len(mosaics) < count:
        deck = shuffled(stream(seed, deal), range(tiles))
        mosaics += [deck[start : start + n * n] for start in range(0, tiles - n * n + 1, n * n)]
        deal += 1
    return mosaics[:count]


def compose(
    tiles: Sequence[Record],
    tile_size: int,
    rng: np.random.Generator,
    count_tokens: CountTokens,
    max_tokens: int = MAX_TOKENS,
    summary: bool = False,
) -> Mosaic:
    """Returns the mosaic of n² records, in reading order: central squares, `tile_size` pixels wide.

    A tile speaks through one of its short texts (of its long ones where it has none), drawn by `rng`; the whole
    keeps to `max_tokens` as `count_tokens` counts them. With `summary` the long text begins with one, and has a
    sentence for each tile. Raises InputError when that is impossible, when the number of tiles is no square, for an
    image that can't be read, and for a summary of a tile without a label.
    """
    n = math.isqrt(len(tiles))
    if n < 2 or n * n != len(tiles):
        raise InputError(f"a mosaic of {len(tiles)} tiles: give it a square number of them, such as 9")
    options = [[clause(text) for text in tile.short or tile.long] for tile in tiles]
    unknown = next((tile.id for tile in tiles if not tile.label), None)
    if summary and unknown is not None:
        raise InputError(f"--summary: {unknown} has no label, of which a summary is made")
    labels = [tile.label for tile in tiles if tile.label] if summary else []
    clauses = choose_clauses(options, rng, count_tokens, max_tokens, labels)
    short = summaries(clauses, [tile.label for tile in tiles], rng)
    image = np.empty((n * tile_size, n * tile_size, 3), np.uint8)
    regions = []
    for number, (tile, caption) in enumerate(zip(tiles, clauses, strict=True)):
        y, x = (tile_size * i for i in divmod(number, n))
        square = resize_and_crop(read_image(tile.image, name=tile.id), tile_size)
        image[y : y + tile_size, x : x + tile_size] = square
        regions.append(Region(number, tile.id, caption, tile.label, (x, y, x + tile_size, y + tile_size)))
    return Mosaic(
        image=image,
        long=describe(clauses, labels),
        short=tuple(text for text in short if count_tokens(text) <= MAX_SHORT_TOKENS),
        regions=tuple(regions),
    )


def write_mosaics(
    records: RecordReader,
    out: Path,
    n: int,
    count: int,
    size: int,
    seed: int,
    max_tokens: int = MAX_TOKENS,
    summary: bool = False,
) -> None:
    """Writes `count` mosaics, `size` pixels wide at most, of one split of a prepared set as that split of another.

    Next to the shards lies regions-SPLIT.jsonl: a line for every tile of every mosaic, with the mosaic's `id`,
    `tile` number, `caption`, `label`, the tile's own `record`, and its `polygon` in pixels. `out` is new, or holds
    mosaics of other splits, or what the same call had written when it was stopped: that is written again. Raises
    InputError otherwise, and where `plan_mosaics` or `compose` do.
    """
    plan = plan_mosaics(len(records), n, count, seed)
    check_side(size, "mosaics")
    if size < n:
        raise InputError(f"mosaics of {n}×{n} tiles in {size} pixels: a tile needs at least one")
    check_out(out)
    asked = {"n": n, "count": count, "size": size, "seed": seed, "max_tokens": max_tokens, "tiles": len(records)}
    asked |= {"summary": 1} if summary else {}
    with alone(out, "lrsclip mosaic"), _begun(out, records.split, asked) as regions_path:
        _write(records, plan, regions_path, n, size, seed, max_tokens, summary)


def _write(
    records: RecordReader,
    plan: list[list[int]],
    regions_path: Path,
    n: int,
    size: int,
    seed: int,
    max_tokens: int,
    summary: bool,
) -> None:
    out, count = regions_path.parent, len(plan)
    tokenizer = clip_tokenizer()

    def count_tokens(text: str) -> int:
        return len(tokenizer.encode([text])[0])

    shards = -(-count // SHARD_SIZE)
    with whole(regions_path) as partial:
        with partial.open("w") as regions, tqdm(total=count, unit=" mosaics", mininterval=1) as bar:
            for shard in range(shards):
                with RecordWriter(out, records.split, shard, shards) as writer:
                    for index in range(shard * SHARD_SIZE, min(count, (shard + 1) * SHARD_SIZE)):
                        name = f"mosaic-{n}x{n}-{seed}-{records.split}-{index}"
                        tiles = [records[number] for number in plan[index]]
                        rng = stream(seed, index, purpose=1)
                        mosaic = compose(tiles, size // n, rng, count_tokens, max_tokens, summary)
                        writer.write(_record(name, mosaic, tiles))
                        regions.writelines(_region_line(name, region) for region in mosaic.regions)
                        bar.update()
        write_metadata(out, [tokenizer.hash], f"{n}×{n} mosaics of {spelled(records.folder.name)}, seed {seed}")


def check_out(out: Path) -> None:
    """Raises InputError unless `out` is new or holds mosaics, finished or not; see `eval.output.check_folder`."""
    check_folder(out, lambda folder: any(folder.glob("regions-*.jsonl")) or any(folder.glob(_BEGUN.format("*"))))


@contextlib.contextmanager
def _begun(out: Path, split: str, asked: dict[str, int]) -> Iterator[Path]:
    """Yields the path of the regions of a split. A file next to it tells what was asked for until all is written."""
    regions, begun = out / f"regions-{split}.jsonl", out / _BEGUN.format(split)
    if begun.exists():
        before: dict[str, int] = read_json(begun, dict[str, int])
        if differ := sorted(name for name in asked | before if asked.get(name) != before.get(name)):
            raise InputError(f"{out} was begun with other {', '.join(differ)}: choose another --out, or delete it")
    elif regions.exists():
        raise InputError(f"{out} already holds mosaics of this split ({regions.name}): choose another --out")
    write_text(begun, json.dumps(asked))
    yield regions
    begun.unlink()


def _record(name: str, mosaic: Mosaic, tiles: Sequence[Record]) -> Record:
    file = io.BytesIO()
    Image.fromarray(mosaic.image).save(file, "JPEG", quality=92)
    tokenizer = clip_tokenizer()
    licences = {tile.licence for tile in tiles}
    return Record(
        id=name,
        source="mosaic",
        image=file.getvalue(),
        long=(mosaic.long,),
        short=mosaic.short,
        licence=licences.pop() if len(licences) == 1 else None,
        tokens={tokenizer.hash: encoded(tokenizer, [mosaic.long], mosaic.short)},
    )


def _region_line(name: str, region: Region) -> str:
    x0, y0, x1, y1 = region.box
    fields = {
        "id": name,
        "tile": region.tile,
        "caption": region.caption,
        "label": region.label,
        "record": region.id,
        "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]],
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"
