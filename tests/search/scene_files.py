"""Small scenes of every kind, and an archive of them."""

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

UTM = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_300_000, 10, 10)}


def write_tiff(path: Path, values: np.ndarray, **how) -> Path:
    """Writes bands [B, H, W] as a tiled GeoTIFF; `how` is of rasterio.open, and "colormap", "mask", "overviews"."""
    colormap, mask, overviews = (how.pop(name, None) for name in ("colormap", "mask", "overviews"))
    count, height, width = values.shape
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64} if min(height, width) > 64 else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", **shape, **tiled, **how) as file,
    ):
        file.write(values)
        if colormap:
            file.write_colormap(1, colormap)
        if mask is not None:
            file.write_mask(mask)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews(overviews, rasterio.enums.Resampling.average)
    return path


def noise(bands: int, height: int, width: int, dtype=np.uint8, low: float = 1, high: float = 255, seed: int = 0):
    """Bands of blobs, so that resampling changes little: [B, H, W]."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(low, high, (bands, -(-height // 8), -(-width // 8)))
    return np.kron(small, np.ones((8, 8)))[:, :height, :width].astype(dtype)


def photograph(path: Path, exif: Image.Exif | None = None, size: int = 100, seed: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = noise(3, size, size, seed=seed).transpose(1, 2, 0)
    Image.fromarray(pixels).save(
        path, **({"exif": exif} if exif else {}), **({"quality": 95} if path.suffix == ".jpg" else {})
    )
    return path


def archive(folder: Path) -> Path:
    """A scene of every kind: 8 and 16 bits, floats, mask, alpha, palette, sparse, without a place, a photograph."""
    write_tiff(folder / "rgb.tif", noise(3, 150, 200), **UTM)
    deep = noise(4, 120, 120, np.uint16, 200, 4000, seed=1)
    deep[:, :60] = 0
    write_tiff(folder / "deep" / "sixteen.tif", deep, nodata=0, **UTM)
    floats = noise(1, 100, 90, np.float32, -3, 3, seed=2)
    floats[:, :, 60:] = np.nan
    write_tiff(folder / "deep" / "float.tif", floats, **UTM)
    mask = np.zeros((130, 100), np.uint8)
    mask[50:] = 255
    write_tiff(folder / "mask.tif", noise(3, 130, 100, seed=3), mask=mask, **UTM)
    alpha = noise(4, 100, 130, seed=4)
    alpha[3] = 255
    alpha[3, :, 70:] = 0
    write_tiff(folder / "alpha.tif", alpha, photometric="RGB", alpha="YES", **UTM)
    colours = {value: (value, 255 - value, value // 2, 255) for value in range(256)}
    write_tiff(folder / "palette.tif", noise(1, 70, 70, seed=5), colormap=colours, photometric="palette", **UTM)
    with rasterio.open(
        folder / "sparse.tif", "w", driver="GTiff", count=1, height=256, width=256, dtype="uint8", tiled=True,
        blockxsize=64, blockysize=64, sparse_ok=True, **UTM,
    ) as file:  # fmt: skip
        file.write(noise(1, 64, 64, seed=6), window=((64, 128), (128, 192)))
    write_tiff(folder / "nowhere.tif", noise(3, 64, 64, seed=7))
    photograph(folder / "photos" / "one.png")
    return folder
