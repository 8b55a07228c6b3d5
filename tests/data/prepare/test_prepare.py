import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.prepare.census import take_census
from lrsclip_jax.data.prepare.counts import Statistics, table
from lrsclip_jax.data.prepare.encode import Options, encode_jpeg
from lrsclip_jax.data.prepare.preparation import prepare
from lrsclip_jax.data.prepared.records import RecordReader
from lrsclip_jax.data.preprocessing import resize_shorter
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Keys, open_source

COMMAND = [sys.executable, "-m", "lrsclip_jax.data.prepare"]


def jpeg(height: int, width: int, seed: int = 0, **options) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height)).save(file, "JPEG", **options)
    return file.getvalue()


def source(folder, count: int = 10, size: tuple[int, int] = (40, 60), change=lambda index, row: row):
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(count):
        (folder / f"images/{index}.jpg").write_bytes(jpeg(*size, seed=index))
        row = {
            "image": f"{index}.jpg",
            "long": f"Scene number {index}. " * 20,
            "short": [f"scene {index}", "a scene"],
        }
        rows.append(change(index, row))
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows if row))
    return folder / "list.jsonl"


def opened(path, **keys):
    return open_source(str(path), Keys(**keys), path.parent / "images")


def command(path, out, *flags, check=True):
    arguments = [*COMMAND, str(path), f"--image-root={path.parent / 'images'}", f"--out={out}", *flags]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_prepared_records_hold_everything(tmp_path):
    path = source(tmp_path, 10, change=lambda i, row: {**row, "label": "odd" if i % 2 else "even", "licence": "CC0"})
    counts = prepare(opened(path), tmp_path / "out", Options(size=24), shard_size=4)
    reader = RecordReader(tmp_path / "out")
    assert [record.id for record in reader] == [f"{i}.jpg" for i in range(10)]
    record, tokenizer = reader[7], clip_tokenizer()
    assert record.source == "list" and record.label == "odd" and record.licence == "CC0"
    assert record.long == (("Scene number 7. " * 20).strip(),) and record.short == ("scene 7", "a scene")
    assert record.tokens[tokenizer.hash] == {
        "long": tokenizer.encode(list(record.long)),
        "short": tokenizer.encode(list(record.short)),
    }
    resized = resize_shorter(read_image(tmp_path / "images/7.jpg"), 24)
    file = io.BytesIO()
    resized.save(file, "JPEG", quality=92)
    assert record.image == file.getvalue() and resized.size == (36, 24)
    assert counts["train"].written == 10 and counts["train"].lengths["short"].total() == 20
    theirs = tfds.builder_from_directory(tmp_path / "out").as_data_source("train")
    assert [row["id"].decode() for row in theirs] == [record.id for record in reader]
    assert (tmp_path / "out/skipped.jsonl").read_text() == "" and not (tmp_path / "out/.progress").exists()


def test_hard_negatives_are_read_by_their_key_alone(tmp_path):
    wrong = [["scene 9", ""], "scene 9", None, ["scene 2", " a lake "], [], ["", ""]]
    path = source(tmp_path, 6, change=lambda i, row: {**row, "wrong": wrong[i]} if i < 5 else row)
    prepare(opened(path), tmp_path / "plain", Options(size=24))
    assert RecordReader(tmp_path / "plain")[0].negative is None
    assert not RecordReader(tmp_path / "plain").has_negatives()
    counts = prepare(opened(path, negative="wrong"), tmp_path / "out", Options(size=24))["train"]
    assert [(skip["id"], skip["detail"]) for skip in counts.skipped] == [
        ("1.jpg", "list.jsonl, line 2: 'wrong' holds 1 texts for 2 short ones: one for each is expected")
    ]
    reader, tokenizer = RecordReader(tmp_path / "out"), clip_tokenizer()
    expected = [("scene 9", ""), ("", ""), ("scene 2", "a lake"), ("", ""), ("", "")]
    assert reader.has_negatives() and [record.negative for record in reader] == expected
    ids = reader.tokenised(0, tokenizer).ids["negative"]
    assert [list(each) for each in ids] == [*tokenizer.encode(["scene 9"]), []]
    assert counts.negatives == 3 and "3 short texts have a hard negative" in table({"train": counts})
    theirs = tfds.builder_from_directory(tmp_path / "out").as_data_source("train")
    assert [tuple(text.decode() for text in row["negative"]) for row in theirs] == expected
    again = prepare(open_source(str(tmp_path / "out")), tmp_path / "again", Options(size=24))["train"]
    assert again.negatives == 3 and [record.negative for record in RecordReader(tmp_path / "again")] == expected
    with pytest.raises(InputError, match="no record has the key 'wrng' that --negative-key names.*mean 'wrong'"):
        opened(path, negative="wrng")


def test_nothing_is_enlarged_and_small_jpegs_stay_as_they_are():
    small = jpeg(20, 30, quality=70)
    assert encode_jpeg(small, Options(size=20), "x") == encode_jpeg(small, Options(size=256), "x") == small
    assert Image.open(io.BytesIO(encode_jpeg(small, Options(size=10), "x"))).size == (15, 10)
    turned = Image.Exif()
    turned[0x0112] = 6  # a reader that heeds the orientation must not turn it: written anew, without it
    anew = encode_jpeg(jpeg(20, 30, exif=turned), Options(), "x")
    assert Image.open(io.BytesIO(anew)).size == (30, 20) and not Image.open(io.BytesIO(anew)).getexif()
    file = io.BytesIO()
    Image.new("L", (30, 20), 90).save(file, "PNG")
    grey = Image.open(io.BytesIO(encode_jpeg(file.getvalue(), Options(), "x")))
    assert grey.format == "JPEG" and grey.mode == "RGB" and grey.size == (30, 20)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_is_no_obstacle():
    data = jpeg(20, 30, exif=b"Exif\0\0MM\0*" + b"\xff" * 40)
    assert read_image(encode_jpeg(data, Options(), "x")).size == (30, 20)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_geotiffs_are_prepared_with_chosen_bands(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path = source(tmp_path, 3, change=lambda i, row: {**row, "image": "s2.tif"} if i == 1 else row)
    down, right = np.mgrid[:40, :40]
    values = 50 * np.stack([down, right, 39 - down, 39 - right, down]).astype(np.uint16)
    with rasterio.open(
        tmp_path / "images/s2.tif", "w", driver="GTiff", count=5, height=40, width=40, dtype="uint16"
    ) as file:
        file.write(values)
    (tmp_path / "images/2.jpg").unlink()
    counts = prepare(opened(path), tmp_path / "out", Options(bands=(3, 2, 1), quality=100))["train"]
    assert counts.written == 2
    tiff, jpg = (np.asarray(read_image(tmp_path / "images" / name), int) for name in ("s2.tif", "0.jpg"))
    first, second = (np.asarray(read_image(record.image), int) for record in RecordReader(tmp_path / "out"))
    for written, bands in ((first, jpg), (second, tiff)):
        assert np.abs(written - bands[..., ::-1]).mean() < 5 < 20 < np.abs(written - bands).mean()


def test_splits_of_the_source_become_splits(tmp_path):
    names = ["train", "test", "train", None, "val"]
    path = source(tmp_path, 10, change=lambda i, row: {**row, "split": names[i % 5]})
    counts = prepare(opened(path), tmp_path / "out", Options(), split="rest", shard_size=3)
    ids = {split: [record.id for record in RecordReader(tmp_path / "out", split)] for split in counts}
    assert ids == {
        "rest": ["3.jpg", "8.jpg"],
        "test": ["1.jpg", "6.jpg"],
        "train": ["0.jpg", "2.jpg", "5.jpg", "7.jpg"],
        "val": ["4.jpg", "9.jpg"],
    }


def test_class_folders_and_procedural_scenes(tmp_path):
    for name in ("BareLand", "Port"):
        (tmp_path / "aid" / name).mkdir(parents=True)
        (tmp_path / "aid" / name / "1.jpg").write_bytes(jpeg(16, 16))
    prepare(open_source(str(tmp_path / "aid")), tmp_path / "classes", Options())
    assert [(r.id, r.short, r.label) for r in RecordReader(tmp_path / "classes")] == [
        ("BareLand/1.jpg", ("a satellite photo of bare land",), "BareLand"),
        ("Port/1.jpg", ("a satellite photo of port",), "Port"),
    ]
    prepare(open_source("scenes:2:5"), tmp_path / "scenes", Options(size=48))
    first, second = RecordReader(tmp_path / "scenes")
    assert first.long and first.short and first.label and first.image != second.image
    assert Image.open(io.BytesIO(first.image)).size == (48, 48)


def test_unusable_images_and_empty_texts_are_skipped_counted_and_listed(tmp_path):
    def change(index, row):
        return {
            2: {**row, "long": "", "short": ["", "kept"]},
            3: {**row, "long": " \n", "short": []},
            5: {**row, "image": "gone.jpg"},
        }.get(index, row)

    path = source(tmp_path, 8, change=change)
    torn = tmp_path / "images/6.jpg"
    torn.write_bytes(torn.read_bytes()[:300])
    counts = prepare(opened(path), tmp_path / "out", Options(), shard_size=3)["train"]
    assert [record.id for record in RecordReader(tmp_path / "out")] == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "4.jpg",
        "7.jpg",
    ]
    assert RecordReader(tmp_path / "out")[2].short == ("kept",)
    skipped = [json.loads(line) for line in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert [(skip["id"], skip["split"], skip["reason"]) for skip in skipped] == [
        ("3.jpg", "train", "no text"),
        ("gone.jpg", "train", "image not found"),
        ("6.jpg", "train", "image unreadable"),
    ]
    assert str(torn) in skipped[2]["detail"] and counts.empty_texts == 3
    text = table({"train": counts})
    assert "1  image not found" in text and "1  image unreadable" in text and "3 empty texts left out" in text


def test_rows_that_make_no_record_are_skipped_counted_and_listed(tmp_path):
    path = source(tmp_path, 6, change=lambda i, row: {**row, "short": 3} if i == 4 else row)
    lines = path.read_text().splitlines(keepends=True)
    more = ['{"image": "7.jpg", "sho\n', '{"image": "8.jpg", "short": "x", "split": "a/b"}\n']
    path.write_text("".join([*lines[:3], "[[[\n", *lines[3:], *more]))
    counts = prepare(opened(path), tmp_path / "out", Options(), shard_size=2)["train"]
    assert [record.id for record in RecordReader(tmp_path / "out")] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "5.jpg"]
    skipped = [json.loads(line) for line in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert [(skip["id"], skip["reason"], skip["detail"][:19]) for skip in skipped] == [
        ("", "row unusable", "list.jsonl, line 4:"),
        ("4.jpg", "row unusable", "list.jsonl, line 6:"),
        ("", "row unusable", "list.jsonl, line 8:"),
        ("8.jpg", "row unusable", "list.jsonl, line 9:"),
    ]
    assert counts.bad == 4 and "4  row unusable" in table({"train": counts})
    again = prepare(opened(path), tmp_path / "out", Options(), shard_size=2)["train"]
    assert again.to_json() == counts.to_json()
    for limit in (0, 3):
        with pytest.raises(InputError, match="list.jsonl, line .* can't be used; --max-bad=N bears up to N"):
            prepare(opened(path), tmp_path / f"out{limit}", Options(), max_bad=limit)
        assert not (tmp_path / f"out{limit}").exists()


def test_rows_and_images_share_one_limit(tmp_path):
    path = source(tmp_path, 6, change=lambda i, row: {**row, "short": 3} if i == 4 else row)
    (tmp_path / "images/2.jpg").write_bytes(b"torn")
    with pytest.raises(InputError, match="too many images that can't be used"):
        prepare(opened(path), tmp_path / "out", Options(), max_bad=1)
    assert prepare(opened(path), tmp_path / "out", Options(), max_bad=2)["train"].written == 4


def test_a_set_begun_before_sources_had_a_door_can_be_continued(tmp_path):
    # The digest of a source is that of the items as they were written then.
    path = source(tmp_path, 2, change=lambda i, row: {"image": row["image"], "short": ["a"], "label": f"{i}"})
    digest = hashlib.sha256()
    for number in range(2):
        image = tmp_path / f"images/{number}.jpg"
        digest.update(
            f"Item(id='{number}.jpg', source='list', image={image!r}, long=(), short=('a',), label='{number}', "
            f"licence=None, split=None, empty_texts=0)".encode()
        )
    assert take_census(opened(path), "train").digest == digest.hexdigest()


def test_labels_without_texts_need_a_template(tmp_path):
    path = source(tmp_path, 2, change=lambda i, row: {"image": row["image"], "label": "BareLand"})
    with pytest.raises(InputError, match="labels and no texts: --template='a satellite photo of {class}' makes them"):
        prepare(opened(path), tmp_path / "out", Options())
    done = command(path, tmp_path / "out", "--template=a {class} from above")
    assert {record.short for record in RecordReader(tmp_path / "out")} == {("a bare land from above",)} and done.stdout


def test_too_many_unusable_images_stop_it_and_more_can_be_allowed(tmp_path):
    path = source(tmp_path, 30)
    for index in (3, 14, 25):
        (tmp_path / f"images/{index}.jpg").write_bytes(b"torn")
    with pytest.raises(InputError, match="too many images.*14.jpg.*a higher --max-bad continues"):
        prepare(opened(path), tmp_path / "out", Options(), shard_size=10, max_bad=1)
    shards = [name for name in contents(tmp_path / "out") if "array_record" in name]
    assert shards == ["lrs2m-train.array_record-00000-of-00003"]  # the finished one
    before = (tmp_path / "out" / shards[0]).stat().st_mtime_ns
    counts = prepare(opened(path), tmp_path / "out", Options(), shard_size=10, max_bad=3)
    assert counts["train"].written == 27 and (tmp_path / "out" / shards[0]).stat().st_mtime_ns == before


@pytest.mark.exhaustive
def test_killed_at_any_moment_it_continues_to_the_same_bytes(tmp_path):
    path = source(
        tmp_path,
        120,
        size=(300, 300),
        change=lambda i, row: {**row, "split": "test" if i % 7 == 0 else "train"},
    )
    (tmp_path / "images/50.jpg").write_bytes(b"torn")
    flags = ["--size=64", "--shard-size=8", "--workers=1"]
    command(path, tmp_path / "whole", *flags)
    out, kills = tmp_path / "killed", 0
    arguments = [*COMMAND, str(path), f"--image-root={tmp_path / 'images'}", f"--out={out}", *flags]
    for shards in (2, 7):
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob(".progress/*.json"))) < shards:
            time.sleep(0.001)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(InputError, match="not a finished prepared set"):
            RecordReader(out)
    assert kills == 2
    command(path, out, *flags[:-1], "--workers=2")
    assert contents(out) == contents(tmp_path / "whole")
    again = command(path, out, *flags)  # a finished set is left as it is, and its table shown
    assert contents(out) == contents(tmp_path / "whole")
    assert "train              101         1" in again.stdout and "1  image unreadable" in again.stdout


@pytest.mark.exhaustive
def test_workers_end_with_a_killed_parent(tmp_path):
    path = source(tmp_path, 400, size=(500, 500))
    arguments = [*COMMAND, str(path), f"--image-root={tmp_path / 'images'}", f"--out={tmp_path / 'out'}"]
    process = subprocess.Popen(
        [*arguments, "--workers=2", "--shard-size=16"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list((tmp_path / "out").glob(".progress/*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    for _ in range(300):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("workers outlive their parent")


@pytest.mark.parametrize(
    "options, shard_size, split, message",
    [
        (Options(size=32), 4096, "train", "was prepared with size=256, not 32"),
        (Options(quality=80), 4096, "train", "was prepared with quality=92, not 80"),
        (Options(), 8, "train", "was prepared with shard_size=4096, not 8"),
        (Options(), 4096, "val", "was prepared with split=train, not val"),
    ],
)
def test_a_set_of_other_options_is_never_overwritten(tmp_path, options, shard_size, split, message):
    path = source(tmp_path, 3)
    prepare(opened(path), tmp_path / "out", Options())
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=message):
        prepare(opened(path), tmp_path / "out", options, split, shard_size)
    assert contents(tmp_path / "out") == before


def test_other_sources_and_other_files_are_never_overwritten(tmp_path):
    path = source(tmp_path / "a", 3)
    prepare(opened(path), tmp_path / "out", Options())
    with pytest.raises(InputError, match="was prepared from another source: choose another --out"):
        prepare(opened(source(tmp_path / "b", 4)), tmp_path / "out", Options())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(InputError, match="holds other files .thesis.tex."):
        prepare(opened(path), tmp_path / "mine", Options())


def test_nothing_to_prepare(tmp_path):
    path = source(tmp_path, 0)
    with pytest.raises(InputError, match="list: not a single record"):
        prepare(opened(path), tmp_path / "out", Options())
    path = source(tmp_path / "b", 2, change=lambda i, row: {**row, "long": "", "short": ""})
    with pytest.raises(InputError, match="not one of 2 records could be written, the first: no text .0.jpg."):
        prepare(opened(path), tmp_path / "out", Options())
    path = source(tmp_path / "c", 2, change=lambda i, row: {**row, "split": "train/1"})
    with pytest.raises(InputError, match="the split 'train/1'"):
        prepare(opened(path), tmp_path / "out2", Options())


def test_a_wrong_image_root_is_found_before_anything_is_written(tmp_path):
    path = source(tmp_path, 3)
    with pytest.raises(InputError, match="none of the first 3 images exists, as .*/0.jpg: set --image-root"):
        prepare(open_source(str(path), image_root=tmp_path), tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_ends_with_status_2_and_one_line(tmp_path):
    path = source(tmp_path, 3)
    (tmp_path / "file").touch()
    for flags, line in [
        (
            ["--short-key=shrt", "--long-key=lng"],
            "error: list.jsonl, line 1: no key 'lng' or 'shrt' of the texts",
        ),
        (["--size=0"], "error: --size=0: expected a whole number from 1"),
        (["--bands=4,3"], "error: bands (4, 3): one or three band numbers"),
        (
            [f"--out={tmp_path / 'file/out'}"],
            f"error: --out={tmp_path / 'file/out'}: {tmp_path / 'file'} is a file, a folder is expected",
        ),
    ]:
        done = command(path, tmp_path / "out", *flags, check=False)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith(line) and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_finished_shards_stay(tmp_path):
    path = source(tmp_path, 40)
    for index in range(20, 40):  # noise that compresses badly: 80 kB each
        noise = np.random.default_rng(index).integers(0, 256, (200, 200, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"images/{index}.jpg", quality=100)
    flags = ["--shard-size=20", "--workers=1"]
    arguments = [
        *COMMAND,
        str(path),
        f"--image-root={tmp_path / 'images'}",
        f"--out={tmp_path / 'out'}",
        *flags,
    ]
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert done.returncode == 2 and "error: can't write" in done.stderr and "Traceback" not in done.stderr
    shards = [name for name in contents(tmp_path / "out") if name.startswith("lrs2m")]
    assert shards == ["lrs2m-train.array_record-00000-of-00002"]
    command(path, tmp_path / "out", *flags)
    assert len(RecordReader(tmp_path / "out")) == 40


def test_statistics_add_up_and_survive_json():
    total = Statistics()
    for length in (10, 10, 200):
        one = Statistics(written=1, bytes=5)
        one.lengths["long"][length] += 1
        total += one
    total += Statistics(skipped=[{"id": "x", "reason": "no text", "detail": ""}])
    assert Statistics.from_json(json.loads(json.dumps(total.to_json()))) == total
    assert total.items == 4 and total.bad == 0
    text = table({"train": total})
    assert "long texts: 3, tokens: mean 73.3, longest 200, 33.3 % exceed 77, 0.0 % exceed 248" in text
    assert "short texts: none" in text
    bars = {line.split()[0]: line.count("#") for line in text.splitlines() if "#" in line}
    assert bars == {"0-15": 40, "192-207": 20}
