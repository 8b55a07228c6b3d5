import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.stages.merging import KEYS, merge
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing


@pytest.fixture
def sides(tmp_path):
    """Long texts of images a, b, c; short ones of the same a and b elsewhere, twice of a, and of d."""
    rng = np.random.default_rng(0)
    other = tmp_path / "other"
    other.mkdir()
    for name in "abcd":
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        image = small.resize((96, 96), Image.Resampling.BICUBIC)
        for folder in (tmp_path, other):
            image.save(folder / f"{name}.png")
    long = [
        CorpusRecord(name, str(tmp_path / f"{name}.png"), "VHM", long=(f"long {name}",), licence="CC0-1.0")
        for name in "abc"
    ]
    short = [
        CorpusRecord(
            name,
            str(tmp_path / "other" / f"{name}.png"),
            "RS5M",
            short=(f"short {name}",),
            licence="CC0-1.0",
            label=label,
            negative=(f"wrong {name}",),
        )
        for name, label in (("a", None), ("b", "port"), ("d", None))
    ]
    twice = CorpusRecord("a", short[0].image, "RS5M", short=("short a", "again"), things=(Thing("ship"),))
    return long, [*short, twice]


@pytest.mark.parametrize("key", KEYS)
def test_texts_meet_at_their_image(sides, tmp_path, key):
    found = list(merge(*sides, tmp_path / "index", key))
    records = [record for record in found if isinstance(record, CorpusRecord)]
    assert [(r.id, r.source, r.long, r.short, r.label) for r in records] == [
        ("a", "VHM", ("long a",), ("short a", "again"), None),
        ("b", "VHM", ("long b",), ("short b",), "port"),
    ]
    assert [r.negative for r in records] == [("wrong a", ""), ("wrong b",)]
    assert records[0].things == (Thing("ship"),) and records[0].image == sides[0][0].image
    assert records[0].licence is None and records[1].licence == "CC0-1.0"  # unknown where one of both is
    assert [record.provenance[-1].detail for record in records] == [f"short, by {key}"] * 2
    aside = [one for one in found if isinstance(one, SetAside)]
    assert [(one.id, key in one.reason) for one in aside] == [("c", True), ("d", True)]
    assert not (tmp_path / "index").exists()


def test_an_image_that_can_not_be_read_is_set_aside(sides, tmp_path):
    (tmp_path / "other" / "b.png").write_bytes(b"torn")
    found = list(merge(*sides, tmp_path / "index", "phash"))
    aside = [one.reason for one in found if isinstance(one, SetAside)]
    assert sum("other/b.png" in reason for reason in aside) == 1
    assert [record.id for record in found if isinstance(record, CorpusRecord)] == ["a"]


def test_an_unknown_key_is_named(sides, tmp_path):
    with pytest.raises(InputError, match="unknown merge key 'stems', did you mean 'stem'"):
        list(merge(*sides, tmp_path / "index", "stems"))
