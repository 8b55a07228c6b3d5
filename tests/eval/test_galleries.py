"""Galleries: matches are marked in three ways, pictures are embedded, text from data stays text."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from documents import EVIL, Document, picture
from PIL import Image

from eval.html import galleries


def test_gallery_marks_matches_by_word_sign_and_colour():
    images = [picture(seed) for seed in range(3)]
    verdicts = (galleries.OTHER_CLASS, galleries.OWN, galleries.SAME_CLASS)
    matches = [(image, f'0.{number} "<b>"', verdicts[number]) for number, image in enumerate(images)]
    document = Document(galleries.gallery([(EVIL, matches, "note & more"), ("second", matches[:1])]))
    assert [item["class"] for item in document.all("li")] == ["wrong", "right", "open", "wrong"]
    assert document.text("b") == ["✗ other class", "✓ own", "○ same class", "✗ other class"]
    assert document.text("blockquote") == [EVIL, "second"]
    assert document.text("p")[1:] == ["note & more"]
    assert [image["alt"] for image in document.all("img")][1] == 'Image 2, own: 0.1 "<b>"'
    for image, shown in zip(images, document.all("img"), strict=False):
        encoded = shown["src"].removeprefix("data:image/jpeg;base64,")
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))), np.int16)
        assert decoded.shape == image.shape
        assert np.abs(decoded - image).mean() < 8


def test_pictures_are_shrunk_and_checked():
    encoded = galleries.jpeg_uri(picture(height=400, width=800)).removeprefix("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (256, 128)
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"a picture must be uint8 \[H, W, 3\], got"):
            galleries.jpeg_uri(wrong)


def test_images_with_the_texts_they_found():
    found = [(EVIL, "0.9", galleries.SAME_TEXT), ("its own", "0.8", galleries.OWN)]
    document = Document(galleries.image_gallery([(picture(), found), (picture(1), found[:1])]))
    assert [item["class"] for item in document.all("li")] == ["open", "right", "open"]
    assert document.text("li") == [EVIL, "its own", EVIL]
    assert document.text("b") == ["○ same text", "✓ own", "○ same text"]
    assert document.text("span") == ["0.9", "0.8", "0.9"]
    assert len(document.all("img")) == 2


def test_pictures_beside_each_other():
    shown = [(picture(height=800, width=400), EVIL, "below & so on"), (picture(), "second", "")]
    document = Document(galleries.pictures(shown, longest=320))
    assert document.text("b") == [EVIL, "second"]
    assert document.all("img")[0]["alt"] == f"{EVIL}: below & so on"
    encoded = document.all("img")[0]["src"].removeprefix("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (160, 320)


def test_an_image_that_is_all_noise_is_embedded_too():
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    data = galleries.jpeg_uri(noise).removeprefix("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (224, 224)
