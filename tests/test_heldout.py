import io

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax import heldout
from lrsclip_jax.data.prepared.records import Record
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.encoders import Encoders
from lrsclip_jax.errors import InputError


def test_the_metric_of_the_best_checkpoint_must_be_a_score():
    held_out = [heldout.load("scenes:6:1", clip_tokenizer())]
    for metric in (
        None,
        "eval/scenes:6:1/long/mean_recall",
        "eval/scenes:6:1/short/image_to_text/R@5",
        "eval/scenes:6:1/long, first 20 tokens/text_to_image/R@1",
    ):
        heldout.check_score("checkpoint.best", metric, held_out, truncations=(20,))
    with pytest.raises(InputError, match=r"is no score of this run, did you mean 'eval/scenes:6:1/long/mean_recall'\?"):
        heldout.check_score("checkpoint.best", "eval/scenes:6:1/long/mean_recal", held_out, ())
    with pytest.raises(InputError, match="is no score of this run: eval.sources is empty"):
        heldout.check_score("checkpoint.best", "eval/scenes:6:1/long/mean_recall", [], ())


def test_labelled_sets_are_classified_with_templates(monkeypatch):
    tokenizer = clip_tokenizer()
    colours = {"bare_land": 20, "PlayGround": 120, "River": 220}

    def png(value):
        file = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
        return file.getvalue()

    # The last image is a river by its label and bare land by its colour.
    values = [*colours.values(), 20]

    class Listed(list):
        def band_set(self):
            return None

    records = Listed(
        Record(str(n), "s", png(value), short=("a text",), label=label)
        for n, (value, label) in enumerate(zip(values, [*colours, "River"], strict=True))
    )
    monkeypatch.setattr(heldout, "open_records", lambda source: records)

    def images(params, pixels):
        return np.eye(3, dtype=np.float32)[np.asarray(pixels).mean(axis=(1, 2, 3)).astype(int) // 100]

    def texts(params, ids):
        words = ("bare land", "play ground", "river")
        known = {tuple(tokenizer.encode([f"a satellite photo of {word}"])[0]): n for n, word in enumerate(words)}
        rows = [tuple(row[: list(row).index(tokenizer.end) + 1].tolist()) for row in np.asarray(ids)]
        return np.eye(3, dtype=np.float32)[[known.get(row, 0) for row in rows]]

    held = heldout.load("folder/set", tokenizer, ("lrsclip",))
    preprocessing = Preprocessing(8, (0, 0, 0), (1, 1, 1))
    table = heldout.score(
        held, Encoders(images, texts), None, tokenizer, preprocessing, lengths={"short": 16}, batch_size=4
    )
    assert table.zeroshot["accuracy"] == 75 and table.zeroshot["per_class"]["River"] == 50
    assert heldout.flat([table])["eval/set/zeroshot/accuracy"] == 75
    assert "Zero-shot: 75.00 % of the images are put into the right one of 3 classes." in heldout.lines(table)
    heldout.check_score("checkpoint.best", "eval/set/zeroshot/accuracy", [held], ())
    assert heldout.load("folder/set", tokenizer).classes is None


def test_scores_before_training_stand_above_those_after_it():
    held = heldout.load("scenes:8:1", clip_tokenizer())
    rng = np.random.default_rng(0)

    def encode(params, inputs):
        rows = rng.normal(size=(len(inputs), 6)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    sizes = {"lengths": {"long": 64, "short": 24}, "truncations": (20,), "batch_size": 8}
    first, last = (
        heldout.score(
            held, Encoders(encode, encode), None, clip_tokenizer(), Preprocessing(8, (0,) * 3, (1,) * 3), **sizes
        )
        for _ in range(2)
    )
    before = heldout.flat([first])
    said, plain = heldout.lines(last, before), heldout.lines(last)
    assert [line for line in said if "before training" not in line] != plain  # the column is as wide as its names
    assert [line.split() for line in said if "before training" not in line] == [line.split() for line in plain]
    told = [line for line in said if "before training" in line]
    assert [line[: len(row.name) + 17] for line, row in zip(told, last.rows, strict=True)] == [
        f"{row.name}, before training" for row in first.rows
    ]
    assert [line.split()[-1] for line in told] == [f"{row.metrics['mean_recall']:.2f}" for row in first.rows]
    report = heldout.for_report(last, before)
    names = list(report.results)
    assert names.index("long, before training") == names.index("long") - 1
    assert (
        report.results["short, before training"]["image_to_text"]
        == {row.name: row.metrics for row in first.rows}["short"]["image_to_text"]
    )
    del before["eval/scenes:8:1/long/image_to_text/R@5"]  # a set that the run did not have
    assert "long, before training" not in heldout.for_report(last, before).results
