"""Do heat maps find what a text names? `python -m benchmarks.heatmaps RUN … --data=SET:test`.

Captioned images of a held-out split are pasted into mosaics of n×n, and one caption of each tile is asked for. A hit:
the hottest patch of the mosaic's heat map for this caption lies in the named tile; or in any tile of its class, for
captions such as "many planes are in an airport" fit several. Next to each model stand untrained ones of the same
architecture: with both projections drawn again between its towers, and with everything drawn again.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from tqdm import tqdm

import lrsclip_jax
from benchmarks.selo_mosaics import paste
from eval.command import command_line
from eval.selo.cells import to_grey
from eval.selo.maps import overlay
from lrsclip_jax.data.draws import pick, stream
from lrsclip_jax.data.mosaic.mosaic_writer import plan_mosaics
from lrsclip_jax.data.prepared.records import RecordReader
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.localise.heatmap import NEUTRAL, heat, patch_encoder, text_directions
from lrsclip_jax.localise.score_maps import HeatSum
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.pretrained import Pretrained

TILE = 112  # pixels of a tile in a mosaic, before the tower's resize
# Not a run's own seed: towers trained through projections drawn from it still fit them (3.9 × chance instead of 1).
UNTRAINED_SEED = 2**31 - 1


@dataclass(frozen=True)
class Mosaics:
    """images: uint8 [M, S, S, 3]; captions: of each mosaic's tiles; same: bool [M, n², n²], tiles of one class."""

    images: np.ndarray
    captions: list[list[str]]
    same: np.ndarray


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, three rows for each model, and draws some heat maps of the first."""
    parser = command_line("python -m benchmarks.heatmaps", __doc__.split("\n\n")[1])
    parser.add_argument("sources", nargs="+", metavar="RUN", help="sources of weights")
    parser.add_argument("--data", required=True, metavar="DIR:SPLIT", help="a prepared set with short texts and labels")
    parser.add_argument("--n", type=int, default=3, help="tiles in a row; 3")
    parser.add_argument("--size", type=int, help="pixels at which the tower sees a mosaic (default: 24 patches)")
    parser.add_argument("--seed", type=int, default=0, help="which tiles and captions; 0")
    parser.add_argument("--no-neutral", action="store_true", help="do not subtract the mean over neutral texts")
    parser.add_argument("--out", type=Path, metavar="PNG", help="draw heat maps of the first model here")
    options = parser.parse_args(arguments)

    mosaics = read(*options.data.rpartition(":")[::2], options.n, options.seed)
    neutral = () if options.no_neutral else NEUTRAL
    named, alike = 100 / options.n**2, 100 * mosaics.same.mean()
    print("| | in the named tile | × chance | in a tile of its class | × chance |")
    print("|---|---:|---:|---:|---:|")
    print(f"| chance | {named:.1f} | | {alike:.1f} | |")
    for source in options.sources:
        model = lrsclip_jax.load(source)
        for words, other in [(source, model), *untrained(model)]:
            found = np.concatenate(list(hits(other, mosaics, options.size, neutral)))
            own, same = 100 * found.mean(axis=0)
            print(f"| {words} | {own:.1f} | {own / named:.2f} | {same:.1f} | {same / alike:.2f} |", flush=True)
        if options.out and source == options.sources[0]:
            draw(model, mosaics, options.size, neutral, options.out)
    print(f"\n{len(mosaics.images)} mosaics, {len(mosaics.images) * options.n**2} captions")


def read(folder: str, split: str, n: int, seed: int) -> Mosaics:
    """Returns as many mosaics as a split has images for; InputError where one lacks a caption or a label."""
    records = RecordReader(folder, split)
    plan = plan_mosaics(len(records), n, max(1, len(records) // n**2), seed)
    images, captions, labels = [], [], []
    for number, chosen in enumerate(plan):
        tiles = [records[index] for index in chosen]
        if poor := [tile.id for tile in tiles if not tile.short or not tile.label]:
            raise InputError(f"{folder}:{split}: {poor[0]} has no short text, or no label")
        rng = stream(seed, number, purpose=1)
        images.append(paste(tiles, TILE))
        captions.append([pick(rng, tile.short) for tile in tiles])
        labels.append([tile.label for tile in tiles])
    labels = np.array(labels)
    return Mosaics(np.stack(images), captions, labels[:, :, None] == labels[:, None, :])


def untrained(model: Pretrained) -> Iterator[tuple[str, Pretrained]]:
    """Yields the model with random projections, and with nothing but random parameters."""
    drawn = jax.jit(lambda: init_params(model.clip, jax.random.key(UNTRAINED_SEED)))()
    projections = {
        tower: model.params[tower] | {"projection": drawn[tower]["projection"]} for tower in ("image", "text")
    }
    yield "… its projections random", dataclasses.replace(model, params={**model.params, **projections})
    yield "… all random", dataclasses.replace(model, params=drawn)


def hits(model: Pretrained, mosaics: Mosaics, size: int | None, neutral: Sequence[str]) -> Iterator[np.ndarray]:
    """Yields for each mosaic, bool [n², 2]: is a caption's hottest patch in its tile, and in a tile of its class?"""
    for heats, same in zip(all_heats(model, mosaics, size, neutral), mosaics.same, strict=True):
        tile = hottest_tile(heats)
        own = np.arange(len(heats))
        yield np.stack([tile == own, same[own, tile]], axis=1)


def all_heats(model: Pretrained, mosaics: Mosaics, size: int | None, neutral: Sequence[str]) -> Iterator[np.ndarray]:
    """Yields for each mosaic the heat of its captions, float32 [n², g, g]."""
    tiles = len(mosaics.captions[0])
    directions = text_directions(model, [caption for captions in mosaics.captions for caption in captions], neutral)
    directions = directions.reshape(len(mosaics.images), tiles, -1)
    encode = patch_encoder(model, size)
    for start in tqdm(range(0, len(mosaics.images), 8), unit=" batches", disable=None, leave=False):
        patches = encode(mosaics.images[start : start + 8])
        for rows, along in zip(patches, directions[start : start + 8], strict=True):
            yield heat(rows[None], along)[0]


def hottest_tile(heats: np.ndarray) -> np.ndarray:
    """Returns in which of n² tiles the middle of the hottest patch lies, from the heat of n² texts, [n², g, g]."""
    n, grid = round(len(heats) ** 0.5), heats.shape[-1]
    row, column = np.divmod(heats.reshape(len(heats), -1).argmax(axis=1), grid)
    place = (2 * np.arange(grid) + 1) * n // (2 * grid)
    return place[row] * n + place[column]


def draw(model: Pretrained, mosaics: Mosaics, size: int | None, neutral: Sequence[str], path: Path) -> None:
    """Draws four mosaics, each with the heat maps of three captions: a frame is the named tile, a cross the hottest."""
    n, side = round(len(mosaics.captions[0]) ** 0.5), len(mosaics.images[0])
    few = Mosaics(mosaics.images[:4], mosaics.captions[:4], mosaics.same[:4])
    figure = Figure(figsize=(13, 3.6 * len(few.images)), layout="constrained")
    grid = figure.subplots(len(few.images), 4, squeeze=False)
    for axes, image, captions, heats in zip(
        grid, few.images, few.captions, all_heats(model, few, size, neutral), strict=True
    ):
        axes[0].imshow(image)
        for axis, tile in zip(axes[1:], np.linspace(0, n * n - 1, 3).astype(int), strict=True):
            total = HeatSum(1, side, side, 1)
            total.add(np.array([[0, side, 0, side]]), heats[None, tile : tile + 1])
            axis.imshow(overlay(image, to_grey(total.mean(0))))
            axis.autoscale(False)
            y, x = divmod(int(tile), n)
            tile_side = side / n
            axis.add_patch(
                Rectangle((x * tile_side, y * tile_side), tile_side, tile_side, fill=False, edgecolor="white", lw=2.5)
            )
            row, column = np.divmod(heats[tile].argmax(), heats.shape[-1])
            patch = side / heats.shape[-1]
            axis.plot((column + 0.5) * patch, (row + 0.5) * patch, "w+", markersize=12, markeredgewidth=2)
            axis.set_title("\n".join(textwrap.wrap(captions[tile], 44)), fontsize=9)
        for axis in axes:
            axis.set_axis_off()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    cli(main)
