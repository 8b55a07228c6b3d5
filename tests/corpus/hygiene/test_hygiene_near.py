"""Perceptual hashes, near pairs, and the two stages that compare images by them."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.fftpack
from PIL import Image

from lrsclip_jax.corpus.hygiene import near
from lrsclip_jax.corpus.hygiene.duplicates import Duplicate, without_copies, without_duplicates
from lrsclip_jax.corpus.hygiene.leakage import Leak, hash_references, leaks, nearest_training, report, without_leaks
from lrsclip_jax.corpus.hygiene.near import Index, Originals, near_pairs
from lrsclip_jax.corpus.hygiene.phash import hash_files, phash, phash_windows, pixel_hash
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.errors import InputError


def scene(seed: int, size: tuple[int, int] = (120, 100)) -> Image.Image:
    """Blocks of colour, smoothly enlarged: unlike each other in their low frequencies, as scenes are."""
    blocks = np.random.default_rng(seed).integers(256, size=(9, 9, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def records(paths) -> list[CorpusRecord]:
    return [CorpusRecord(Path(path).stem, str(path), "S") for path in paths]


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Distinct hashes of which many are 0 to 6 flipped bits from others."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(2**64, size=count // 4, dtype=np.uint64)[rng.integers(count // 4, size=count)]
    for _ in range(6):
        bits = np.uint64(1) << rng.integers(64, size=count, dtype=np.uint64)
        hashes ^= np.where(rng.random(count) < 0.5, bits, np.uint64(0))
    return rng.permutation(np.unique(hashes))


def distances(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    return np.bitwise_count(queries[:, None] ^ references)


def test_phash_is_imagehash():
    """Hashes that ImageHash 4.3.2 gave for these images, and its recipe on others."""
    ramp = Image.fromarray(np.add.outer(np.arange(48) ** 2 % 251, 3 * np.arange(64) % 239).astype(np.uint8))
    assert f"{phash(ramp):016x}" == "940d023d3f2f7867"
    assert f"{phash(Image.new('RGB', (40, 40), (200, 10, 10))):016x}" == "8000000000000000"
    for seed in range(5):
        image = scene(seed)
        pixels = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS))
        low = scipy.fftpack.dct(scipy.fftpack.dct(pixels, axis=0), axis=1)[:8, :8]
        bits = "".join(str(int(bit)) for bit in (low > np.median(low)).ravel())
        assert phash(image) == int(bits, 2)


def test_windows_are_of_the_whole_image_and_of_its_crops():
    image = scene(1, (200, 160))
    windows = phash_windows(image)
    assert windows.shape == (25,) and windows.dtype == np.uint64
    assert windows[0] == phash(image) and phash(image.crop((10, 8, 190, 152))) in windows


def test_hashes_of_files_name_the_unreadable(tmp_path):
    scene(1).save(tmp_path / "1.png")
    scene(2).save(tmp_path / "2.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    hashes, unread = hash_files([tmp_path / name for name in ("torn.png", "1.png", "2.png")])
    assert hashes.tolist() == [0, phash(scene(1)), phash(scene(2))] and list(unread) == [0]
    assert unread[0].startswith(f"{tmp_path}/torn.png: ")
    assert hash_files([tmp_path / "torn.png", tmp_path / "1.png"], phash_windows)[0].shape == (2, 25)


@pytest.mark.parametrize("distance", [0, 1, 3, 4, 8, 13])
def test_near_pairs_are_those_of_brute_force(distance, monkeypatch):
    monkeypatch.setattr(near, "_CANDIDATES", 300)  # so that there are many blocks, and rows larger than one
    hashes = clustered(400)
    expected = np.argwhere(np.triu(distances(hashes, hashes) <= distance, 1))
    np.testing.assert_array_equal(near_pairs(hashes, distance), expected)


@pytest.mark.parametrize("number", range(3, 9))
def test_any_number_of_bands_finds_the_same(number, monkeypatch):
    monkeypatch.setattr(near, "_bands_for", lambda count, distance: number)
    hashes = clustered(400, seed=1)
    np.testing.assert_array_equal(near_pairs(hashes, 5), np.argwhere(np.triu(distances(hashes, hashes) <= 5, 1)))


def test_nearest_is_the_first_of_the_nearest():
    references = np.concatenate([clustered(300), clustered(300)])  # all of them twice
    queries = clustered(200, seed=0) ^ np.uint64(0b1011)
    apart = distances(queries, references)
    expected = np.where(apart.min(1) <= 6, apart.argmin(1), -1)
    rows, found = Index(references, 6).nearest(queries)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(found, np.where(expected < 0, 65, apart.min(1)))
    assert 0 < np.count_nonzero(rows >= 0) < len(rows)


def test_a_hundred_thousand_equal_hashes_cost_no_more_than_one():
    same = np.full(100_000, 7, np.uint64)
    rows, found = Index(same, 4).nearest(same)
    assert not rows.any() and not found.any()
    rows, found = Originals(4).add(same[:3000])
    assert not rows.any() and not found.any()
    with pytest.raises(InputError, match="99,999 of 100,000 hashes repeat others"):
        near_pairs(same, 4)


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_originals_are_near_to_no_earlier_original(block):
    hashes = np.random.default_rng(3).permutation(np.concatenate([clustered(500), clustered(500)[:100]]))
    originals: list[int] = []
    expected = []
    for row, one in enumerate(hashes):
        apart = np.bitwise_count(hashes[originals] ^ one)
        if len(apart) and apart.min() <= 4:
            expected.append((originals[apart.argmin()], apart.min()))
        else:
            originals.append(row)
            expected.append((row, 0))
    seen = Originals(4)
    found = [seen.add(hashes[start : start + block]) for start in range(0, len(hashes), block)]
    rows, apart = (np.concatenate(values) for values in zip(*found, strict=True))
    np.testing.assert_array_equal(np.stack([rows, apart], axis=1), expected)
    assert 100 < len(originals) < len(hashes) - 100


def test_a_distance_must_be_one_of_64_bits():
    with pytest.raises(InputError, match="a distance of 65 bits"):
        near_pairs(clustered(8), 65)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Scenes 0 to 3; 4 is scene 0 as JPEG, 5 is scene 1 as WebP without loss, 6 is torn."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        scene(number).save(folder / f"{number}.png")
    scene(0).save(folder / "4.jpg", quality=60)
    scene(1).save(folder / "5.webp", lossless=True)
    (folder / "6.png").write_bytes(b"\x89PNG torn")
    return sorted(folder.iterdir())


def test_duplicates_name_what_they_repeat(images):
    outcomes = list(without_duplicates(records(images)))
    assert [type(one) for one in outcomes] == [CorpusRecord] * 4 + [Duplicate] * 2 + [SetAside]
    assert [one.id for one in outcomes] == list("0123456")
    assert [one.kept for one in outcomes[4:6]] == ["0", "1"] and outcomes[5].distance == 0
    assert outcomes[5].reason == "image as of 1 (hashes 0 bits apart)"
    assert "6.png: " in outcomes[6].reason
    assert outcomes == list(without_duplicates(iter(records(images))))
    assert [one.id for one in without_duplicates(records(images[::-1])) if isinstance(one, CorpusRecord)] == list(
        "5432"
    )


def test_copies_have_the_same_pixels(images):
    outcomes = list(without_copies(records(images)))
    assert [one.id for one in outcomes if isinstance(one, Duplicate)] == ["5"]
    narrow, wide = Image.new("RGB", (4, 8)), Image.new("RGB", (8, 4))
    assert pixel_hash(narrow) != pixel_hash(wide) and pixel_hash(wide) == pixel_hash(wide.convert("L"))


def test_edited_test_images_are_removed_from_training(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    edits = importlib.import_module("benchmarks.leakage").EDITS
    assert len(edits) == 6
    tests, train = tmp_path / "test", tmp_path / "train"
    tests.mkdir()
    train.mkdir()
    for seed, (edit, rng) in enumerate(zip(edits.values(), [np.random.default_rng(0)] * 6, strict=True)):
        scene(seed).save(tests / f"{seed}.png")
        edit(scene(seed), rng).convert("RGB").save(train / f"leak{seed}.png")
    for seed in range(100, 110):
        scene(seed).save(train / f"own{seed}.png")
    references = hash_references({"A": sorted(tests.iterdir())[:3], "B": sorted(tests.iterdir())[3:]})
    outcomes = list(without_leaks(records(sorted(train.iterdir())), references))
    found = [one for one in outcomes if isinstance(one, Leak)]
    assert [one.id for one in found] == [f"leak{n}" for n in range(6)] and len(outcomes) == 16
    assert [(one.set, Path(one.image).stem) for one in found] == [(s, str(n)) for n, s in enumerate("AAABBB")]
    assert found[0].reason == f"near {tests}/0.png of A (hashes {found[0].distance} bits apart)"

    assert [one.record_image for one in found] == [str(train / f"leak{n}.png") for n in range(6)]

    again = replace(found[0], id="again", distance=found[0].distance + 1)
    summary = report([again, *found], {"A": 3, "B": 9, "C": 1}, examples=2)
    assert {key: summary["A"][key] for key in ("images", "images_leaked", "records_removed")} == {
        "images": 3,
        "images_leaked": 3,
        "records_removed": 4,
    }
    nearest = sorted(found[:3], key=lambda leak: leak.distance)[:2]
    assert summary["A"]["examples"] == [
        {"record": one.id, "record_image": one.record_image, "image": one.image, "distance": one.distance}
        for one in nearest
    ]
    assert summary["B"]["images"] == 9 and json.dumps(summary)
    assert summary["C"] == {"images": 1, "images_leaked": 0, "records_removed": 0, "examples": []}
    far = np.asarray([phash(scene(200))], np.uint64)
    assert [values.tolist() for values in leaks(far, references)] == [[-1], [65]]


def test_the_nearest_training_image_is_that_of_brute_force():
    hashes = clustered(1200)
    far = np.random.default_rng(1).integers(2**64, size=150, dtype=np.uint64)
    references = np.concatenate([hashes[:150], far]).reshape(60, 5)
    train = np.concatenate([hashes[130:], hashes[250:400]])
    blocks = [(range(start, start + 300), train[start : start + 300]) for start in range(0, len(train), 300)]
    found = nearest_training(references, blocks, 6)
    apart = distances(references.reshape(-1), train).reshape(60, 5, -1).min(axis=1)
    assert [None if near is None else near[1] for near in found] == [
        None if bits > 6 else bits for bits in apart.min(axis=1).tolist()
    ]
    assert all(apart[row, near[0]] == near[1] for row, near in enumerate(found) if near)
    assert 20 < sum(near is None for near in found) < 40
    assert nearest_training(references, [], 6) == [None] * 60
    twice = nearest_training(references[:1], [(["a", "b"], references[0, [1, 1]]), (["c"], references[0, 1:2])], 6)
    assert twice == [("a", 0)]


def test_references_must_be_readable(images):
    with pytest.raises(InputError, match=r"1 of 7 images of RSICD can't be read: .*6\.png"):
        hash_references({"RSICD": images})
    with pytest.raises(InputError, match="no image of an evaluation set"):
        hash_references({})


def test_the_benchmark_of_near_pairs_checks_itself(monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    importlib.import_module("benchmarks.phash").main(["--hashes", "600", "--distances", "0", "4"])
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert all(row.count("| yes |") == 2 for row in rows) and "NO" not in "".join(rows)


def test_the_benchmark_of_leakage_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    (tmp_path / "Pond").mkdir()
    lines = []
    for seed in range(6):
        scene(min(seed, 4)).save(tmp_path / "Pond" / f"{seed}.png")  # 4 and 5 are one, in both splits
        lines.append({"cls": "Pond", "filename": f"{seed}.png", "split": "test" if seed % 2 else "train"})
    splits = tmp_path / "splits.jsonl"
    splits.write_text("\n".join(map(json.dumps, lines)))
    arguments = [f"--images={tmp_path}", f"--splits={splits}", "--distances", "8"]
    importlib.import_module("benchmarks.leakage").main(arguments)
    out = capsys.readouterr().out.splitlines()
    assert "3 test images, 3 train images" in out[0]
    assert "| JPEG, quality 60 | 100.0 | 100.0 |" in out and "| not planted, of 9 pairs | 1 | 1 |" in out
    assert out[-1] == "0 bits: test Pond/5.png, train Pond/4.png"
    splits.write_text("{}")
    with pytest.raises(InputError, match="line 1: cls, filename and split are expected"):
        importlib.import_module("benchmarks.leakage").main(arguments)
