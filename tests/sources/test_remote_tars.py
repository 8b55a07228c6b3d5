"""WebDataset tars at addresses, and patterns with braces: what is had is read, what is lost is named."""

import json
import subprocess
import tarfile

import pytest
from PIL import Image
from range_server import serving
from source_files import png, split_up, write_tar

from lrsclip_jax.data import fetching
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.prepare.__main__ import main as prepare
from lrsclip_jax.data.prepare.census import take_census
from lrsclip_jax.embed.material import open_material
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Keys, open_source
from lrsclip_jax.sources.listing import expanded_braces


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "_FIRST_WAIT", 0.001)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for shard in range(5):
        members = {}
        for n in (2 * shard, 2 * shard + 1):
            members |= {f"{n}.png": png(n), f"{n}.json": json.dumps({"long": f"Text {n}."}).encode()}
        write_tar(folder / f"web/drop-{shard:02}.tar", members)
    torn = folder / "web/drop-03.tar"
    with tarfile.open(torn) as tar:
        end = tar.getmembers()[2].offset_data + 10
    torn.write_bytes(torn.read_bytes()[:end])
    with serving(folder) as served:
        yield served


@pytest.mark.parametrize(
    "pattern",
    [
        "x.tar",
        "x-{0..11}.tar",
        "x-{00..11}.tar",
        "x-{008..11}.tar",
        "{train,val}/x-{1..2}.tar",
        "{a,}b",
        "{x}",
        "{a..c}",
    ],
)
def test_braces_say_what_they_say_in_a_shell(pattern):
    said = subprocess.run(["bash", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True)
    expected = said.stdout.splitlines() if pattern != "{a..c}" else [pattern]  # letters are no shards
    assert expanded_braces(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("x-{9..0}.tar", "runs backwards"),
        ("x-{0..999999999}.tar", "over 100,000"),
        ("{0..999}{0..999}", "over 100,000"),
    ],
)
def test_a_pattern_without_end_is_refused(pattern, line):
    with pytest.raises(InputError, match=line):
        expanded_braces(pattern)


def test_shards_are_read_in_order_and_what_is_lost_is_named(server):
    server.drop(2)
    source = open_source(f"{server.url}/web/drop-{{00..05}}.tar")
    items, faults = split_up(source)
    assert source.name == "drop"
    assert [item.long[0] for item in items] == [f"Text {n}." for n in (0, 1, 2, 3, 4, 5, 6, 8, 9)]
    assert [item.image.read_bytes() for item in items[:2]] == [png(0), png(1)]
    assert [fault.where for fault in faults] == [f"{server.url}/web/drop-{n:02}.tar" for n in (3, 5)]
    assert "torn" in faults[0].reason and faults[1].reason == "can't be read (HTTP status 404)"
    server.sent = 0
    assert split_up(source) == (items, faults) and server.sent == 0


def test_items_are_the_same_wherever_their_copies_lie(server, tmp_path, monkeypatch):
    address = f"{server.url}/web/drop-{{00..02}}.tar"
    first = take_census(open_source(f"{address}"), "train", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert take_census(open_source(f"{address}"), "train", None) == first


def test_an_embedding_reads_images_from_their_copies(server):
    material = open_material(f"{server.url}/web/drop-00.tar")
    assert material.name == "drop-00" and [row["text"] for row in material.texts] == ["Text 0.", "Text 1."]
    assert material.read(1).tobytes() == read_image(png(1)).tobytes()


def test_a_set_is_prepared_from_addresses(server, tmp_path, capsys):
    out = tmp_path / "set"
    prepare([f"{server.url}/web/drop-{{00..03}}.tar", f"--out={out}", "--workers=1"], "lrsclip prepare")
    skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert len(skipped) == 1 and "drop-03.tar: torn" in skipped[0]["detail"]
    assert len(list(open_source(str(out)))) == 7


def test_names_in_a_tar_lead_nowhere(server, tmp_path):
    folder = tmp_path / "odd"
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    members = {
        "../../out.png": png(0), "../../out.txt": b"out",
        "path.json": json.dumps({"image": str(tmp_path / "mine.png"), "short": "a file of mine"}).encode(),
    }  # fmt: skip
    write_tar(folder / "a.tar", members)
    with serving(folder) as served:
        (item,), (fault,) = split_up(open_source(f"{served.url}/a.tar"))
    assert item.image.read_bytes() == png(0) and str(item.image) == f"{served.url}/a.tar/../../out.png"
    assert fault.reason == "its image is the path of a file, its bytes are expected"
    assert not list(tmp_path.rglob("out.png"))


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("{}/web/none.tar", "{}/web/none.tar: can't be read (HTTP status 404)"),
        ("{}/web/none-{{00..40}}.tar", "{}/web/none-00.tar: can't be read (HTTP status 404)"),
        (
            "{}/web/drop-00.tar?part={{0..3}}",
            "{}/web/drop-00.tar: its addresses differ only behind '?': their copies would have one name",
        ),
        ("http://[/{{0..3}}.tar", "http://[/0.tar: no address of a file"),
        ("{}/web/drop-{{9..1}}.tar", "{}/web/drop-{{9..1}}.tar: {{9..1}} runs backwards"),
        (
            "{}/web/list.json",
            "{}/web/list.json: only WebDataset tars are read from addresses, as https://HOST/x-{{000..099}}.tar",
        ),
    ],
)
def test_what_is_not_there_is_said_in_a_line(server, spec, line):
    with pytest.raises(InputError) as error:
        list(open_source(spec.format(server.url)))
    assert str(error.value) == line.format(server.url)


def test_keys_splits_and_image_roots_are_as_with_other_tars(server, tmp_path):
    address = f"{server.url}/web/drop-00.tar"
    with pytest.raises(InputError, match="no record has the key 'title'"):
        open_source(address, Keys(long="title"))
    with pytest.raises(InputError, match="has no split 'test', it has none"):
        list(open_source(f"{address}:test"))
    with pytest.raises(InputError, match="holds its images itself"):
        open_source(address, image_root=tmp_path)


def test_three_servers_in_a_row_that_are_out_of_reach_end_a_reading():
    with pytest.raises(InputError, match="http://127.0.0.1:1/x-2.tar: .*tried 5 times"):
        open_source("http://127.0.0.1:1/x-{0..9}.tar")


def test_one_torn_tar_of_a_folder_costs_itself(tmp_path):
    for n in range(3):
        write_tar(tmp_path / f"t-{n}.tar", {f"{n}.png": png(n), f"{n}.txt": b"text"})
    (tmp_path / "t-1.tar").write_bytes(b"torn")
    items, (fault,) = split_up(open_source(str(tmp_path)))
    assert [item.id for item in items] == ["0", "2"]
    assert fault.where == str(tmp_path / "t-1.tar") and "torn" in fault.reason
    items, faults = split_up(open_source(str(tmp_path / "t-{0..3}.tar")))
    assert len(items) == 2 and [fault.reason[:12] for fault in faults] == ["torn, or not", "no such file"]
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(str(tmp_path / "t-{7..9}.tar"))
