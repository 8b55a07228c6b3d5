"""The statistics of a corpus as a page: Table I and Fig. 6 of LRSCLIP, Fig. 1 of RSCLIP, licences, stages and leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.html import elements, galleries, plots
from eval.html.elements import Html
from eval.html.frame import page
from eval.papers.paper_tables import arrange, as_html
from eval.papers.published_tables import named_tables
from lrsclip_jax.corpus.statistics.counting import KINDS, CorpusStatistics
from lrsclip_jax.corpus.statistics.sketches import Distinct, Frequent
from lrsclip_jax.corpus.statistics.summary import CONTEXTS, DRAWN, bars, texts_values, writers
from lrsclip_jax.corpus.statistics.wordcloud import MOST, word_cloud
from lrsclip_jax.data.images import read_image
from lrsclip_jax.errors import InputError

PUBLISHED = ("LRSCLIP:I", "RSCLIP:Section II-B")
TOP = 40  # words in the table
LABELS = 30
LINES = 10  # of a table of names, before it continues in a second column
TABLE_NOTE = (
    "A pair is an image with all its texts, as LRSCLIP counts. Tokens are CLIP's, start and end token included; the "
    "paper does not say how it counts. A text's source is the last generator that wrote it, or the data set itself."
)
LENGTH_NOTE = (
    "Tokens of a text, start and end token included, before any cut; what is longer than the context is cut in "
    "training. Texts that differ in case or spacing alone are not different."
)
CLOUD_NOTE = (
    "A word's area grows with how often it occurs, above a least size. Left out are determiners, prepositions, "
    "conjunctions, WH-pronouns, existentials and adverbs, as in Fig. 1 of RSCLIP, and also pronouns, auxiliary "
    "verbs and numerals in digits."
)
LIST_NOTE = (
    "A list of words decided this, not a tagger: a word has one class wherever it stands, and words in -ly are adverbs "
    "but for known exceptions."
)
TAGGER_NOTE = (
    "The tagger {} decided this, for each word in its sentence; RSCLIP does not say which one it used. Words are the "
    "tagger's: parts of hyphenated ones count by themselves."
)
SHOWN = 6  # pairs of a set
_SIDE, _GAP = 256, 8  # pixels
NOTE = (
    "Records were left out whose image is near one of an evaluation set by its perceptual hash. A record that is near "
    "images of several sets counts for the nearest."
)
PAIR_NOTE = "Left the image of the record, right the one of the evaluation set; the nearest pairs first."


def statistics_page(
    statistics: CorpusStatistics,
    title: str,
    leakage: Mapping[str, Any] | None = None,
    published: bool = True,
    origin: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
) -> Html:
    """Returns a self-contained HTML page; a section for which the corpus has nothing to say is left out.

    Args:
      statistics: of the corpus.
      title: of the page.
      leakage: what `hygiene.leakage.report` says.
      published: whether the papers' tables of their corpora stand in it, too, folded.
      origin: the page's provenance, as `eval.html.frame.provenance` returns it.
      files: those next to the page that it links.
    """
    sections = {
        "Parts of the corpus": _parts(statistics, published),
        "How long the texts are": _lengths(statistics),
        "What the texts speak of": _words(statistics),
        "Labels": _labels(statistics),
        "Licences and splits": _licences(statistics),
        "Who made it": _steps(statistics),
        "Leakage": leakage_section(leakage) if leakage else None,
        "Set aside": _set_aside(statistics),
    }
    shown = [(heading, content) for heading, content in sections.items() if content]
    return page(title, shown, _summary(statistics), origin, files)


def _summary(statistics: CorpusStatistics) -> str:
    whole, parts = statistics.whole, len(statistics.parts)
    texts = " and ".join(f"{whole.texts[kind].count:,} {kind}" for kind in KINDS)
    sources = "1 source" if parts == 1 else f"{parts:,} sources"
    return f"{whole.pairs:,} pairs from {sources}: {_about(statistics.images)} different images with {texts} texts."


def _parts(statistics: CorpusStatistics, published: bool) -> Html:
    named = [*statistics.parts.items(), ("All", statistics.whole)]
    rows = []
    for name, part in named if len(named) > 2 else named[:1]:
        rows.append([name, part.pairs])
        for kind in KINDS:
            values = texts_values(part.texts[kind])
            rows[-1] += [writers(part.texts[kind]), values["texts"], values["mean_tokens"]]
    headings = [(f"{kind.capitalize()} text", each) for kind in KINDS for each in ("Source", "Texts", "Mean tokens")]
    ours = elements.table(rows, ["Data set", "Pairs", *headings], TABLE_NOTE)
    parts = [ours]
    for table in (table for name in PUBLISHED if published for table in named_tables(name)):
        shown = arrange(table)
        parts.append(elements.fold(shown.title, as_html(shown)))
    return elements.join(*parts)


def _lengths(statistics: CorpusStatistics) -> Html | None:
    texts = {kind: texts for kind, texts in statistics.whole.texts.items() if texts.count}
    if not texts:
        return None
    figures = [
        plots.histogram(bars({kind: getattr(each, unit) for kind, each in texts.items()}), unit, "", f"{title}, %")
        for unit, title in (("tokens", "Texts by their tokens"), ("words", "Texts by their words"))
    ]
    rows = []
    for kind, each in texts.items():
        values = texts_values(each)
        longer = (100 * (values[f"above_{limit}_tokens"] or 0) / each.count for limit in CONTEXTS)
        names = ("mean_tokens", "median_tokens", "max_tokens")
        different = _about(statistics.distinct[kind])
        rows.append([kind, each.count, different, *(values[name] for name in names), *longer, values["mean_words"]])
    tokens = [("Tokens", name) for name in ("mean", "median", "longest", *(f"above {limit}, %" for limit in CONTEXTS))]
    undrawn = f"Up to {100 * (1 - DRAWN):.1g} % of the texts of a kind, the longest, are not drawn."
    return elements.join(
        plots.side_by_side(figures),
        elements.table(rows, ["", "Texts", "Different", *tokens, ("Words", "mean")], f"{LENGTH_NOTE} {undrawn}"),
    )


def _words(statistics: CorpusStatistics) -> Html | None:
    counts = statistics.content.top(MOST)
    if not counts:
        return None
    cloud = Html(f'<figure class="plot">\n{word_cloud(counts)}\n</figure>')
    missed = statistics.content.missed
    told = TAGGER_NOTE.format(statistics.tagger) if statistics.tagger else LIST_NOTE
    note = f" Counts may be too small by {missed:,}: rare words were forgotten on the way." if missed else ""
    return elements.join(
        plots.side_by_side([cloud, _ranked(counts[:TOP], "Word", "Times")]),
        elements.remark(f"{CLOUD_NOTE} {told}{note}"),
    )


def _labels(statistics: CorpusStatistics) -> Html | None:
    labels, objects = statistics.labels, statistics.objects
    tables = [
        _ranked(counted.top(LABELS), what, count, _rest(counted))
        for counted, what, count in ((labels, "Scene", "Pairs"), (objects, "Annotated object", "Times"))
        if counted.counts
    ]
    return plots.side_by_side(tables) if tables else None


def _licences(statistics: CorpusStatistics) -> Html | None:
    whole = statistics.whole
    named = {"Licence": whole.licences, "Split": whole.splits}
    tables = [_ranked(_ordered(counts), what, "Pairs") for what, counts in named.items()]
    return plots.side_by_side(tables) if whole.pairs else None


def _steps(statistics: CorpusStatistics) -> Html | None:
    rows = [
        [name, stage, by or "–", count]
        for name, part in statistics.parts.items()
        for (stage, by), count in _ordered(part.steps)
    ]
    note = "Stages that the records of a data set went through, and who did it there."
    return elements.table(rows, ["Data set", "Stage", "By", "Pairs"], note) if rows else None


def _set_aside(statistics: CorpusStatistics) -> Html | None:
    rows = [[reason, stage, count] for (stage, reason), count in statistics.set_aside.top(LABELS)]
    note = f"Names and numbers in a reason are left out here. {_rest(statistics.set_aside)}"
    return elements.table(rows, ["Reason", "Stage", "Records"], note) if rows else None


def _ranked(counts: Sequence[tuple[str, int]], what: str, count: str, note: str = "") -> Html:
    """Returns a table of names with their counts; a long one continues in a second column."""
    if len(counts) <= LINES:
        return elements.table(counts, [what, count], note)
    half = -(-len(counts) // 2)
    right = [(Html(f"<b>{elements.escaped(name)}</b>"), number) for name, number in counts[half:]]
    rows = zip(counts[:half], [*right, ("", "")][:half], strict=True)
    return elements.table([[*left, *beside] for left, beside in rows], [what, count, what, count], note)


def _ordered(counts: Counter) -> list[tuple]:
    """Counts, the largest first, and equal ones in order of their names."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _rest(counted: Frequent) -> str:
    more = len(counted.counts) - LABELS
    return f"{more:,} rarer ones are not shown." if more > 0 else ""


def _about(distinct: Distinct) -> str:
    return f"{'' if distinct.exact else 'about '}{distinct.count:,}"


def leakage_section(found: Mapping[str, Any]) -> Html:
    """Returns the section for what `hygiene.leakage.report` says; pairs of which an image is gone are not shown."""
    rows = [
        [name, *(each[key] for key in ("images", "images_leaked", "records_removed"))] for name, each in found.items()
    ]
    counts = elements.table(rows, ["Evaluation set", "Its images", "Found in the corpus", "Records left out"], NOTE)
    parts = [counts]
    for name, each in found.items():
        if pairs := _pairs(each["examples"]):
            parts += [elements.subheading(name), galleries.pictures(pairs, 2 * _SIDE), elements.remark(PAIR_NOTE)]
    return elements.join(*parts)


def _pairs(examples: Sequence[Mapping[str, Any]]) -> list[galleries.Picture]:
    pairs = []
    for example in examples[:SHOWN]:
        try:
            sides = [_square(example[key]) for key in ("record_image", "image")]
        except InputError:
            continue
        gap = np.full((_SIDE, _GAP, 3), 128, np.uint8)
        bits = example["distance"]
        caption = f"and {Path(example['image']).name}: hashes {bits} {'bit' if bits == 1 else 'bits'} apart"
        pairs.append(galleries.Picture(np.hstack([sides[0], gap, sides[1]]), example["record"], caption))
    return pairs


def _square(path: str) -> np.ndarray:
    """uint8 [256, 256, 3]; the hash doesn't see the shape of an image either."""
    return np.asarray(read_image(path).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
