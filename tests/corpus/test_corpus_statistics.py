"""The statistics of a corpus against recounts of the same records, and what becomes of them on the page and on disk."""

from __future__ import annotations

import csv
import json
import random
import re
import sys
import weakref
from collections import Counter

import numpy as np
import pytest
from documents import EVIL, Document

from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.corpus.statistics import counting as gathering
from lrsclip_jax.corpus.statistics import statistics_files
from lrsclip_jax.corpus.statistics.content_words import (
    EXCEPTIONS,
    Tagger,
    content_words,
    function_words,
    is_function_word,
    load_tagger,
    words,
)
from lrsclip_jax.corpus.statistics.counting import CorpusStatistics, gather, writer
from lrsclip_jax.corpus.statistics.sketches import Distinct, Frequent
from lrsclip_jax.corpus.statistics.statistics_files import as_json, as_lines, write_statistics
from lrsclip_jax.corpus.statistics.statistics_page import statistics_page
from lrsclip_jax.corpus.statistics.summary import bars, quantile
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

SPOKEN = "the a many some planes ships trees are parked near beside two green harbour runway quickly and of airport's"


@pytest.fixture(scope="module")
def records():
    rng = random.Random(0)

    def text(low, high):
        return " ".join(rng.choices(SPOKEN.split(), k=rng.randint(low, high))) + "."

    made = []
    for n in range(300):
        source = ("DIOR", "Mosaics", EVIL)[n % 3]
        long = (text(60, 260),) if source != "DIOR" else ()
        short = tuple(text(3, 20) for _ in range(n % 4)) + (" \n",)
        steps = (Step("read", "coco"), Step("expand", "a model", "long")) if long else (Step("read", "coco"),)
        made.append(
            CorpusRecord(
                id=f"{n}",
                image=f"/images/{n // 2}.jpg",
                source=source,
                short=short,
                long=long,
                things=(Thing("ship"),) * (n % 3),
                label=f"class {n % 40}",
                split="train" if n % 5 else "test",
                licence=None if n % 7 else "CC-BY-4.0",
                provenance=steps,
            )
        )
    return made


@pytest.fixture(scope="module")
def statistics(records):
    aside = [SetAside(f"{n}", "read", f"/images/{n}.jpg: '{n}' is {n}.5 pixels high") for n in range(4)]
    return gather(iter(records), [*aside, SetAside("x", "rules", EVIL)])


def texts_of(records, kind):
    return [text for record in records for text in getattr(record, kind) if text.strip()]


def test_lengths_are_those_of_every_text_alone(records, statistics):
    for source in ("DIOR", "Mosaics", EVIL):
        for kind in ("long", "short"):
            texts = texts_of((r for r in records if r.source == source), kind)
            found = as_json(statistics)["sources"][source]
            assert found[f"{kind}_texts"] == len(texts)
            if not texts:
                assert found[f"{kind}_mean_tokens"] is found[f"{kind}_max_tokens"] is None
                continue
            tokens = np.array([len(clip_tokenizer().encode([text])[0]) for text in texts])
            assert found[f"{kind}_mean_tokens"] == pytest.approx(tokens.mean())
            assert found[f"{kind}_median_tokens"] == np.quantile(tokens, 0.5, method="inverted_cdf")
            assert found[f"{kind}_max_tokens"] == tokens.max()
            assert found[f"{kind}_above_77_tokens"] == (tokens > 77).sum()
            assert found[f"{kind}_above_248_tokens"] == (tokens > 248).sum()
            assert found[f"{kind}_mean_words"] == pytest.approx(np.mean([len(text.split()) for text in texts]))
            assert found[f"{kind}_tokens"] == sorted(Counter(tokens.tolist()).items())
    assert as_json(statistics)["all"]["long_above_248_tokens"] > 0


def test_counts_of_everything_else(records, statistics):
    found = as_json(statistics)
    assert found["all"]["pairs"] == 300 and found["all"]["objects"] == 300
    assert found["images"] == {"count": 150, "exact": True}
    assert found["all"]["licences"] == {"unknown": 257, "CC-BY-4.0": 43}
    assert found["all"]["splits"] == {"train": 240, "test": 60}
    assert found["labels"]["counts"]["class 0"] == 8 and len(found["labels"]["counts"]) == 40
    assert found["objects"]["counts"] == {"ship": 300}
    assert found["sources"]["Mosaics"]["steps"] == [
        {"stage": "expand", "by": "a model", "pairs": 100},
        {"stage": "read", "by": "coco", "pairs": 100},
    ]
    assert found["sources"]["Mosaics"]["long_source"] == "a model"
    assert found["sources"]["Mosaics"]["short_source"] == "Mosaics"
    assert found["set_aside"] == [["read", "…: … is … pixels high", 4], ["rules", "… & …", 1]]
    short = texts_of(records, "short")
    assert found["different_texts"]["short"] == {"count": len({text.lower() for text in short}), "exact": True}
    spoken = Counter(re.findall(r"[a-z]+", " ".join(short + texts_of(records, "long")).replace("'s", "")))
    content = ("planes", "ships", "trees", "parked", "two", "green", "harbour", "runway", "airport")
    assert found["content_words"] == {"counts": found["content_words"]["counts"], "too_small_by_at_most": 0}
    assert found["content_words"]["counts"] == {word: spoken[word] for word in content}


def test_where_a_chunk_ends_makes_no_difference_and_few_records_are_held(records, monkeypatch):
    whole = as_json(gather(records))
    monkeypatch.setattr(gathering, "CHUNK", 7)
    alive, most = weakref.WeakSet(), 0

    def stream():
        nonlocal most
        for record in records:
            copy = CorpusRecord(**vars(record))
            alive.add(copy)
            most = max(most, len(alive))
            yield copy

    assert as_json(gather(stream())) == whole
    assert most <= 2 * 7


@pytest.mark.parametrize(
    ("steps", "long", "short"),
    [
        ([], "DIOR", "DIOR"),
        ([Step("read", "captions", "long and short"), Step("captions", detail="2 short texts out")], "DIOR", "DIOR"),
        ([Step("captions", "rules", "short, long")], "rules", "rules"),
        ([Step("captions", "rules", "short, long"), Step("expand", "Qwen2-VL", "long")], "Qwen2-VL", "rules"),
        ([Step("anchor", "Qwen2-VL", "long"), Step("summarise", "GLM-4", "short")], "Qwen2-VL", "GLM-4"),
        ([Step("merge", "VHM", "long, by id")], "VHM", "DIOR"),
        ([Step("merge", "VHM", "by longitude"), Step("tile", "cutter")], "DIOR", "DIOR"),
    ],
)
def test_who_wrote_the_texts(steps, long, short):
    record = CorpusRecord("1", "/1.jpg", "DIOR", provenance=tuple(steps))
    assert (writer(record, "long"), writer(record, "short")) == (long, short)


def test_words_and_content_words():
    text = "There's a well-kept airport's runway, 3.5 km long, which isn’t really near 12 SHIPS; it surely has family."
    assert words(text)[:6] == ["there's", "a", "well-kept", "airport's", "runway", "3.5"]
    assert content_words(text) == ["well-kept", "airport", "runway", "km", "long", "ships", "family"]
    assert words(" . ,; – ") == []
    for kept in ("left", "green", "two", "butterfly", "river"):
        assert not is_function_word(kept)
    for dropped in ("several", "between", "and", "whose", "there", "densely", "not", "they", "are", "x"):
        assert is_function_word(dropped)


def test_a_tagger_takes_the_place_of_the_list_and_the_page_says_so(records):
    def content_words(texts):
        return [[word for word in words(text) if word in ("near", "green")] for text in texts]

    tagged = gather(records, tagger=Tagger("of colours 1.0", content_words))
    assert sorted(as_json(tagged)["content_words"]["counts"]) == ["green", "near"]
    assert as_json(tagged)["content_words"]["counts"]["near"] == sum(
        words(text).count("near") for kind in ("long", "short") for text in texts_of(records, kind)
    )
    assert as_json(tagged)["content_words_by"] == "of colours 1.0"
    page = statistics_page(tagged, "ours", published=False)
    assert "The tagger of colours 1.0 decided this" in page and "not a tagger" not in page


def test_a_model_of_spacy_tells_content_words_by_their_sentence(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    pipeline = spacy.blank("en")
    with pytest.raises(InputError, match="tags no parts of speech"):
        pipeline.to_disk(tmp_path / "blank")
        list(load_tagger(f"spacy:{tmp_path / 'blank'}").content_words(["a left runway"]))
    ruler = pipeline.add_pipe("attribute_ruler")
    ruler.add([[{"IS_ALPHA": True}]], {"POS": "NOUN"})
    ruler.add([[{"LOWER": {"IN": ["a", "the"]}}]], {"POS": "DET"})
    ruler.add([[{"LOWER": "planes"}, {"LOWER": "left"}]], {"POS": "VERB"}, index=1)
    ruler.add([[{"LOWER": "turn"}, {"LOWER": "left"}]], {"POS": "ADV"}, index=1)
    pipeline.meta |= {"name": "rules", "version": "2.1"}
    pipeline.to_disk(tmp_path / "model")
    tagger = load_tagger(f"spacy:{tmp_path / 'model'}")
    found = list(tagger.content_words(["The planes left, 3.5 km.", "Planes turn left", "a"]))
    assert found == [["planes", "left", "km"], ["planes", "turn"], []]
    assert tagger.name == "en_rules 2.1 (spaCy)"


@pytest.mark.parametrize("spec", ["nltk", "spacy:", "perceptron:en"])
def test_an_unknown_tagger_is_one_line(spec):
    with pytest.raises(InputError, match=f"^unknown tagger '{spec}': expected spacy:MODEL"):
        load_tagger(spec)


def test_a_tagger_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(InputError, match="^the tagger spacy:en_core_web_sm needs spaCy: pip install spacy$"):
        load_tagger("spacy:en_core_web_sm")


def test_the_list_has_every_word_once_and_exceptions_end_in_ly():
    classes = function_words()
    assert len(classes) == 8 and all(classes.values())
    listed = [word for members in classes.values() for word in members]
    assert sorted(listed) == sorted(set(listed))
    assert all(word == word.lower() and word.isalpha() for word in listed)
    assert all(word.endswith("ly") for word in classes[EXCEPTIONS])


def test_frequent_items_survive_in_bounded_memory_and_the_error_is_told():
    rng = np.random.default_rng(0)
    items = [f"w{n}" for n in rng.zipf(1.3, 20_000).tolist()]
    true, counted = Counter(items), Frequent(limit=500)
    for start in range(0, len(items), 50):
        counted.update(items[start : start + 50])
        assert len(counted.counts) <= 500
    assert 0 < counted.missed < true["w1"] / 20
    for item, count in true.items():
        assert count - counted.missed <= counted.counts[item] <= count
    assert {item for item, _ in counted.top(3)} == {"w1", "w2", "w3"}
    ties = Frequent()
    ties.update(["b", "c", "a", "c"])
    assert ties.top(2) == [("c", 2), ("a", 1)]


def test_distinct_texts_are_exact_while_they_fit_and_estimated_beyond():
    small, large = Distinct(1000), Distinct(1000)
    for n in range(30_000):
        large.add(f"text {n % 15_000}")
    for n in range(3000):
        small.add(f"text {n % 1000}")
    assert (small.count, small.exact) == (1000, True)
    assert not large.exact
    assert large.count == pytest.approx(15_000, rel=4 / np.sqrt(1000))


def test_bars_are_the_histogram_of_all_lengths_and_one_giant_does_not_flatten_it():
    rng = np.random.default_rng(1)
    lengths = {"long": rng.normal(110, 30, 5000).astype(int).clip(1), "short": rng.poisson(14, 800)}
    drawn = bars({kind: Counter(each.tolist()) for kind, each in lengths.items()})
    widths = {edges[1] - edges[0] for edges, _ in drawn.values()}
    assert widths == {5}
    for kind, (edges, heights) in drawn.items():
        end = np.quantile(lengths[kind], 0.999, method="inverted_cdf")
        kept = lengths[kind][lengths[kind] <= end]
        expected, _ = np.histogram(kept, edges)
        np.testing.assert_allclose(heights, 100 * expected / len(lengths[kind]))
    (edges, _) = bars({"long": Counter([*lengths["long"].tolist(), 90_000])})["long"]
    assert edges[-1] < 300
    assert quantile(Counter(), 0.5) is None


def test_the_page_shows_the_corpus_next_to_the_papers(statistics):
    page = statistics_page(statistics, EVIL)
    document = Document(page)
    assert not document.all("script") and "http" not in re.sub(r"http-equiv", "", page)
    headings = [text for tag, text in document.texts if tag == "h2"]
    assert headings == [
        "Parts of the corpus",
        "How long the texts are",
        "What the texts speak of",
        "Labels",
        "Licences and splits",
        "Who made it",
        "Set aside",
    ]
    texts = [text for _, text in document.texts]
    found = as_json(statistics)
    for value in (found["all"]["long_mean_tokens"], found["sources"]["DIOR"]["short_mean_tokens"]):
        assert f"{value:.2f}" in texts
    assert {"MillionAID", "published", "RSCLIP, Section II-B: the parts of its corpus"} <= set(texts)
    assert "The parts add up to 2,023,718 pairs, the text states 2,023,688." in texts
    assert "A list of words decided this, not a tagger" in page
    cloud = {text for tag, text in document.texts if tag == "text"}
    assert set(found["content_words"]["counts"]) <= cloud and not {"the", "are", "of", "quickly"} & cloud
    assert "10 rarer ones are not shown." in texts
    assert page == statistics_page(statistics, EVIL)


def test_without_the_papers_and_without_texts_the_page_says_less(statistics):
    assert "MillionAID" not in statistics_page(statistics, "ours", published=False)
    bare = gather([CorpusRecord("1", "/1.jpg", "DIOR")])
    headings = [text for tag, text in Document(statistics_page(bare, "bare", published=False)).texts if tag == "h2"]
    assert headings == ["Parts of the corpus", "Licences and splits"]
    assert Document(statistics_page(CorpusStatistics(), "none"))


def test_files_agree_and_the_printed_table_is_aligned(records, statistics, tmp_path):
    corpus, out = tmp_path / "mine" / "corpus", tmp_path / "out" / "statistics"
    with store.Writer(corpus, 128) as made:
        for record in records:
            made.write(record)
    lines = write_statistics(corpus, out)
    assert "<h1>Corpus mine</h1>" in (out / "statistics.html").read_text("utf-8")
    assert len({len(line) for line in lines}) == 1 and len(lines) == 5
    assert sorted(path.name for path in out.iterdir()) == ["statistics.html", "statistics.json", "table.csv"]
    written = json.loads((out / "statistics.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(as_json(statistics) | {"set_aside": []}))
    with open(out / "table.csv", encoding="utf-8", newline="") as file:
        rows = {row["source"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["DIOR", "Mosaics", EVIL, "all"]
    assert float(rows["all"]["short_mean_tokens"]) == written["all"]["short_mean_tokens"]
    assert rows["DIOR"]["long_mean_tokens"] == ""
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert write_statistics(corpus, out) == lines == as_lines(statistics)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_nothing_is_written_where_a_file_cannot_be_made_or_the_corpus_is_bad(records, tmp_path, monkeypatch):
    with store.Writer(tmp_path / "corpus") as made:
        made.write(records[0])
    with pytest.raises(InputError, match="no records there"):
        write_statistics(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "corpus" / "part-000001.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match="part-000001.parquet: torn"):
        write_statistics(tmp_path / "corpus", tmp_path / "out")
    (tmp_path / "corpus" / "part-000001.parquet").unlink()
    monkeypatch.setattr(statistics_files, "statistics_page", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_statistics(tmp_path / "corpus", tmp_path / "out")
    assert not (tmp_path / "out").exists()
