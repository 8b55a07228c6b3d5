"""The options of sources on the command line, and classes that are renamed."""

import json

import pytest
from PIL import Image

from lrsclip_jax.corpus.__main__ import main
from lrsclip_jax.corpus.reading import options_of
from lrsclip_jax.corpus.reading.reading_options import OPTIONS, pairs
from lrsclip_jax.corpus.reading.renaming import renamed
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing
from lrsclip_jax.sources.named_kinds import NAMED_KINDS


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def program(*arguments):
        main(["read", *arguments, "--out=out"])
        return list(store.read("out"))

    return program


def test_keys_in_one_flag_or_several(run, tmp_path):
    row = {"file": "a.jpg", "caption": "A harbour.", "title": "a port", "class": "Port"}
    (tmp_path / "a.json").write_text(json.dumps([row]))
    keys = ["--keys", "image=file", "long=caption", "--keys", "short=title", "--keys=label=class"]
    (record,) = run("captions", "a.json", *keys, "--licence=MIT", "--split=val", "--name=x", "--rename", "Port=harbour")
    assert (record.long, record.short, record.label) == (("A harbour.",), ("a port",), "harbour")
    assert (record.id, record.licence, record.split) == ("x/a.jpg", "MIT", "val")
    assert record.provenance[-1].detail == "Port → harbour"


def test_names_of_values_out_of_a_file(run, tmp_path):
    mask = Image.new("L", (40, 30))
    mask.paste(1, (0, 0, 10, 10)), mask.paste(2, (20, 0, 30, 10)), mask.paste(7, (20, 20, 30, 30))
    (tmp_path / "labels").mkdir(), (tmp_path / "images").mkdir()
    mask.save(tmp_path / "labels/1_mask.png"), Image.new("RGB", (40, 30)).save(tmp_path / "images/1.png")
    (tmp_path / "names.txt").write_text("1 = tennis court\n\n2=building\n")
    arguments = ["--names", "names.txt", "--ignore", "0", "7", "--suffix=_mask", "--min-pixels=9"]
    (record,) = run("masks", "labels", "--image-root=images", *arguments)
    assert [(thing.name, thing.box) for thing in record.things] == [
        ("tennis court", (0, 0, 10, 10)),
        ("building", (20, 0, 30, 10)),
    ]


def test_help_has_every_option_of_every_kind(capsys):
    assert all(set(options_of(kind)) <= OPTIONS.keys() for kind in NAMED_KINDS)
    with pytest.raises(SystemExit):
        main(["read", "--help"])
    said = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')} " in said for name in OPTIONS)
    assert all(f"  {name} " in said and kind.help in said for name, kind in NAMED_KINDS.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["coco", "a.json", "--keys", "image=file"], "'coco' has no option 'keys', it has none of its own"),
        (["vhm", "a.json", "--names", "1=road"], "'vhm' has no option 'names', it has only"),
        (["masks", ".", "--names", "one=road"], "--names: a whole number is expected, got 'one'"),
        (["masks", ".", "--names", "nowhere.txt"], "--names: 'nowhere.txt' is neither NAME=VALUE nor a file"),
        (["masks", ".", "--min-pixels=few"], "--min-pixels: a whole number is expected, got 'few'"),
        (["voc", ".", "--rename", "Dead="], "--rename: 'Dead=' is no NAME=VALUE"),
        (["voc", ".", "--rename", "Dead=5"], "rename: 'Dead' becomes '5', a name in words is expected"),
        (["voc", ".", "--renames", "Dead=tree"], "unknown argument --renames"),
    ],
)
def test_a_bad_option_is_one_line(run, tmp_path, arguments, message):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(InputError, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)


def test_a_line_of_a_file_is_named(tmp_path):
    (tmp_path / "names.txt").write_text("1=road\n2 building\n")
    with pytest.raises(InputError, match=r"'2 building' is no NAME=VALUE \(.*names.txt\)"):
        pairs([str(tmp_path / "names.txt")])


def test_classes_are_renamed_and_what_never_comes_is_said(caplog):
    box = (0.0, 0.0, 9.0, 9.0)
    polygon = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0))
    records = [
        CorpusRecord("1", "1.jpg", "x", things=(Thing("Dead", box, polygon), Thing("Alive", box)), label="Dead"),
        SetAside("2", "read", "torn"),
        CorpusRecord("3", "3.jpg", "x", things=(Thing("Car"),)),
    ]
    names = {"Dead": "Alive", "Alive": "living tree", "Dede": "tree"}  # at once: no name is renamed twice
    first, aside, third = renamed(records, names, "xml")
    assert first.things == (Thing("Alive", box, polygon), Thing("living tree", box)) and first.label == "Alive"
    assert first.provenance[-1].detail == "Alive → living tree, Dead → Alive"
    assert (aside, third) == (records[1], records[2])
    assert caplog.messages == ["xml: no class is called 'Dede', which was to become 'tree', did you mean 'Dead'?"]
