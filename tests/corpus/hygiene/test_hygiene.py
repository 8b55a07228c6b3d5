"""The stages that clean a corpus, each on records and images of its own."""

import struct

import numpy as np
import pytest
from PIL import Image

from eval.embeddings import open_set, write_set
from lrsclip_jax.corpus.hygiene.balance import balance, by_label, by_length, by_source
from lrsclip_jax.corpus.hygiene.caption_checks import NearCaptions, bound_captions, cap_captions, caption_key
from lrsclip_jax.corpus.hygiene.clip_score import by_clip_score, clip_scores
from lrsclip_jax.corpus.hygiene.image_checks import check_images, uniform_share
from lrsclip_jax.corpus.hygiene.licences import check_licences
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing


def record(name: str, **values) -> CorpusRecord:
    return CorpusRecord(**{"id": name, "image": f"{name}.png", "source": "S"} | values)


def kept(outcomes) -> list[str]:
    return [one.id for one in outcomes if isinstance(one, CorpusRecord)]


def reasons(outcomes) -> dict[str, str]:
    return {one.id: one.reason for one in outcomes if isinstance(one, SetAside)}


def test_images_that_cannot_be_used_are_set_aside(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(80, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "good.png")
    Image.fromarray(noise[:63]).save(tmp_path / "tiny.png")
    mostly = noise.copy()
    mostly[:76] = (9, 9, 9)
    Image.fromarray(mostly).save(tmp_path / "empty.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:5000])
    # A grey TIFF of 2 GB by its header: width, height, 8 bits, one strip that begins at the end of the file.
    entries = ((256, 40_000), (257, 50_000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 50_000), (279, 8))
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    (tmp_path / "bomb.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + b"\0\0\0\0")
    files = ["good.png", "tiny.png", "empty.png", "torn.png", "bomb.tif", "missing.png"]

    outcomes = list(check_images(record(name, image=str(tmp_path / name)) for name in files))
    assert [one.id for one in outcomes] == files
    assert (outcomes[0].width, outcomes[0].height) == (100, 80) and kept(outcomes) == ["good.png"]
    said = {name: text.removeprefix(f"{tmp_path}/{name}: ") for name, text in reasons(outcomes).items()}
    assert said["tiny.png"] == "100×63 pixels, a side under 64"
    assert said["empty.png"] == "95.0% of its pixels have one grey value"
    assert said["torn.png"].startswith("torn or damaged image")
    assert said["bomb.tif"].startswith("over 178,956,970 pixels")
    assert said["missing.png"] == "image can't be read (No such file or directory)"
    assert uniform_share(Image.new("RGB", (4, 4))) == 1 and uniform_share(Image.fromarray(noise)) < 0.05


def test_captions_of_the_same_words_are_one():
    same = ("A plane, in the airport.", "in airport a PLANE", "the plane in the airport plane")
    assert len(set(map(caption_key, same))) == 1
    assert len({caption_key(text) for text in (same[0], "two planes in the airport", "a plane at the airport")}) == 3


def test_a_caption_is_used_at_limit_images_at_most():
    outcomes = list(
        cap_captions(
            [
                record("a", short=("A pond.", "a pond", "a road")),
                record("b", long=("The pond!",)),
                record("c", short=("pond", "a field"), long=("a road",)),
                record("d", short=("pond a",)),
                record("e"),
            ],
            limit=2,
        )
    )
    assert kept(outcomes) == ["a", "b", "c", "e"]
    assert outcomes[0].short == ("A pond.", "a pond", "a road") and not outcomes[0].provenance  # copies at one image
    assert (outcomes[2].short, outcomes[2].long) == (("a field",), ("a road",))
    assert outcomes[2].provenance[-1].detail == "1 of 3 texts out: used at 2 images before"
    assert reasons(outcomes) == {"d": "all 1 texts out: used at 2 images before"}


def test_near_captions_are_one_as_brute_force_says():
    rng = np.random.default_rng(0)
    seeds = [rng.choice(200, rng.integers(4, 30), replace=False) for _ in range(12)]
    sets = [frozenset(map(str, rng.permutation(seed)[: rng.integers(3, 30)])) for seed in seeds for _ in range(30)]
    sets = [sets[n] for n in rng.permutation(len(sets))] + [frozenset()] * 2
    for similarity in (0.6, 0.8, 1.0):
        near, originals, expected = NearCaptions(similarity), [], []
        for words in sets:
            alike = (len(words & other) >= similarity * len(words | other) for other in originals)
            expected.append(next((n for n, found in enumerate(alike) if found), len(originals)))
            if expected[-1] == len(originals):
                originals.append(words)
        assert [near.original(words) for words in sets] == expected
        assert len(originals) < len(sets) - 10
    with pytest.raises(InputError, match="a similarity of 1.2"):
        NearCaptions(1.2)


def test_a_caption_with_another_word_is_capped_where_that_is_near():
    captions = ("many green trees near a small pond", "some green trees near a small pond", "many cars on a road")
    records = [record(str(n), short=(text,)) for n, text in enumerate(captions)]
    assert kept(cap_captions(records, 1)) == ["0", "1", "2"]
    assert kept(cap_captions(records, 1, similarity=0.7)) == ["0", "2"]  # 5 of 7 words, no articles


def test_captions_are_bounded_by_their_tokens():
    assert [len(ids) for ids in clip_tokenizer().encode(["a pond", "a pond near a road"])] == [4, 7]
    texts = {"short": ("a pond near a road", "a pond"), "long": ("a pond near a road",), "negative": ("", "a lake")}
    outcomes = list(bound_captions([record("a", **texts), record("b", short=("pond",))], short=(4, 6), long=(7, 9)))
    assert (outcomes[0].short, outcomes[0].negative) == (("a pond",), ("a lake",))
    assert outcomes[0].long == ("a pond near a road",)
    assert outcomes[0].provenance[-1].stage == "captions" and kept(outcomes) == ["a"]
    assert "not of 4 to 6 tokens (short) or 7 to 9 (long)" in reasons(outcomes)["b"]
    with pytest.raises(InputError, match="long captions of 9 to 7 tokens"):
        list(bound_captions([], long=(9, 7)))
    with pytest.raises(InputError, match="record 'a': 1 negative texts for 2 short ones"):
        record("a", short=("a pond", "a road"), negative=("a lake",))


def test_balance_draws_by_seed_and_id_alone():
    records = [
        record(str(n), label="common" if n % 4 else "rare", things=(Thing("x", (0, 0, 1, 1)),)) for n in range(40)
    ]
    outcomes = list(balance(records, by_label, 12))
    assert [one.id for one in outcomes] == [one.id for one in records]
    assert [one for one in outcomes if isinstance(one, CorpusRecord)] == [r for r in records if r.id in kept(outcomes)]
    rare = {str(n) for n in range(0, 40, 4)}
    chosen = set(kept(outcomes))
    assert rare <= chosen and len(chosen - rare) == 12
    assert set(kept(balance(reversed(records), by_label, 12))) == chosen
    assert set(kept(balance(records, by_label, 11))) < chosen
    assert set(kept(balance(records, by_label, 12, seed=1))) != chosen
    assert reasons(outcomes).popitem()[1] == "group 'common' has more than 12 records"


def test_groups_of_balance():
    lengths = by_length((5, 8))
    texts = ((), ("a pond",), ("a pond near it", "a pond"), ("a pond near a road and a field",))
    assert [lengths(record("a", short=short)) for short in texts] == [None, 0, 1, 2]
    unlabelled = [record(str(n), source="ST"[n % 2]) for n in range(6)]
    assert len(kept(balance(unlabelled, by_label, 1))) == 6
    assert len(kept(balance(unlabelled, by_source, 1))) == 2
    assert not list(balance([], by_source, 1))
    with pytest.raises(InputError, match="8, 5: expected ascending"):
        by_length((8, 5))


def test_unknown_licences_are_refused_unless_told():
    known = [record("a", licence="MIT"), record("b", licence="MIT"), record("c", source="T", licence="CC0-1.0")]
    assert check_licences(known) == {("S", "MIT"): 2, ("T", "CC0-1.0"): 1}
    mixed = [*known, record("d", source="U"), record("e", licence="")]
    with pytest.raises(InputError) as caught:
        check_licences(mixed)
    assert str(caught.value).startswith(
        "the licence of 2 of 5 records is unknown (S: 1 unknown; U: 1 unknown; S: 2 MIT; T: 1 CC0-1.0): "
    )
    assert check_licences(mixed, allow_unknown=True)["U", None] == 1


@pytest.fixture
def embeddings(tmp_path):
    """Five images and the cosines of their texts: a 0.8, b mean of 0.6 and 0.2, c 0.4, d without one, e 0.9."""
    texts = [("a", 0.8), ("b", 0.6), ("b", 0.2), ("c", 0.4), ("e", 0.9)]
    rows = [[cosine, np.sqrt(1 - cosine**2)] for _, cosine in texts]
    of_text = [{"text": "t", "kind": "long" if n == 1 else "short", "image": name} for n, (name, _) in enumerate(texts)]
    rows.append([-1.0, 0.0])  # a cut text is no text of its own
    of_text.append({"text": "t", "kind": "long", "image": "a", "tokens": 20})
    meta = {"model": "m", "dataset": "d", "features": "projected"}
    images = np.tile(np.array([[3.0, 0.0]]), (5, 1))
    return open_set(write_set(tmp_path / "set", meta, images, np.array(rows), [{"id": i} for i in "abcde"], of_text))


def test_clip_scores_are_mean_cosines(embeddings):
    np.testing.assert_allclose(clip_scores(embeddings), [0.8, 0.4, 0.4, np.nan, 0.9], atol=1e-6)


def test_filtering_by_clip_score(embeddings):
    records = [record(name) for name in "abcdef"]
    assert kept(by_clip_score(records, embeddings, top=0.5)) == ["a", "e"]
    outcomes = list(by_clip_score(records, embeddings, least=0.85))
    assert kept(outcomes) == ["e"]
    assert reasons(outcomes)["a"] == "CLIP score 0.8000, 0.8500 is asked for"
    assert reasons(outcomes)["d"].endswith("has no text of this image")
    assert reasons(outcomes)["f"].endswith("has no image of this id")
    for wrong in ({}, {"top": 0.5, "least": 0.2}, {"top": 0.0}):
        with pytest.raises(InputError):
            list(by_clip_score(records, embeddings, **wrong))
