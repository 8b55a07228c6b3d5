"""What an index of an archive costs: `python -m benchmarks.search`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from eval.command import command_line
from eval.errors import InputError, cli
from lrsclip_jax import pretrained
from lrsclip_jax.convert.export import export
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.search.assembly import assemble
from lrsclip_jax.search.catalogues import entries_of
from lrsclip_jax.search.index_settings import Settings
from lrsclip_jax.search.indexing import compare, encode_scenes, here, scene_rows, survey_scenes

_DESCRIPTION = """\
Indexes one GeoTIFF of many tiles (RGB, deflate, blocks of 256 pixels, tiles overlap by a quarter) with ViT-B/32 of
random weights, and encodes as many tiles that lie in memory before and after. Prints a Markdown table: tiles a
second, and the share of what memory gives. The model is loaded and compiled before.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = command_line("python -m benchmarks.search", _DESCRIPTION)
    parser.add_argument("--side", type=int, default=4096, help="of the scene in pixels; %(default)s")
    parser.add_argument("--dtype", choices=("uint8", "uint16"), default="uint8", help="of its values; %(default)s")
    options = parser.parse_args(arguments)
    if options.side < 256:
        raise InputError(f"--side={options.side}: at least 256")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _model(folder / "model")
        scene = _scene(folder / "scene.tif", options.side, np.dtype(options.dtype))
        settings = Settings(CLIP_PREPROCESSING.size)
        entries = entries_of([str(scene)])
        [tiled], _ = survey_scenes(entries, settings)
        tiles = len(tiled.windows)
        pixels = np.random.default_rng(0).integers(0, 256, (model.batch_size, 224, 224, 3), np.uint8)

        def from_memory() -> float:
            return _seconds(lambda: list(model.encoded("image", (pixels[n % len(pixels)] for n in range(tiles // 2)))))

        def index() -> None:
            out = folder / "index"
            out.mkdir()
            change = compare(out, entries, finished=False)
            scenes, faults = survey_scenes(entries, settings)
            parts, _ = encode_scenes(out, scenes, model, settings, {}, here)
            assemble(out, scene_rows(change, entries, scenes, parts, faults), {}, 512)

        list(model.encoded("image", pixels))  # compiles
        before = from_memory()
        indexed = _seconds(index)
        memory = 2 * (tiles // 2) / (before + from_memory())
    print("| tiles | from memory, tiles a second | lrsclip index, tiles a second | share |")
    print("|---:|---:|---:|---:|")
    print(f"| {tiles:,} | {memory:.1f} | {tiles / indexed:.1f} | {tiles / indexed / memory:.2f} |")


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _model(folder: Path) -> pretrained.Pretrained:
    model = zoo.create("vitb32")
    folder.mkdir()
    params = init_params(model, jax.random.key(0))
    export(model, params, CLIP_PREPROCESSING, format="hf", out=folder, source="random weights")
    return pretrained.load(folder)


def _scene(path: Path, side: int, dtype: np.dtype) -> Path:
    import rasterio
    from rasterio.transform import from_origin

    rng = np.random.default_rng(0)
    form = {"height": side, "width": side, "count": 3, "dtype": dtype, "driver": "GTiff", "compress": "deflate"}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    place = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_300_000, 0.5, 0.5)}
    with rasterio.open(path, "w", **form, **blocks, **place) as file:
        for top in range(0, side, 256):
            rows = min(256, side - top)
            small = rng.integers(0, np.iinfo(dtype).max, (3, -(-rows // 4), -(-side // 4)), dtype)
            strip = np.repeat(np.repeat(small, 4, axis=1), 4, axis=2)[:, :rows, :side]
            file.write(strip, window=((top, top + rows), (0, side)))
    return path


if __name__ == "__main__":
    cli(main)
