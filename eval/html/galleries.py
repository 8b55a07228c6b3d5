"""Images in a report: the results of queries, each with a mark, and images next to each other."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from eval.html.elements import Html, escaped, join, remark

LONGEST_SIDE = 256  # pixels of an embedded picture


class Verdict(NamedTuple):
    """The mark of a match, a key of `SIGNS`, and why in a word or two."""

    mark: str
    why: str


# Data name one image for a text, and others may match it as well: nothing says that these are wrong.
SIGNS = {"right": "✓", "open": "○", "wrong": "✗"}
OWN = Verdict("right", "own")
SAME_TEXT, SAME_CLASS, ANOTHER = (Verdict("open", why) for why in ("same text", "same class", "another"))
OTHER_CLASS = Verdict("wrong", "other class")
_LEGEND = (
    "✓ belongs to the query. ○ belongs to another image and may match the query as well; where the data say so, it has "
    "the same text or the same class. ✗ is of another class."
)


class Match(NamedTuple):
    """A retrieved image, uint8 [H, W, 3], what to say under it, and its mark."""

    image: np.ndarray
    caption: str
    verdict: Verdict


class TextMatch(NamedTuple):
    """A retrieved text, what to say under it, and its mark."""

    text: str
    caption: str
    verdict: Verdict


class ImageQuery(NamedTuple):
    """An image, uint8 [H, W, 3], and the texts it found, best first."""

    image: np.ndarray
    matches: Sequence[TextMatch]


class Picture(NamedTuple):
    """A picture, uint8 [H, W, 3], a heading and what to say under it."""

    image: np.ndarray
    heading: str
    caption: str


class Query(NamedTuple):
    """A query, what it found, best first, and a remark."""

    text: str
    matches: Sequence[Match]
    note: str = ""


def gallery(queries: Sequence[Query]) -> Html:
    """Returns each query with the images it found, which are marked by colour, sign and word."""
    return join(remark(_LEGEND), *(_query(Query(*query)) for query in queries))


def image_gallery(queries: Sequence[ImageQuery]) -> Html:
    """Returns each image with the texts it found, which are marked as in `gallery`."""
    return join(*(_image_query(ImageQuery(*query)) for query in queries))


def pictures(shown: Sequence[Picture], longest: int = 640) -> Html:
    """Returns pictures of at most `longest` pixels a side next to each other, below each other on a phone."""
    items = "".join(
        f'<figure><img src="{jpeg_uri(image, longest)}" alt="{html.escape(f"{heading}: {caption}")}">'
        f"<figcaption><b>{escaped(heading)}</b> {escaped(caption)}</figcaption></figure>\n"
        for image, heading, caption in shown
    )
    return Html(f'<div class="pictures">\n{items}</div>')


def jpeg_uri(image: np.ndarray, longest: int = LONGEST_SIDE) -> str:
    """Returns a uint8 [H, W, 3] image as the `data:` address of a JPEG of at most `longest` pixels a side."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture must be uint8 [H, W, 3], got {image.dtype} of shape {image.shape}")
    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    try:
        picture.save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
    except OSError:  # the file of an image that is all noise outgrows the buffer that optimising needs
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _query(query: Query) -> Html:
    matches = "".join(_match(rank, Match(*match)) for rank, match in enumerate(query.matches, 1))
    note = f'<p class="note">{escaped(query.note)}</p>\n' if query.note else ""
    text = f"<blockquote>{escaped(query.text)}</blockquote>"
    found = f'<ol class="matches">\n{matches}</ol>'
    return Html(f'<article class="query">\n{text}\n{note}{found}\n</article>')


def _image_query(query: ImageQuery) -> Html:
    matches = "".join(_text_match(TextMatch(*match)) for match in query.matches)
    picture = f'<img src="{jpeg_uri(query.image)}" alt="The image that is the query">'
    return Html(f'<article class="query reading">\n{picture}\n<ol>\n{matches}</ol>\n</article>')


def _text_match(match: TextMatch) -> str:
    mark, why = match.verdict
    return (
        f'<li class="{mark}">{escaped(match.text)}'
        f"<div><b>{SIGNS[mark]} {why}</b><span>{escaped(match.caption)}</span></div></li>\n"
    )


def _match(rank: int, match: Match) -> str:
    mark, why = match.verdict
    alt = html.escape(f"Image {rank}, {why}: {match.caption}")
    return (
        f'<li class="{mark}"><img src="{jpeg_uri(match.image)}" alt="{alt}">'
        f"<div><b>{SIGNS[mark]} {why}</b><span>{escaped(match.caption)}</span></div></li>\n"
    )
