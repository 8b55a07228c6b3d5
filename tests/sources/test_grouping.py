"""Rows of an image that stand anywhere in a file, against a dictionary that holds them all; and the memory it takes."""

import json
import random
import subprocess
import sys

import pytest
from source_files import lines, split_up, write

from lrsclip_jax.sources import Keys, grouping, open_source
from lrsclip_jax.sources.grouping import find_repeats, grouped
from lrsclip_jax.sources.json_files import JsonLines, JsonLists
from lrsclip_jax.sources.numbering import SeenTexts
from lrsclip_jax.sources.text_encoding import open_text


def together(rows: list[dict]) -> list[list[dict]]:
    """The plain twin: all rows of an image, in the order of the images' first rows."""
    groups: dict = {}
    for number, row in enumerate(rows):
        groups.setdefault(row.get("image", number), []).append(row)
    return list(groups.values())


HASHES = {
    "of 64 bits": grouping.hash_of,
    "few": lambda key: hash(key) % 7,
    "of few high bits": lambda key: (hash(key) % 3) << 62,
    "one": lambda key: 5,
}


@pytest.mark.slow
@pytest.mark.parametrize("hash_of", HASHES.values(), ids=HASHES)
@pytest.mark.parametrize("part", [1, 2, 7, 1 << 14])
def test_rows_of_an_image_come_together_also_where_hashes_collide(tmp_path, monkeypatch, hash_of, part):
    monkeypatch.setattr(grouping, "hash_of", hash_of)
    monkeypatch.setattr(grouping, "_PART", part)
    draw = random.Random(part)
    for _ in range(20):
        rows = [{"image": f"{draw.randint(0, 12)}é.jpg", "text": str(n)} for n in range(draw.randint(0, 40))]
        rows = [{"text": "alone"} if draw.random() < 0.1 else row for row in rows]
        if draw.random() < 0.3:
            rows.sort(key=lambda row: row.get("image", ""))
        write(tmp_path / "a.jsonl", lines(rows))
        write(tmp_path / "a.json", json.dumps(rows, ensure_ascii=False))
        for file in (
            JsonLines(tmp_path / "a.jsonl", open_text(tmp_path / "a.jsonl")),
            JsonLists(tmp_path / "a.json", open_text(tmp_path / "a.json")),
        ):
            found = grouped(file, lambda row: row.get("image"), find_repeats(file, lambda row: row.get("image")))
            assert [[row.values for row in group] for group in found] == together(rows)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv"])
@pytest.mark.parametrize("scattered", [False, True])
def test_a_row_a_caption_makes_one_item_an_image(tmp_path, suffix, scattered):
    rows = [
        {"image": f"{name}.png", "caption": f"{text} {name}"} for name in "ba" for text in ("a bridge", "trees", "x")
    ]
    rows = rows[::2] + rows[1::2] if scattered else rows
    comma = "\t" if suffix == "tsv" else ","
    table = "".join(comma.join(row) + "\n" for row in [("image", "caption"), *(row.values() for row in rows)])
    content = {"json": rows, "jsonl": lines(rows)}.get(suffix, table)
    items = list(open_source(write(tmp_path / f"flat.{suffix}", content)))
    assert [(item.id, item.short) for item in items] == [
        (f"{name}.png", tuple(row["caption"] for row in rows if row["image"] == f"{name}.png")) for name in "ba"
    ]


def test_all_that_rows_say_of_an_image_is_kept_and_contradictions_are_faults(tmp_path):
    rows = [
        {"image": "a.jpg", "short": "one", "id": "first"},
        {"image": "b.jpg", "short": "b", "label": "Port"},
        {"image": "./a.jpg", "long": "Two.", "label": "Farm", "licence": "CC0", "id": "second"},
        {"image": "a.jpg", "short": "three", "label": "Port"},
        {"image": "a.jpg", "short": "four", "split": "test", "label": "Farm"},
        {"image": "a.jpg", "short": 5},
        {"image": "a.jpg", "short": "six", "split": "train"},
    ]
    (first, second), faults = split_up(open_source(write(tmp_path / "a.jsonl", lines(rows))))
    assert (first.id, first.short, first.long) == ("first", ("one", "four"), ("Two.",))
    assert (first.label, first.licence, first.split) == ("Farm", "CC0", "test") and second.id == "b.jpg"
    assert [(fault.where, fault.id, fault.reason[:21]) for fault in faults] == [
        ("a.jsonl, line 4", "a.jpg", "label 'Port', where a"),
        ("a.jsonl, line 6", "a.jpg", "'short' holds 5, a te"),
        ("a.jsonl, line 7", "a.jpg", "split 'train', where "),
    ]


def test_rows_of_an_image_keep_each_short_text_with_its_hard_negative(tmp_path):
    rows = [
        {"image": "a.jpg", "caption": "a road"},
        {"image": "a.jpg", "caption": ["", "two roads"], "wrong": ["x", "a road"]},
        {"image": "a.jpg", "caption": "three roads", "wrong": "three roads"},
    ]
    (item,) = open_source(write(tmp_path / "a.jsonl", lines(rows)), Keys(negative="wrong"))
    assert item.short == ("a road", "two roads", "three roads") and item.negative == ("", "a road", "")


def test_seen_texts_are_new_once():
    seen, texts = SeenTexts(), [f"text {n % 20_000}" for n in range(50_000)]
    assert [seen.add(text) for text in texts] == [n < 20_000 for n in range(50_000)]


MEASURE = """
import sys
from lrsclip_jax.sources import Keys, open_source
source = open_source(sys.argv[1])
texts = sum(len(getattr(item, "short", ())) for item in source)
# Not what getrusage says, which is the parent's memory at first.
print(texts, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("suffix", "rows", "scattered"),
    [
        ("csv", 5, False),
        ("jsonl", 5, True),
        ("json", 5, True),
        ("json", 1, False),
    ],
)
def test_memory_grows_by_less_than_64_bytes_an_image(tmp_path, suffix, rows, scattered):
    # Texts of 200 characters, so that none can be held; from 10,000 images on, so that what is constant falls out.
    sizes = (10_000, 50_000)
    paths = [tmp_path / f"{count}.{suffix}" for count in sizes]
    for count, path in zip(sizes, paths, strict=True):
        draw = random.Random(0)
        orders = [draw.sample(range(count), count) for _ in range(rows)]
        numbers = (
            [n for order in orders for n in order] if scattered else [n for n in range(count) for _ in range(rows)]
        )
        with open(path, "w") as file:
            file.write({"csv": "image,caption\n", "json": "[{}"}.get(suffix, ""))
            for row, number in enumerate(numbers):
                image, text = f"images/{number:08d}.jpg", f"caption {row} " + "with words " * 17
                line = f"{image},{text}\n" if suffix == "csv" else json.dumps({"image": image, "caption": text})
                file.write({"csv": line, "jsonl": f"{line}\n", "json": f",\n{line}"}[suffix])
            file.write("]" if suffix == "json" else "")

    def grown():
        peaks = []
        for count, path in zip(sizes, paths, strict=True):
            done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
            texts, peak = map(int, done.stdout.split())
            assert texts == count * rows
            peaks.append(1024 * peak)
        return (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])

    # What the interpreter and its allocator take differs by a megabyte from start to start: 26 bytes an image.
    assert any(grown() < 64 for _ in range(3))
