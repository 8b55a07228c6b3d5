"""WebDataset tars, as they are made by many tools."""

import json
import subprocess
import sys
import tarfile

import pytest
from source_files import png, split_up, write, write_tar

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Keys, open_source


def test_a_tar_a_folder_and_a_pattern_of_them(tmp_path):
    caption = json.dumps({"long": "Long.", "short": ["s1", "s2"], "image": "ignored.jpg"}).encode()
    first = {"x/1.png": png(1), "x/1.txt": b"one\n", "x/1.cls": b"3"}
    write_tar(tmp_path / "t-0.tar", {**first, "x/2.json": caption, "x/2.png": png(2)})
    write_tar(tmp_path / "t-1.tar", {"9.v1.png": png(9), "9.json": b"{}", "9.txt": b"nine"})
    (tmp_path / "._t-0.tar").write_bytes(b"\0\5\x16\7")  # as macOS leaves it
    for spec in (tmp_path, tmp_path / "t-*.tar"):
        items = list(open_source(str(spec)))
        assert [item.id for item in items] == ["x/1", "x/2", "9"]
        assert [item.image.read_bytes() for item in items[:2]] == [png(1), png(2)]
        assert [item.short for item in items] == [("one",), ("s1", "s2"), ("nine",)]
        assert items[1].long == ("Long.",) and items[0].label == "3"
    told = list(open_source(str(tmp_path / "t-0.tar"), Keys(label="cls", long="txt", short="short")))
    assert told[0].label == "3" and told[0].long == ("one",) and told[0].short == ()


def test_other_extensions_are_named_by_keys(tmp_path):
    write_tar(tmp_path / "rs5m.tar", {"1.img_content": png(5), "1.img_name": b"a.png", "1.caption": b"five"})
    (item,) = open_source(str(tmp_path / "rs5m.tar"), Keys(image="img_content", short="caption", id="img_name"))
    assert item.image.read_bytes() == png(5) and item.short == ("five",) and item.id == "a.png"
    with pytest.raises(InputError, match="no record has the key 'title' that --long-key names"):
        list(open_source(str(tmp_path / "rs5m.tar"), Keys(image="img_content", short="caption", long="title")))


@pytest.mark.parametrize("order", [("0.mask.png", "0.png"), ("0.png", "0.mask.png")])
def test_a_mask_next_to_an_image_is_not_the_image(tmp_path, order):
    data = {"0.mask.png": png(7), "0.png": png(1)}
    (item,) = open_source(str(write_tar(tmp_path / "a.tar", {**{n: data[n] for n in order}, "0.txt": b"x"})))
    assert item.image.read_bytes() == png(1)


def test_samples_that_lack_something_are_faults(tmp_path):
    members = {
        "0.png": png(0), "0.txt": b"zero",
        "1.txt": b"no image",
        "2.png": png(2),
        "3.png": png(3), "3.txt": "café".encode("latin-1"),
        "4.png": png(4), "4.json": b'{"short": "a", "short": "b"}',
        "5.a.png": png(5), "5.b.png": png(6), "5.txt": b"which one",
        "6.png": png(6), "6.json": b"[1]",
        "7.png": png(7), "7.txt": b"seven",
    }  # fmt: skip
    items, faults = split_up(open_source(str(write_tar(tmp_path / "a.tar", members))))
    assert [item.id for item in items] == ["0", "7"]
    assert [(fault.where, fault.reason[:27]) for fault in faults] == [
        ("a.tar, sample 1", "no key 'image' of the image"),
        ("a.tar, sample 2", "no key 'long' or 'short' of"),
        ("a.tar, sample 3", ".txt: not UTF-8 text"),
        ("a.tar, sample 4", ".json: the key 'short' stan"),
        ("a.tar, sample 5", "several images (a.png, b.pn"),
        ("a.tar, sample 6", ".json: a list where an obje"),
    ]


@pytest.mark.parametrize("place", ["test", "."])
def test_numbers_of_classes_have_their_names_in_clip_benchmark(tmp_path, place):
    members = {name: data for n in range(3) for name, data in ((f"s{n}.jpg", png(n)), (f"s{n}.cls", b"%d" % n))}
    write_tar(tmp_path / place / "0.tar", members)
    write(tmp_path / "classnames.txt", "annual crop land\nforest\n")
    write(tmp_path / "zeroshot_classification_templates.txt", "a photo of {c}.\n")
    source = open_source(str(tmp_path))
    items, (fault,) = split_up(source)
    assert [(item.label, item.short) for item in items] == [("annual crop land", ()), ("forest", ())]
    assert {item.split for item in items} == {"test" if place == "test" else None}
    assert fault.reason == "class 2, where classnames.txt has 2"
    (tmp_path / "classnames.txt").unlink()
    assert [item.label for item in open_source(str(tmp_path / place / "0.tar"))] == ["0", "1", "2"]


def test_torn_and_compressed_tars_are_named(tmp_path):
    write_tar(tmp_path / "t.tar", {f"{i}.{kind}": b"x" * 3000 for i in range(9) for kind in ("jpg", "txt")})
    data = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(data[: len(data) // 2 + 700])
    with pytest.raises(InputError, match="t.tar: torn, .* after sample 5"):
        list(open_source(str(tmp_path / "t.tar")))
    with tarfile.open(tmp_path / "t.tar", "w:gz") as tar:
        tar.add(__file__)
    with pytest.raises(InputError, match="t.tar: torn, or not an uncompressed tar"):
        open_source(str(tmp_path / "t.tar"))


MEASURE = """
import sys, tracemalloc
from lrsclip_jax.sources import open_source
source = open_source(sys.argv[1])
tracemalloc.start()
for count, _ in enumerate(source, 1): pass
print(count, tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_names_of_members_are_not_held(tmp_path):
    peaks = []
    for count in (1000, 3000):
        members = {f"{n:06d}.{kind}": b"x" for n in range(count) for kind in ("jpg", "txt")}
        path = write_tar(tmp_path / f"{count}.tar", members)
        done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
        found, peak = map(int, done.stdout.split())
        assert found == count
        peaks.append(peak)
    assert (peaks[1] - peaks[0]) / 2000 < 64


def test_an_image_that_its_tar_lost_is_an_error_of_the_image(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"0.png": png(0), "0.txt": b"x"})
    (item,) = open_source(str(path))
    path.write_bytes(path.read_bytes()[:540])
    with pytest.raises(OSError, match="a.tar is torn"):
        item.image.read_bytes()
