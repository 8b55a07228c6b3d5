"""Data sets of the Hugging Face Hub, by stand-ins on this machine that its library `datasets` reads itself."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from source_files import png, split_up

from lrsclip_jax.data import fetching
from lrsclip_jax.errors import InputError, MissingPackage
from lrsclip_jax.sources import Keys, open_source

datasets = pytest.importorskip("datasets")
NAMES = ["open sea", "land"]


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(fetching, "_FIRST_WAIT", 0.001)
    datasets.disable_progress_bars()


def table(count, start=0):
    features = {
        "image": datasets.Image(),
        "captions": datasets.List(datasets.Value("string")),
        "label": datasets.ClassLabel(names=NAMES),
        "thumbnail": datasets.Value("binary"),
    }
    rows = range(start, start + count)
    columns = {
        "image": [{"bytes": png(n), "path": f"{n}.png"} for n in rows],
        "captions": [[f"Text {n}.", "Another."] for n in rows],
        "label": [n % 2 for n in rows],
        "thumbnail": [b"thumb"] * count,
    }
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


@pytest.fixture(scope="module")
def ships(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "ships"
    (folder / "data").mkdir(parents=True)
    table(3).to_parquet(folder / "data/train-00000-of-00001.parquet")
    table(4, 10).to_parquet(folder / "data/test-00000-of-00002.parquet")
    table(2, 14).to_parquet(folder / "data/test-00001-of-00002.parquet")
    return folder


@pytest.fixture
def hub(ships, monkeypatch):
    """The folder under the name me/ships, at a commit."""
    for name in ("load_dataset", "get_dataset_config_names", "get_dataset_default_config_name"):
        known = getattr(datasets, name)

        def standing_in(path, *args, known=known, revision=None, **kwargs):
            assert "trust_remote_code" not in kwargs
            if path != "me/ships":
                raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{path}' doesn't exist on the Hub")
            return known(str(ships), *args, **kwargs)

        monkeypatch.setattr(datasets, name, standing_in)
    asked = []
    api = SimpleNamespace(dataset_info=lambda name, revision: asked.append(revision) or SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    return asked


def test_rows_are_those_that_the_library_gives(ships):
    source = open_source(f"hf-datasets:{ships}:test", Keys(long="captions"))
    items, faults = split_up(source)
    expected = list(datasets.load_dataset(str(ships), split="test", streaming=True))
    assert not faults and (source.name, source.split) == ("ships", "test") and len(items) == len(expected) == 6
    for item, row in zip(items, expected, strict=True):
        assert (item.long, item.label, item.split) == (tuple(row["captions"]), NAMES[row["label"]], "test")
        pixels = Image.open(io.BytesIO(item.image.read_bytes()))
        assert np.array_equal(np.array(pixels), np.array(row["image"]))
    assert [item.id for item in items] == [f"test/{shard}/{n}" for shard, rows in ((0, 4), (1, 2)) for n in range(rows)]


@pytest.mark.parametrize(
    ("spec", "count", "split"),
    [
        ("me/ships", 9, None),
        ("me/ships:default", 9, None),
        ("me/ships:train", 3, "train"),
        ("me/ships:default:test", 6, "test"),
        ("me/ships@v1:train", 3, "train"),
    ],
)
def test_config_and_split_stand_behind_the_name(hub, spec, count, split):
    source = open_source(f"hf-datasets:{spec}")
    items, faults = split_up(source)
    assert (len(items), faults, source.split) == (count, [], split)
    assert hub == ["v1" if "@" in spec else None]
    assert str(items[0].image).startswith(f"hf-datasets:me/ships:default:{split or 'train'}")


def test_what_was_read_once_is_not_streamed_again(hub, monkeypatch):
    first = split_up(open_source("hf-datasets:me/ships:test"))
    monkeypatch.setattr(datasets.IterableDataset, "__iter__", lambda _: pytest.fail("streamed again"))
    assert split_up(open_source("hf-datasets:me/ships:test")) == first


@pytest.mark.parametrize(
    ("spec", "keys", "line"),
    [
        ("me/boats", {}, "hf-datasets:me/boats: can't be opened (Dataset 'me/boats' doesn't exist on the Hub)"),
        ("me/ships:tset", {}, "hf-datasets:me/ships: no split 'tset', it has train, test, did you mean 'test'?"),
        ("me/ships:defalt:test", {}, "no config 'defalt', it has default, did you mean 'default'?"),
        ("me/ships:a:b:c", {}, "hf-datasets:owner/name[:config][:split] is expected"),
        ("me/ships:", {}, "hf-datasets:owner/name[:config][:split] is expected"),
        (
            "me/ships:test",
            {"long": "caption"},
            "no column 'caption' (--long-key), it has image, captions, label, thumb",
        ),
        ("me/ships:test", {"image": "photo"}, "no column 'photo' (--image-key), it has image"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_sent(hub, monkeypatch, spec, keys, line):
    monkeypatch.setattr(datasets.IterableDataset, "__iter__", lambda _: pytest.fail("rows were streamed"))
    with pytest.raises(InputError) as error:
        open_source(f"hf-datasets:{spec}", Keys(**keys))
    assert line in str(error.value) and "\n" not in str(error.value)


def test_one_of_several_configs_has_to_be_named(tmp_path):
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("long", "short"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    for name in ("long", "short"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"image": "a.png", "text": name}))
    with pytest.raises(InputError, match="it has long, short: name one of them, hf-datasets:.*:long"):
        open_source(f"hf-datasets:{tmp_path}")


def test_the_library_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPackage, match=r"datasets .*: pip install 'lrsclip_jax\[datasets\]'"):
        open_source("hf-datasets:me/ships")


def test_a_torn_shard_costs_itself_alone(ships, tmp_path):
    (tmp_path / "data").mkdir()
    for file in ships.glob("data/test*"):
        (tmp_path / "data" / file.name).write_bytes(file.read_bytes())
    with open(tmp_path / "data/test-00001-of-00002.parquet", "r+b") as file:
        file.seek(4)
        file.write(bytes(1500))
    items, (fault,) = split_up(open_source(f"hf-datasets:{tmp_path}:test"))
    assert [item.short[0] for item in items] == ["Text 10.", "Text 11.", "Text 12.", "Text 13."]
    assert fault.where.endswith("test, shard 1 of 2") and "can't be read" in fault.reason


def test_a_lost_connection_is_tried_again_and_given_up_in_the_end(hub, monkeypatch):
    known, tried = datasets.IterableDataset.__iter__, []

    def failing(self):
        tried.append(1)
        for number, row in enumerate(known(self)):
            if number == 2 and len(tried) < 4:
                raise ConnectionError("reset by peer")
            yield row

    monkeypatch.setattr(datasets.IterableDataset, "__iter__", failing)
    items, faults = split_up(open_source("hf-datasets:me/ships:train"))
    assert len(items) == 3 and not faults and len(tried) == 4
    tried[:] = [1] * -100

    def dead(self):
        raise ConnectionError("reset by peer")
        yield

    monkeypatch.setattr(datasets.IterableDataset, "__iter__", dead)
    with pytest.raises(InputError, match="test, shard 0 of 2: can't be read .reset by peer; tried 5 times"):
        open_source("hf-datasets:me/ships:test")


def test_files_that_rows_name_are_read_where_they_belong_to_the_data_set(tmp_path):
    for number, name in enumerate(NAMES):
        (tmp_path / "set/test" / name).mkdir(parents=True)
        (tmp_path / "set/test" / name / "0.png").write_bytes(png(number))
    items = list(open_source(f"hf-datasets:{tmp_path / 'set'}:test"))
    assert sorted((item.label, item.image.read_bytes()) for item in items) == [("land", png(1)), ("open sea", png(0))]


def test_a_path_that_leads_out_makes_no_item(tmp_path):
    (tmp_path / "mine.png").write_bytes(png(1))
    (tmp_path / "set").mkdir()
    rows = {"image": [{"bytes": png(2), "path": None}, {"bytes": None, "path": str(tmp_path / "mine.png")}]}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    datasets.Dataset.from_dict({**rows, "text": ["a", "b"]}, features).to_parquet(tmp_path / "set/test.parquet")
    (item,), (fault,) = split_up(open_source(f"hf-datasets:{tmp_path / 'set'}:test"))
    assert item.image.read_bytes() == png(2) and "no key 'image'" in fault.reason


def test_paths_in_a_column_of_text_are_no_images(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"image": "a.png", "text": "x"}))
    with pytest.raises(InputError, match="no column of images or bytes, it has image, text"):
        open_source(f"hf-datasets:{tmp_path}:train")
    with pytest.raises(InputError, match="no key 'image'"):
        open_source(f"hf-datasets:{tmp_path}:train", Keys(image="image"))


def test_code_of_a_data_set_is_not_run(tmp_path):
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(InputError, match="can't be opened .Dataset scripts are no longer supported"):
        open_source(f"hf-datasets:{folder}")
    assert not (tmp_path / "run").exists()
