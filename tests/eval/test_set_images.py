import io
import os

import numpy as np
import pytest
from PIL import Image

from eval.errors import InputError
from eval.html.set_images import read_picture


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_picture_is_shown_as_pillow_reads_it(tmp_path, form, mode):
    path = tmp_path / "a.img"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).convert(mode).convert(
        "RGB" if form in ("JPEG", "WEBP") else mode
    ).save(path, form)
    np.testing.assert_array_equal(read_picture(path), np.asarray(Image.open(path).convert("RGB")))


def test_postscript_starts_no_program(tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) (w) file closefile\n")
    with pytest.raises(InputError, match="a.jpg: no picture that can be shown"):
        read_picture(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_picture_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none.jpg", "."):
        with pytest.raises(InputError, match="not a regular file"):
            read_picture(tmp_path / name)
    Image.fromarray(np.full((8, 8), 999, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="more than 8 bits: embed with --pictures"):
        read_picture(tmp_path / "deep.png")
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(file, "PNG")
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(file.getvalue())
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(0, 256)
        (tmp_path / "a.png").write_bytes(data)
        try:
            assert read_picture(tmp_path / "a.png").dtype == np.uint8
        except InputError as error:
            assert "\n" not in str(error)
