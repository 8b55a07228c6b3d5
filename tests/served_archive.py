"""A small archive as `lrsclip index` makes it, and a server of its page in a thread: what tests of the page share."""

import contextlib
import threading
import time
from pathlib import Path

import numpy as np
import rasterio
import tiny_clip
from PIL import Image
from rasterio.transform import from_origin
from rasterio.warp import transform as project

from lrsclip_jax.search import index_command

TILE = 64
RED = (120, 136, 40, 56)  # rows and columns of a red square in harbour.tif
ODD = '<b onclick=alert(1)>odd & "name".tif'


def make(folder: Path) -> Path:
    """Makes scenes and their index below `folder`, and returns the index; lost.tif is removed again.

    harbour.tif has a red square; deep.tif is of 16 bits with gaps; fiji.tif lies across the date line; one has a name
    of HTML; nowhere.tif and photo.jpg have no place.
    """
    scenes = folder / "scenes"
    scenes.mkdir()
    rng = np.random.default_rng(0)
    pixels = np.repeat(rng.integers(60, 120, (256, 256, 1), np.uint8), 3, axis=2)
    r0, r1, c0, c1 = RED
    pixels[r0:r1, c0:c1] = (250, 10, 10)
    tiff(scenes / "harbour.tif", pixels, "EPSG:32632", from_origin(356_000, 5_645_000, 2, 2), "2023-07-14")
    deep = rng.integers(200, 4000, (128, 192, 3)).astype(np.uint16)
    deep[:, :20] = 0
    tiff(scenes / "deep.tif", deep, "EPSG:4326", from_origin(-105.0, 40.0, 1e-4, 1e-4), "2024-02-01", nodata=0)
    (x,), (y,) = project("EPSG:4326", "EPSG:3832", [180.0], [-17.0])
    tiff(scenes / "fiji.tif", noise(rng, 128), "EPSG:3832", from_origin(x - 320, y, 10, 10))
    for west, name in ((371_000, ODD), (372_000, "lost.tif")):
        tiff(scenes / name, noise(rng, 64), "EPSG:32632", from_origin(west, 5_645_000, 2, 2))
    tiff(scenes / "nowhere.tif", noise(rng, 64))
    Image.fromarray(rng.integers(0, 255, (80, 96, 3), np.uint8)).save(scenes / "photo.jpg")
    tiny_clip.clip_folder(folder / "clip")
    arguments = [f"--checkpoint={folder / 'clip'}", f"--tile={TILE}", "--overlap=0", f"--out={folder / 'archive'}"]
    index_command.main([str(scenes), *arguments], "lrsclip index")
    (scenes / "lost.tif").unlink()
    return folder / "archive"


def noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """Returns random colours, uint8 [side, side, 3]."""
    return rng.integers(0, 255, (side, side, 3), np.uint8)


def tiff(path: Path, pixels: np.ndarray, crs=None, place=None, date=None, nodata=None) -> None:
    """Writes uint8 or uint16 [H, W, C] as a GeoTIFF."""
    height, width, bands = pixels.shape
    where = {"crs": crs, "transform": place} if crs else {}
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    kind = {"driver": "GTiff", "dtype": pixels.dtype, "nodata": nodata, **blocks}
    with rasterio.open(path, "w", height=height, width=width, count=bands, **where, **kind) as file:
        file.write(pixels.transpose(2, 0, 1))
        if date:
            file.update_tags(TIFFTAG_DATETIME=f"{date.replace('-', ':')} 10:00:00")


@contextlib.contextmanager
def serving(app):
    """Serves an ASGI app from a thread, and yields its address."""
    import uvicorn

    from lrsclip_jax.search.page.serving import listening, settings

    taken = listening("127.0.0.1", 0)
    server = uvicorn.Server(settings(app))
    thread = threading.Thread(target=server.run, args=([taken],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
