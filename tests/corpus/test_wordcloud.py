"""The word cloud: nothing overlaps, nothing sticks out, sizes tell frequencies, and the bytes are always the same."""

from __future__ import annotations

import itertools
import math

import pytest
from documents import EVIL, Document
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from lrsclip_jax.corpus.statistics.wordcloud import HEIGHT, MOST, SMALLEST, WIDTH, place, word_cloud

LETTERS = "aegijlmopqrst"
# Word lengths of 2 to 13 and counts that fall as in English: the r-th word occurs 1 / r as often as the first.
COUNTS = [(f"{LETTERS[n % 13] * (2 + 5 * n % 12)}{n}", 100_000 // (n + 1)) for n in range(150)]


@pytest.fixture(scope="module")
def placed():
    return place(COUNTS[:MOST], WIDTH, HEIGHT)


def test_all_words_are_placed_in_order_inside_the_drawing_and_apart(placed):
    assert [each.word for each in placed] == [word for word, _ in COUNTS[:MOST]]
    for each in placed:
        x0, y0, x1, y1 = each.box
        assert 0 <= x0 < x1 <= WIDTH and 0 <= y0 < y1 <= HEIGHT
    for one, other in itertools.combinations(placed, 2):
        apart = (one.box[2] <= other.box[0], other.box[2] <= one.box[0])
        above = (one.box[3] <= other.box[1], other.box[3] <= one.box[1])
        assert any(apart + above), (one, other)


def test_the_ink_of_a_word_is_inside_its_box_as_another_library_measures_it(placed):
    for each in placed:
        ink = TextPath((0, 0), each.word, each.size, prop=FontProperties("DejaVu Sans")).get_extents()
        x0, y0, x1, y1 = each.box
        assert x0 < each.x + 0.95 * ink.x0 and each.x + 0.95 * ink.x1 < x1
        # beside the ink a word has the room of its letters, and the other library kerns more
        assert 0 < each.width - 0.95 * ink.width < 0.25 * each.size + 0.06 * each.width
        assert y0 < each.y - ink.y1 and each.y - ink.y0 < y1


def test_heights_grow_with_the_square_root_of_the_counts_above_the_smallest(placed):
    first = placed[0].size
    assert first > 2 * SMALLEST
    for each, (_, count) in zip(placed, COUNTS, strict=False):
        assert each.size == pytest.approx(max(SMALLEST, first * math.sqrt(count / COUNTS[0][1])))


def test_frequent_words_are_near_the_centre(placed):
    away = [math.dist(((b[0] + b[2]) / 2, (b[1] + b[3]) / 2), (WIDTH / 2, HEIGHT / 2)) for b in (e.box for e in placed)]
    assert away[0] < 3
    assert sum(away[:12]) / 12 < 0.6 * sum(away[-12:]) / 12


def test_the_cloud_is_text_in_the_page_s_colours_and_the_same_every_time():
    cloud = word_cloud(COUNTS)
    assert word_cloud(COUNTS[:20]) == word_cloud(COUNTS[:20])
    document = Document(cloud)
    assert sorted(text for tag, text in document.texts if tag == "text") == sorted(w for w, _ in COUNTS[:MOST])
    assert len(document.all("text")) == MOST
    assert {group["style"] for group in document.all("g")} == {f"color:var(--series-{n})" for n in range(1, 6)}
    assert "#" not in cloud


def test_words_are_escaped():
    document = Document(word_cloud([(EVIL, 3), ("tree", 2)]))
    assert ("text", EVIL) in document.texts and not document.all("script")


def test_what_finds_no_room_is_left_out_and_a_lone_word_fills_the_width():
    few = place(COUNTS[:MOST], 120, 60)
    assert 0 < len(few) < MOST and few[0].word == COUNTS[0][0]
    (lone,) = place([("harbour", 1)], WIDTH, HEIGHT)
    assert 0.85 * WIDTH < lone.width < WIDTH
    assert place([("m" * 100, 2)], WIDTH, HEIGHT) == []
    with pytest.raises(ValueError, match="no words"):
        word_cloud([])
