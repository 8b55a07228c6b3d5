"""What tests of reports share: a reader of HTML, pictures, and embeddings of a model that is right now and then."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np

VOID = {"meta", "img", "br", "link", "input", "hr"}
EVIL = "<script>alert(\"x\")</script> & 'y'"


class Document(HTMLParser):
    """Tags with their attributes, texts by enclosing tag, and a check that every tag is closed."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(markup)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self._open:
            self.texts.append((self._open[-1], data.strip()))

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    def text(self, name):
        return [text for tag, text in self.texts if tag == name]


def assert_fetches_nothing(markup):
    for tag, attributes in Document(markup).tags:
        if tag == "a":  # leads to a part of the page or to a file next to it
            assert re.fullmatch(r"#[\w-]+|[^/:][^:]*", attributes["href"]), attributes
            continue
        for name in ("src", "href", "xlink:href", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    assert "@import" not in markup
    assert not re.search(r"url\((?!#)", markup)
    assert "Content-Security-Policy" in markup


def picture(seed=0, height=24, width=32):
    rows = np.random.default_rng(seed).integers(256, size=(height // 8, width // 8, 3), dtype=np.uint8)
    return rows.repeat(8, axis=0).repeat(8, axis=1)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def model_outputs(images=30, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(images, 8))
    return unit(rows), unit(rows + rng.normal(size=rows.shape)), np.arange(images)
