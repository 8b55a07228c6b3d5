"""Readers agree: `read_image` from a path and from bytes, and a scene by windows, with NumPy, Pillow and rasterio."""

import io
import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.data.images import read_image, size_of
from lrsclip_jax.data.rasters import RasterScene, Scene, open_scene
from lrsclip_jax.errors import InputError

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
STORED = {
    "plain": {},
    "tiled": {"compress": "deflate", "tiled": True, "blockxsize": 32, "blockysize": 16},
    "predictor": {"compress": "lzw", "predictor": 2},
    "zstd": {"compress": "zstd"},
    "lerc": {"compress": "lerc"},
    "webp": {"compress": "webp", "WEBP_LOSSLESS": True},
    "jpeg": {"compress": "jpeg"},
    "ycbcr": {"compress": "jpeg", "photometric": "ycbcr"},
    "nodata": {"nodata": 7},
    "apart": {"interleave": "band"},
    "white": {"photometric": "miniswhite"},
    "cmyk": {"photometric": "cmyk"},
    "premultiplied": {"photometric": "rgb", "ALPHA": "PREMULTIPLIED"},
    "1 bit": {"nbits": 1},
    "4 bits": {"nbits": 4},
    "12 bits": {"nbits": 12},
    "big": {"BIGTIFF": "YES", "ENDIANNESS": "BIG"},
}


def write(path, values, driver="GTiff", **how):
    """Writes bands [B, H, W]; skips what this GDAL can't write."""
    count, height, width = values.shape
    how = {"driver": driver, "count": count, "height": height, "width": width, "dtype": values.dtype} | how
    try:
        with rasterio.open(path, "w", **how) as file:
            file.write(values)
    except Exception as error:
        pytest.skip(f"can't be written: {error}")
    return path


def stretched(band, valid=None):
    low, high = np.percentile(band[valid] if valid is not None else band, (2, 98))
    scaled = np.rint(np.clip((band.astype(np.float64) - low) / (high - low), 0, 1) * 255)
    return scaled if valid is None else np.where(valid, scaled, 0)


def whole(scene):
    return scene.read((0, scene.height, 0, scene.width))


def agreed(path, bands=None):
    """The pixels that all readers give."""
    pixels = np.asarray(read_image(path, bands))
    np.testing.assert_array_equal(np.asarray(read_image(path.read_bytes(), bands)), pixels)
    scene = open_scene(path, bands)
    np.testing.assert_array_equal(whole(scene), pixels)
    np.testing.assert_array_equal(scene.read((3, 20, 5, 31)), pixels[3:20, 5:31])
    assert size_of(path) == (scene.width, scene.height) == pixels.shape[1::-1]
    return pixels


@pytest.mark.slow
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(
    "kind",
    [
        *("uint8", "uint16", "float32"),
        *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("int8", "int16", "int32", "float64")),
    ],
)
def test_all_readers_agree_on_a_tiff(tmp_path, kind, stored):
    written = 0
    for count in (1, 2, 3, 4, 5):
        values = np.random.default_rng(count).normal(60, 30, (count, 40, 50))
        least = 0 if kind[0] == "u" else -127
        values = np.clip(values, least, 2 ** STORED[stored].get("nbits", 6) - 1).astype(kind)
        values[:, :5, :5] = 7
        path = tmp_path / f"{count}.tif"
        try:
            write(path, values, **STORED[stored])
        except pytest.skip.Exception:
            continue
        written += 1
        agreed(path)
        agreed(path, (1,))
        if count > 2:
            agreed(path, (3, 2, 1))
    if not written:
        pytest.skip("nothing to write")


@pytest.mark.parametrize("kind", ["int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_what_is_not_8_bit_and_unsigned_is_stretched_as_numpy_does(tmp_path, kind):
    values = np.random.default_rng(0).normal(0 if kind[0] != "u" else 90, 30, (4, 40, 50)).clip(-99, 120)
    values = values.clip(0 if kind[0] == "u" else None).astype(kind)
    for nodata in (None, 7):
        values[:, :9, :9] = 7
        pixels = agreed(write(tmp_path / f"{nodata}.tif", values, nodata=nodata))
        for band in range(3):
            valid = values[band] != nodata if nodata else None
            np.testing.assert_array_equal(pixels[..., band], stretched(values[band], valid))


@pytest.mark.parametrize("compress", ["webp", "deflate", "zstd", "lerc"])
def test_8_bit_bands_come_out_as_they_went_in_with_any_compression(tmp_path, compress):
    values = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    how = {"WEBP_LOSSLESS": True} if compress == "webp" else {}
    pixels = agreed(write(tmp_path / "a.tif", values, compress=compress, nodata=9, **how))
    np.testing.assert_array_equal(pixels, values.transpose(1, 2, 0))


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [1, 3])
def test_jpeg_2000(tmp_path, kind, count):
    values = np.random.default_rng(0).integers(0, 200 if kind == "uint8" else 4000, (count, 40, 50)).astype(kind)
    path = write(tmp_path / "a.jp2", values, "JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    expected = values if kind == "uint8" else np.stack([stretched(band) for band in values])
    np.testing.assert_array_equal(agreed(path), np.broadcast_to(expected.transpose(1, 2, 0), (40, 50, 3)))


def test_a_jpeg_2000_of_more_tiles_than_bytes_is_refused_at_once(tmp_path):
    path = write(tmp_path / "a.jp2", np.zeros((1, 32, 32), np.uint8), "JP2OpenJPEG")
    data = path.read_bytes()
    sizes = data.index(b"\xff\x51") + 6  # in the marker SIZ: the image's width, and the tile's
    data = data[:sizes] + struct.pack(">I", 32 * 60000) + data[sizes + 4 :]
    header = data.index(b"ihdr") + 8
    data = data[:header] + struct.pack(">I", 32 * 60000) + data[header + 4 :]
    path.write_bytes(data)
    for read in (read_image, open_scene, size_of):
        with pytest.raises(InputError, match=r"a.jp2: torn or damaged JPEG 2000 image \(60,000 tiles in"):
            read(path)


def tiff(width, height, data, bits=(8,), compression=1, photometric=None, more=()):
    """A TIFF of one strip, by hand."""
    photometric = (2 if len(bits) == 3 else 1) if photometric is None else photometric
    tags = [(256, width), (257, height), (259, compression), (262, photometric), (277, len(bits)), (278, height)]
    tags = [(tag, 4, 1, struct.pack("<I", value)) for tag, value in tags]
    count = len(tags) + 3 + len(more)
    offset = 8 + 2 + 12 * count + 4
    packed = struct.pack(f"<{len(bits)}H", *bits)
    inline = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", offset)
    tags += [(258, 3, len(bits), inline), (273, 4, 1, struct.pack("<I", offset + len(packed)))]
    tags += [(279, 4, 1, struct.pack("<I", len(data))), *more]
    body = b"".join(struct.pack("<HHI", tag, kind, n) + value for tag, kind, n, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, count) + body + bytes(4) + packed + data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_turned_by_all_readers(tmp_path, orientation):
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    path = tmp_path / "a.tif"
    turn = (274, 3, 1, struct.pack("<HH", orientation, 0))
    path.write_bytes(tiff(50, 40, values.tobytes(), bits=(8, 8, 8), more=[turn]))
    np.testing.assert_array_equal(agreed(path), np.asarray(Image.open(path)))


def test_blocks_that_a_sparse_tiff_leaves_out_are_no_other_bytes_of_the_file(tmp_path):
    for compress in (None, "deflate"):
        how = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": True, "compress": compress}
        path = tmp_path / f"{compress}.tif"
        kind = {"driver": "GTiff", "width": 50, "height": 40, "count": 3, "dtype": "uint8"}
        with rasterio.open(path, "w", **kind, **how) as file:
            file.write(np.full((3, 16, 16), 99, np.uint8), window=((16, 32), (16, 32)))
        expected = np.zeros((40, 50, 3))
        expected[16:32, 16:32] = 99
        np.testing.assert_array_equal(agreed(path), expected)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_palette_is_looked_up_unless_its_band_is_asked_for(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, 7, (1, 40, 50)).astype(kind)
    top = np.iinfo(kind).max
    values[0, 0, :9] = top
    path = tmp_path / "a.tif"
    how = {"driver": "GTiff", "count": 1, "height": 40, "width": 50, "dtype": kind, "nodata": 3}
    with rasterio.open(path, "w", photometric="palette", **how) as file:
        file.write(values)
        file.write_colormap(1, {index: (index * 30, 255 - index, 7 * index) for index in range(7)} | {top: (1, 2, 3)})
    with rasterio.open(path) as file:
        table = file.colormap(1)
    expected = [[table[int(value)][:3] for value in row] for row in values[0]]
    np.testing.assert_array_equal(agreed(path), np.uint8(expected))
    numbers = agreed(path, (1,))
    expected = values[0] if kind == "uint8" else stretched(values[0], values[0] != 3)
    np.testing.assert_array_equal(numbers[..., 0], expected)


def test_the_edge_of_a_swath_is_not_lost_among_zeros(tmp_path, recwarn):
    values = np.zeros((1, 100, 100), np.uint16)
    values[0, 20:30, 40:54] = 700 + np.arange(140).reshape(10, 14)  # 1.4 %: both percentiles are 0
    pixels = agreed(write(tmp_path / "a.tif", values, compress="deflate"))
    np.testing.assert_array_equal(pixels[..., 0], np.where(values[0] > 0, 255, 0))
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def png(pixels, colour, depth=16):
    """A PNG of [H, W, C]; colour type 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""
    height, width = pixels.shape[:2]
    raw = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), (b"IDAT", zlib.compress(raw))]
    chunks = [struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in
              [*chunks, (b"IEND", b"")]]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("colour", "count"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_16_bit_png_is_stretched_as_the_same_pixels_in_a_tiff(tmp_path, colour, count):
    values = np.random.default_rng(0).integers(200, 2800, (40, 50, count)).astype(np.uint16)
    if count in (2, 4):
        values[..., -1] = 65535
        values[:9, :9, -1] = 0  # no opacity: no data
    path = tmp_path / "a.png"
    path.write_bytes(png(values, colour))
    pixels = agreed(path)
    alpha = {"photometric": "rgb" if count == 4 else "minisblack", "ALPHA": "YES"} if count in (2, 4) else {}
    as_tiff = write(tmp_path / "a.tif", values.transpose(2, 0, 1), **alpha)
    np.testing.assert_array_equal(pixels, agreed(as_tiff))
    valid = values[..., -1] > 0 if alpha else None
    np.testing.assert_array_equal(pixels[..., 0], stretched(values[..., 0], valid))
    if count >= 3:
        np.testing.assert_array_equal(agreed(path, (3, 2, 1)), pixels[..., ::-1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_is_read_to_the_last_bit_as_opencv_does(channels):
    import cv2

    for seed in range(20):
        values = np.random.default_rng(seed).integers(0, 65536, (9 + seed, 31 - seed, channels)).astype(np.uint16)
        values[..., 3:] |= 1
        values = values[..., 0] if channels == 1 else values
        data = cv2.imencode(".png", values)[1].tobytes()
        found = np.asarray(read_image(data, stretch=(0, 100)))
        colours = values if channels > 1 else np.repeat(values[..., None], 3, 2)
        low, high = colours[..., :3].min(axis=(0, 1)), colours[..., :3].max(axis=(0, 1))
        expected = np.rint((colours[..., :3] - low.astype(float)) / (high.astype(float) - low) * 255)
        np.testing.assert_array_equal(found, expected[..., ::-1])


def test_a_16_bit_png_that_promises_gigabytes_takes_none(tmp_path):
    data = png(np.zeros((48, 64, 3), np.uint16), 2)
    place = data.index(b"IDAT")
    data = data[: place - 4] + struct.pack(">I", 0x7D003C15) + data[place:]
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        assert read_image(data).size == (64, 48)
    except InputError as error:
        assert "torn or damaged image" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_a_bmp_is_read_as_pillow_does(tmp_path, mode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    image.convert(mode).save(tmp_path / "a.bmp")
    expected = np.asarray(Image.open(tmp_path / "a.bmp").convert("RGB"))
    np.testing.assert_array_equal(agreed(tmp_path / "a.bmp"), expected)


def test_images_of_pillow_with_more_than_8_bits_are_stretched(tmp_path):
    from lrsclip_jax.data.images import as_rgb

    values = np.random.default_rng(0).normal(3, 900, (40, 50)).astype(np.float32)
    for image in (Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        np.testing.assert_array_equal(np.asarray(as_rgb(image))[..., 1], stretched(np.asarray(image)))


def test_a_scene_too_large_for_memory_is_surveyed(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 4000, (3, 64, 64)).astype(np.uint16)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr("lrsclip_jax.data.rasters.SURVEYED", 32)
    with pytest.raises(InputError, match="over 2,000 pixels"):
        read_image(path)
    with rasterio.open(path) as file:
        reduced = file.read(out_shape=(3, 32, 32))
    low, high = np.percentile(reduced[0], (2, 98))
    expected = np.rint(np.clip((values[0] - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(whole(open_scene(path))[..., 0], expected)


def pipe(folder):
    os.mkfifo(folder / "a.jpg")
    return folder / "a.jpg"


def named(folder, name, target):
    (folder / name).symlink_to(target)
    return folder / name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pipe, "not a regular file"),
        (lambda folder: named(folder, "a.png", "/dev/zero"), "not a regular file"),
        (lambda folder: named(folder, "a.tif", "/dev/null"), "not a regular file"),
        (lambda folder: folder, "Is a directory"),
        (lambda folder: folder / "none.tif", "No such file"),
        (lambda folder: folder / "a\0.jpg", "no file can have that name"),
        (lambda folder: folder / "\ud800.tif", "no file can have that name"),
    ],
)
@pytest.mark.parametrize("read", [read_image, open_scene, size_of])
def test_only_regular_files_are_opened(tmp_path, make, message, read):
    with pytest.raises(InputError, match=message):
        read(make(tmp_path))


VRT = (
    '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
    '<SourceFilename relativeToVRT="0">{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>'
    "</VRTDataset>"
)


@pytest.mark.parametrize("read", [read_image, open_scene, size_of])
@pytest.mark.parametrize("text", [VRT, "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "P6 2 2 255\n123456789012"])
def test_other_formats_under_the_name_of_an_image_are_refused(tmp_path, read, text):
    secret = write(tmp_path / "secret.tif", np.ones((1, 64, 64), np.uint16))
    (tmp_path / "a.tif").write_text(text.replace("{}", str(secret)))
    with pytest.raises(InputError, match="a.tif: not a JPEG, PNG, WebP, TIFF, BMP or JPEG 2000 image"):
        read(tmp_path / "a.tif")


def test_no_file_next_to_a_tiff_changes_its_pixels(tmp_path):
    values = np.random.default_rng(0).integers(0, 4000, (1, 64, 64)).astype(np.uint16)
    path = write(tmp_path / "a.tif", values)
    expected = agreed(path)
    other = write(tmp_path / "other.tif", values * 2)
    for suffix in (".ovr", ".msk"):
        Path(f"{path}{suffix}").write_text(VRT.format(other))
    Path(f"{path}.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{path}.ovr</MDI></Metadata>'
        f'<PAMRasterBand band="1"><NoDataValue>{values[0, 0, 0]}</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    (tmp_path / "a.tfw").write_text("2\n0\n0\n-2\n101\n199\n")
    np.testing.assert_array_equal(agreed(path), expected)
    scene = open_scene(path)
    np.testing.assert_array_equal(scene.overview(64, 64), expected)
    assert scene.missing(64, 64) is None
    assert tuple(scene.georeference.transform)[:6] == (2, 0, 100, 0, -2, 200)  # the world file is still heard


def test_a_tiff_that_names_another_file_for_its_overviews_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.arange(4096, dtype=np.uint16).reshape(1, 64, 64))
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/vsicurl/http://127.0.0.1:1/a.tif")
    for read in (read_image, open_scene):
        with pytest.raises(InputError, match="a.tif: a TIFF that names another file for its overviews is not read"):
            read(path)


def test_names_that_are_not_utf8_are_opened(tmp_path):
    source = write(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 999, (1, 40, 50)).astype(np.uint16))
    expected = agreed(source)
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe, '\"\n.tif"))
    source.rename(path)
    np.testing.assert_array_equal(agreed(path), expected)


def test_headers_that_promise_more_than_memory_are_refused_at_once(tmp_path):
    path = tmp_path / "a.tif"
    kind = {"driver": "GTiff", "width": 12000, "height": 12000, "dtype": "float64", "SPARSE_OK": True}
    rasterio.open(path, "w", count=3, tiled=True, blockxsize=16, blockysize=16, **kind).close()
    with pytest.raises(InputError, match="12,000 × 12,000 × float64: cut it into tiles"):
        read_image(path)
    rasterio.open(path, "w", count=40, interleave="pixel", tiled=True, blockxsize=8192, blockysize=8192, **kind).close()
    for read in (read_image, open_scene, size_of):
        with pytest.raises(InputError, match="in blocks of 67,108,864"):
            read(path)


def test_a_large_tiff_is_known_by_its_blocks(tmp_path):
    kind = {"driver": "GTiff", "width": 20000, "height": 20000, "count": 1, "dtype": "uint8", "SPARSE_OK": True}
    rasterio.open(tmp_path / "tiled.tif", "w", tiled=True, blockxsize=256, blockysize=256, **kind).close()
    rasterio.open(tmp_path / "bomb.tif", "w", tiled=True, blockxsize=20000, blockysize=20000, **kind).close()
    assert size_of(tmp_path / "tiled.tif") == (20000, 20000)
    with pytest.raises(InputError, match="in blocks of 400,000,000, over Pillow's limit"):
        size_of(tmp_path / "bomb.tif")


def test_an_image_of_one_row_is_cropped_before_it_is_enlarged():
    resource = pytest.importorskip("resource")
    from lrsclip_jax.data.batches.augmentation import training_pixels
    from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, preprocess

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in ((65500, 1), (1, 65500)):
        row = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
        # Bicubic looks two pixels far: the middle of a short piece is the middle of the whole.
        middle = row[:, 32740:32760] if size[1] == 1 else row[32740:32760]
        expected = preprocess(Image.fromarray(middle), CLIP_PREPROCESSING)
        got = preprocess(Image.fromarray(row), CLIP_PREPROCESSING)
        np.testing.assert_allclose(got.astype(int), expected, atol=1)
        file = io.BytesIO()
        Image.fromarray(row).save(file, "JPEG")
        for decoder, scale in itertools.product(("exact", "fast"), (None, (0.8, 1.0))):
            rng = np.random.default_rng(0)
            assert training_pixels(file.getvalue(), CLIP_PREPROCESSING, scale, rng, decoder).shape == (224, 224, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_a_large_file_that_is_no_tiff_is_not_taken_into_memory(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.write(b"\xff\xd8\xff\xe0")
        file.truncate(3 << 30)
    for read in (read_image, open_scene, size_of):
        with pytest.raises(InputError, match="over 1,073,741,824 bytes"):
            read(tmp_path / "a.jpg")


def test_windows_without_data_are_known(tmp_path):
    values = np.random.default_rng(0).integers(1, 999, (2, 40, 50)).astype(np.uint16)
    values[:, :, 20:] = 0
    values[1, 30, 45] = 5  # a single pixel of a band that is not shown
    scene = open_scene(write(tmp_path / "a.tif", values, nodata=0))
    assert isinstance(scene, RasterScene)
    expected = np.zeros((40, 50), bool)
    expected[:, 20:] = True
    np.testing.assert_array_equal(scene.missing(40, 50), expected)
    windows = np.array([[0, 10, 0, 10], [0, 10, 19, 29], [0, 40, 20, 50], [39, 40, 49, 50]])
    assert scene.empty(windows).tolist() == [False, False, True, True]
    floats = values[:1].astype(np.float32)
    floats[0, 5, 5] = np.nan
    gaps = open_scene(write(tmp_path / "f.tif", floats)).missing(40, 50)
    assert gaps.sum() == 1 and gaps[5, 5]
    photo = tmp_path / "a.png"
    Image.new("RGB", (50, 40)).save(photo)
    assert isinstance(open_scene(photo), Scene) and open_scene(photo).missing(40, 50) is None


def test_control_points_place_a_scene_and_rational_polynomials_are_told(tmp_path):
    point = rasterio.control.GroundControlPoint
    points = [point(row, col, 10 + col * 0.5, 50 - row * 0.25) for row in (0, 20, 40) for col in (0, 50)]
    values = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    place = open_scene(write(tmp_path / "a.tif", values, gcps=points, crs="EPSG:4326")).georeference
    assert place.crs.to_epsg() == 4326 and len(place.points) == 6
    np.testing.assert_allclose(tuple(place.transform)[:6], (0.5, 0, 10, 0, -0.25, 50), atol=1e-9)
    polynomials = rasterio.rpc.RPC(
        height_off=1, height_scale=1, lat_off=1, lat_scale=1, line_den_coeff=[1.0] * 20, line_num_coeff=[1.0] * 20,
        line_off=1, line_scale=1, long_off=1, long_scale=1, samp_den_coeff=[1.0] * 20, samp_num_coeff=[1.0] * 20,
        samp_off=1, samp_scale=1,
    )  # fmt: skip
    path = write(tmp_path / "r.tif", values, rpcs=polynomials)
    with pytest.warns(UserWarning, match="r.tif is placed by rational polynomials: its map has no coordinates"):
        assert open_scene(path).georeference is None
