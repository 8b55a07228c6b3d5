"""Sources with one kind of text: the other term leaves the loss and the batch, and old runs are not changed by it."""

import dataclasses
import json

import numpy as np
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches import mixture, text_kinds
from lrsclip_jax.data.prepared.pairs import Pairs
from lrsclip_jax.data.prepared.procedural import SceneRecords
from lrsclip_jax.data.prepared.records import Record, RecordReader, RecordWriter
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.errors import InputError
from lrsclip_jax.run import workdir
from lrsclip_jax.train import train_and_evaluate

TINY = [
    "model.image.layers=1",
    "model.image.width=32",
    "model.text.layers=1",
    "model.text.width=32",
    "model.image.patch=16",
    "data.long_length=64",
    "data.short_length=24",
    "batch_size=8",
    "epochs=1",
    "optimizer.warmup_steps=0",
    "eval.sources=scenes:8:1",
    "eval.batch_size=8",
    "eval.truncations=()",
    "eval.every_steps=0",
    "log.every_steps=1",
    "log.tensorboard=False",
]


def write(folder, kinds, records=24, shards=2):
    """A prepared set of scenes, each with the kinds of text that `kinds` says of its number."""
    folder.mkdir()
    scenes = SceneRecords(records)
    for shard in range(shards):
        with RecordWriter(folder, shard=shard, shards=shards) as writer:
            for number in range(shard, records, shards):
                writer.write(stripped(scenes[number], kinds(number)))
    write_metadata(folder, [])
    return str(folder)


def stripped(record: Record, kinds) -> Record:
    return dataclasses.replace(record, tokens={}, **{kind: () for kind in ("long", "short") if kind not in kinds})


def only_short(_):
    return ("short",)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (only_short, ("short",)),
        (lambda number: ("long",), ("long",)),
        (lambda number: ("long",) if number == 23 else ("short",), ("long", "short")),
        (lambda number: ("short",) if number == 0 else ("long",), ("long", "short")),
    ],
)
def test_a_set_knows_its_kinds_of_text_with_and_without_the_files_next_to_its_shards(tmp_path, kinds, expected):
    folder = write(tmp_path / "set", kinds)
    assert RecordReader(folder).text_kinds() == expected
    for file in (tmp_path / "set").glob("texts-*.npz"):
        file.unlink()
    reader = RecordReader(folder)
    assert reader.text_kinds() == expected
    counts = np.asarray([[len(record.long), len(record.short)] for record in reader])
    assert tuple(kind for kind, count in zip(("long", "short"), counts.sum(axis=0), strict=True) if count) == expected
    pairs = Pairs(reader, reader.text_counts())
    assert pairs.text_kinds() == ("long",) and len({len(pair.long) for pair in pairs}) == 1


def test_scenes_are_not_drawn_to_learn_their_kinds():
    scenes = SceneRecords(10**9)
    assert scenes.text_kinds() == ("long", "short") and len(scenes._drawn) == 1


@pytest.mark.parametrize(
    ("long_weight", "kinds", "expected"),
    [
        (0.8, ("long", "short"), 0.8),
        (0.8, ("short",), 0.0),
        (0.8, ("long",), 1.0),
        (0.0, ("short",), 0.0),
        (0, ("long", "short"), 0),
        (1, ("long",), 1),
        (((0, 0.2), (10, 0.8)), ("short",), 0.0),
        (((0, 0.2), (10, 0.8)), ("long", "short"), ((0, 0.2), (10, 0.8))),
    ],
)
def test_the_weight_of_a_term_without_texts_goes_to_the_other(long_weight, kinds, expected):
    found = text_kinds.long_weight_for(long_weight, kinds)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("long_weight", "kinds", "message"),
    [
        (1.0, ("short",), "loss.long_weight=1.0 trains on long texts, and data.sources hold short texts alone"),
        (0.0, ("long",), "loss.long_weight=0.0 trains on short texts, and data.sources hold long texts alone"),
        (0.5, (), "loss.long_weight=0.5 trains on long and short texts, and data.sources hold no texts"),
    ],
)
def test_a_loss_without_any_text_is_refused(long_weight, kinds, message):
    with pytest.raises(InputError) as error:
        text_kinds.long_weight_for(long_weight, kinds)
    assert str(error.value) == message


def test_the_first_sentence_is_short_text_wherever_a_long_one_is():
    scenes = [(SceneRecords(4), 1.0)]
    assert text_kinds.kinds_of(scenes, "first_sentence") == ("long", "short")

    class Short(SceneRecords):
        def text_kinds(self):
            return ("short",)

    assert text_kinds.kinds_of([(Short(4), 1.0)], "first_sentence") == ()
    assert text_kinds.kinds_of([(Short(4), 1.0), *scenes], "short") == ("long", "short")


def test_a_config_changes_only_where_a_kind_is_absent(tmp_path):
    both = configs.load("configs/quickstart.py", ["data.sources=scenes:8"])
    assert text_kinds.for_sources(both, mixture.open_sources(both)) == (both, [])
    folder = write(tmp_path / "short", only_short)
    short = configs.load("configs/quickstart.py", [f"data.sources={folder}"])
    changed, (note,) = text_kinds.for_sources(short, mixture.open_sources(short))
    assert (short.loss.long_weight, changed.loss.long_weight) == (0.8, 0.0)
    assert configs.curve_differences(json.loads(configs.to_json(short)), changed) == ["loss.long_weight: 0.8 -> 0.0"]
    assert note == (
        "note: data.sources hold short texts alone: loss.long_weight=0.8 becomes 0.0, and batches have no others"
    )


@pytest.mark.exhaustive  # in CI test_step.py has texts of weight zero
def test_short_captions_alone_train_at_their_whole_loss_and_old_runs_are_refused(tmp_path, capsys):
    folder = write(tmp_path / "short", only_short)

    def rows(name, *overrides):
        run = tmp_path / name
        config = configs.load("configs/quickstart.py", [*TINY, f"data.sources={folder}", *overrides])
        train_and_evaluate(config, str(run))
        found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [row for row in found if "loss" in row], json.loads((run / "config.json").read_text())

    steps, saved = rows("run")
    assert "note: data.sources hold short texts alone" in capsys.readouterr().err
    assert saved["loss"]["long_weight"] == 0.0
    for row in steps:
        assert row["loss"] == row["loss_short"] and "loss_long" not in row
        assert row["loss"] > 1.0  # of 8 pairs untrained: ln 8 ≈ 2.08
        assert row["padding"] < 0.6  # of 24 slots; with 64 more for long texts it was over nine tenths
    asked, _ = rows("asked", "loss.long_weight=0.0")
    assert [row["loss"] for row in asked] == [row["loss"] for row in steps]

    # What was begun under the weight as it was written is another run, and stays as it is.
    old = tmp_path / "run"
    before = configs.load("configs/quickstart.py", [*TINY, f"data.sources={folder}"])
    workdir.write_config(old, before)
    files = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"loss.long_weight: 0.8 -> 0.0.*--branch=NEWDIR"):
        train_and_evaluate(before, str(old))
    assert files == {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
