"""How long clients of the page wait: `python -m benchmarks.search_page`."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import lrsclip_jax.search
from eval.command import command_line
from eval.embeddings import write_set
from eval.errors import cli
from lrsclip_jax.search import tiles_table
from lrsclip_jax.search.page.app import app_of
from lrsclip_jax.search.page.service import Service
from lrsclip_jax.search.page.serving import listening, settings

_DESCRIPTION = """\
Serves an index of random rows with a checkpoint's text tower, lets clients search it by HTTP, each as fast as it is
answered, and prints the median and the 95th percentile of their waits and how many answers were lost. Texts differ, so
that each is encoded; the server and its clients share the machine.
"""
_SCENE = 100  # tiles of a scene


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line of the table."""
    parser = command_line("python -m benchmarks.search_page", _DESCRIPTION)
    parser.add_argument("--checkpoint", required=True, help="weights, see lrsclip convert --help")
    parser.add_argument("--tiles", type=int, default=100_000, help="%(default)s")
    parser.add_argument("--clients", type=int, default=20, help="%(default)s")
    parser.add_argument("--searches", type=int, default=20, help="of each client; %(default)s")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model = lrsclip_jax.load(options.checkpoint)
        index = write_index(Path(folder) / "index", options.checkpoint, options.tiles, model.clip.image.embed_dim)
        with served(index) as address:
            asked(address, 0)
            begun = time.perf_counter()
            with ThreadPoolExecutor(options.clients) as clients:
                waits = list(clients.map(lambda n: asked(address, n), range(options.clients * options.searches)))
            seconds = time.perf_counter() - begun
    found = 1000 * np.array([wait for wait in waits if wait is not None])
    print("| tiles | clients | searches | lost | median, ms | 95th percentile, ms | searches a second |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    print(
        f"| {options.tiles:,} | {options.clients} | {len(waits):,} | {len(waits) - len(found)} "
        f"| {np.median(found):.0f} | {np.percentile(found, 95):.0f} | {len(found) / seconds:.1f} |"
    )


def asked(address: str, number: int) -> float | None:
    """Returns how long a search takes, in seconds; None where it is not answered with hits."""
    text = urllib.parse.quote(f"{number} planes beside terminal {number * 7919}")
    begun = time.perf_counter()
    try:
        with urllib.request.urlopen(f"{address}/api/search?text={text}", timeout=120) as answer:
            hits = json.load(answer)["features"]
    except OSError:
        return None
    return time.perf_counter() - begun if len(hits) == 50 else None


def write_index(folder: Path, checkpoint: str, tiles: int, dim: int) -> Path:
    """Writes an index of random unit rows, its tiles on a grid near the equator without thumbnails."""
    import shapely

    rng = np.random.default_rng(0)
    rows, scenes = [], []
    side = int(np.ceil(np.sqrt(tiles)))
    for number in range(tiles):
        scene, (row, column) = f"scene_{number // _SCENE:05}.tif", divmod(number, side)
        box = (column * 0.002, row * 0.002, column * 0.002 + 0.002, row * 0.002 + 0.002)
        edges = dict(zip(("row_start", "row_stop", "col_start", "col_stop"), (0, 224, 0, 224), strict=True))
        edges |= {"col_start": number % _SCENE * 224, "col_stop": number % _SCENE * 224 + 224}
        bbox = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        shape = shapely.to_wkb(shapely.box(*box))
        rows.append({"id": f"{scene}#{number}", "scene": scene, "level": 0, "geometry": shape, "bbox": bbox, **edges})
    for number in range(-(-tiles // _SCENE)):
        of = {"scene": f"scene_{number:05}.tif", "source": "/nowhere", "height": 224, "width": 224 * _SCENE}
        scenes.append(of | {"tiles": _SCENE, "status": tiles_table.INDEXED})
    meta = {"model": "random", "checkpoint": checkpoint, "dataset": "random", "features": "projected"}
    of_row = [{"id": row["id"]} for row in rows]
    write_set(folder, meta | {"index": {"version": 1, "tile": 224}}, rng.normal(size=(tiles, dim)), None, of_row)
    tiles_table.write_tiles(folder / tiles_table.TILES, [tiles_table.tile_table(rows)])
    tiles_table.write_scenes(folder / tiles_table.SCENES, scenes)
    return folder


@contextlib.contextmanager
def served(index: Path) -> Iterator[str]:
    """Serves an index from a thread, and gives its address when the model is loaded."""
    import uvicorn

    service, taken = Service(lrsclip_jax.search.open(index)), listening("127.0.0.1", 0)
    server = uvicorn.Server(settings(app_of(service)))
    thread = threading.Thread(target=server.run, args=([taken],))
    thread.start()
    try:
        while not (server.started and service.readiness.ready) or service.readiness.working:
            time.sleep(0.1)
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    cli(main)
