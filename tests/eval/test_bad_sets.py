"""Embedding sets, splits, class files and results whose every field is of another type: one line each, no traceback."""

import functools
import json
import shutil

import numpy as np
import pytest
from bad_files import borne, refused, spoiled, unreadable

from eval.class_texts import class_texts
from eval.embeddings import open_set, write_set
from eval.papers.measured import measured, read_results
from eval.papers.published_tables import tables
from eval.probe.probe_set import few_shot_of_set, knn_of_set, linear_probe_of_set
from eval.probe.splits import read_split, split, write_split
from eval.results import write_result
from eval.suite.__main__ import main as suite
from eval.suite.result_files import read_result
from eval.suite.suite_page import compose
from eval.suite.task_runs import run
from eval.suite.tasks import PROBES, MeasureSettings, measure, tasks_of

META = {
    "model": "m",
    "checkpoint": "runs/m",
    "step": 3,
    "dataset": "d",
    "split": "test",
    "features": "projected",
    "context_length": 77,
    "scenes": {"bay": {"height": 64, "width": 64, "file": "bay.png"}},
}
IMAGE = {"id": "i0", "label": "a", "split": "test", "scene": "bay", "window": [0, 64, 0, 64], "file": "0.png"}
TEXT = {"text": "t0", "kind": "long", "image": "i0", "label": "a", "template": "a {}", "length": 9}
CUT = {"text": "t0", "kind": "long", "image": "i0", "tokens": 5}
QUERY = {"text": "where", "kind": "query", "scene": "bay", "points": [[[8, 8], [40, 8], [40, 40]]]}
CLASS = {"text": "a b", "kind": "class", "label": "a", "template": "a {}"}


def made(path, image=None):
    """A set that allows every task but the probes, written without a check."""
    images = [{"id": f"i{n}", "label": "ab"[n % 2], "split": "test"} for n in range(8)]
    images[0] = IMAGE if image is None else image
    captions = [{"text": f"t{n}", "kind": "long", "image": f"i{n}", "length": 9} for n in range(8)]
    cut = [{"text": f"t{n}", "kind": "long", "image": f"i{n}", "tokens": 5} for n in range(8)]
    rows = [*captions, CLASS, CLASS | {"label": "b"}, QUERY, *cut]
    vectors = np.random.default_rng(0).normal(size=(8 + len(rows), 4))
    return write_set(path, META, vectors[:8], vectors[8:], images, rows)


def measure_all(path, splits):
    """Opens a set and measures all but the probes, as the suite does; a refusal is an InputError."""
    found = open_set(path)
    refusal = None
    for task in tasks_of(found):
        if task.name not in PROBES:
            try:
                measure(task, found, MeasureSettings(splits, 0, 1))
            except ValueError as error:
                refusal = error
    if refusal:
        raise refusal


@pytest.fixture
def folder(tmp_path):
    return made(tmp_path / "set")


@pytest.mark.parametrize("file", ["meta.json", "images.jsonl", "texts.jsonl"])
def test_a_file_of_a_set_that_is_no_json_is_named(folder, file):
    for what in unreadable(folder / file):
        text = refused(lambda: open_set(folder), str(folder), file)
        assert what != "folder" or "is a folder" in text


def test_every_field_of_meta_json_may_be_anything(folder, tmp_path):
    tried = refusals = 0
    written = json.loads((folder / "meta.json").read_text())
    for what, text in spoiled(written):
        (folder / "meta.json").write_text(text)
        tried += 1
        if not borne(lambda: measure_all(folder, tmp_path / "splits"), str(folder)):
            refusals += 1
            continue
        field, kind = what.rsplit(" ", 1)
        free = ("model", "dataset", "split", "checkpoint", "step", "dim", "scenes.bay.file")
        assert kind in ("absent", "null") or field in free, what
    assert tried > 200 and refusals > tried // 2


@pytest.mark.parametrize(
    ("file", "line", "row"),
    [("images", 1, IMAGE), ("texts", 1, TEXT), ("texts", 12, CUT), ("texts", 11, QUERY), ("texts", 9, CLASS)],
)
def test_every_field_of_a_row_may_be_anything(folder, tmp_path, file, line, row):
    path = folder / f"{file}.jsonl"
    lines = path.read_text().splitlines()
    for what, text in spoiled(row):
        path.write_text("\n".join([*lines[: line - 1], text, *lines[line:]]) + "\n")
        field, kind = what.split(" ", 1)
        try:
            good = borne(lambda: measure_all(folder, tmp_path / "splits"), str(folder))
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
        if kind in ("list", "object", "list_of_text") and field not in ("points", "points.0"):
            assert not good, what


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: np.save(s / "image_norms.npy", np.float32([1, 0, 1, 1, 1, 1, 1, 1])), "row 1 is 0, the length"),
        (lambda s: np.save(s / "text_norms.npy", np.full(19, np.nan, np.float32)), "text_norms.npy: row 0 is nan"),
        (lambda s: np.save(s / "image_norms.npy", -np.ones(8, np.float32)), "row 0 is -1"),
        (lambda s: (s / "images.jsonl").write_text('{"id": "a"}\n' * 8), "lines 1 and 2 have one id, 'a'"),
        (lambda s: (s / "images.jsonl").write_text('{"id": "a"}\n\n' * 4), "line 2: empty"),
        (lambda s: (s / "images.npy").write_bytes(b""), "images.npy: no .npy array"),
        (lambda s: (s / "images.npy").write_bytes(header(b"(" * 5000)), "images.npy: no .npy array"),
        (lambda s: (s / "images.npy").write_bytes(header(b"-" * 9000 + b"1")), "images.npy: no .npy array"),
    ],
)
def test_matrices_and_ids_that_no_one_can_use_are_named(folder, damage, said):
    damage(folder)
    refused(lambda: open_set(folder), said, str(folder))


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(999)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0, 2])
def test_a_row_that_is_not_finite_or_not_unit_is_named_by_every_task(folder, tmp_path, value):
    images = np.load(folder / "images.npy")
    images[0] = value
    np.save(folder / "images.npy", images)
    found = open_set(folder)
    settings = MeasureSettings(tmp_path, 0, 1)
    for task in tasks_of(found):
        if task.name not in (*PROBES, "text_lengths"):
            refused(functools.partial(measure, task, found, settings), "row 0")
    parts = split(found.labels())
    for probe in (linear_probe_of_set, knn_of_set, few_shot_of_set):
        refused(functools.partial(probe, found, 0, parts), f"{folder}: row 0 of images")


def test_a_scene_larger_than_the_memory_is_refused_before_a_map_is_made(folder, tmp_path):
    meta = json.loads((folder / "meta.json").read_text())
    meta["scenes"]["bay"] |= {"height": 10**7, "width": 10**7}
    (folder / "meta.json").write_text(json.dumps(meta))
    refused(lambda: measure_all(folder, tmp_path), "scene 'bay' takes 1,000,000.0 GB of memory", "meta.json")


def test_pictures_whose_names_no_file_system_takes_are_not_there(tmp_path):
    for name in ("x" * 5000, "a\0b", "../" * 2000):
        path = made(tmp_path / "set", image=IMAGE | {"file": name})
        assert open_set(path).picture(0) is None
        shutil.rmtree(path)


SETS = {
    "split 5": ("meta.json", lambda data: data.replace(b'"split": "test"', b'"split": 5')),
    "utf-16": ("meta.json", lambda data: data.decode().encode("utf-16")),
    "deep": ("meta.json", lambda data: b"[" * 100_000),
    "image a list": ("texts.jsonl", lambda data: data.replace(b'"image": "i0"', b'"image": ["i0"]')),
    "label a number": ("images.jsonl", lambda data: data.replace(b'"label": "a"', b'"label": 3')),
    "a header of brackets": ("images.npy", lambda data: header(b"(" * 5000)),
    "a folder": ("images.jsonl", None),
}


def test_bad_sets_do_not_stop_the_suite(tmp_path, capsys):
    good = made(tmp_path / "sets" / "good")
    for name, (file, change) in SETS.items():
        bad = tmp_path / "sets" / f"bad {name}"
        shutil.copytree(good, bad)
        if change is None:
            (bad / file).unlink()
            (bad / file).mkdir()
        else:
            (bad / file).write_bytes(change((bad / file).read_bytes()))
    out = tmp_path / "out"
    assert suite([str(tmp_path / "sets"), f"--out={out}", "--only=retrieval,zeroshot,selo", "--processes=1"]) == 2
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(said.err.splitlines()) == len(SETS)
    for name, (file, _) in SETS.items():
        assert sum(f"bad {name}/{file}" in line for line in errors) == 1, name
    made_of_good = sorted(path.name for path in (out / "results" / "m" / "d@test").iterdir())
    assert made_of_good == ["retrieval_long.json", "selo.json", "zeroshot.json"]
    assert "bad a folder" in (out / "report.html").read_text()


def test_a_kept_result_that_was_damaged_is_measured_again(tmp_path):
    path = made(tmp_path / "set")
    out = tmp_path / "out"
    before = run([path], out, ["zeroshot"])
    file = out / "results" / "m" / "d@test" / "zeroshot.json"
    content = file.read_bytes()
    assert run([path], out, ["zeroshot"]).reused == 1
    rng = np.random.default_rng(0)
    for _ in range(50):  # a flipped bit is noticed, or changes nothing
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        kept = read_result(file, before.results[0]["fingerprint"])
        assert kept is None or kept == {key: value for key, value in json.loads(content).items() if key != "crc32"}
    file.write_bytes(content[: len(content) // 2])
    again = run([path], out, ["zeroshot"])
    assert again.reused == 0 and again.results == before.results and file.read_bytes() == content
    compose(again)


RESULTS = {
    "retrieval": {"kind": "long", "texts": 8, "image_queries": 8, "mean_recall": 5.0}
    | {way: {"R@1": 1.0, "R@5": 2.0, "R@10": 3.0} for way in ("text_to_image", "image_to_text")},
    "zeroshot": {"accuracy": 3.0, "templates": ["a {}"], "images": 31500, "per_template": {"a {}": 4.0}},
    "linear_probe": {"accuracy": 3.0, "parts": {"rule": "own", "test": 100}, "estimator": "SGD"},
    "knn": {"accuracy": 3.0, "accuracy_weighted": 3.0, "protocol": "itra"},
    "few_shot": {"shots": {"1": {"mean": 3.0, "std": 1.0}}, "draws": 10, "benchmark": "RESISC45"},
    "selo": {"R_su": 0.1, "R_as": 0.2, "R_da": 0.3, "R_mi": 0.4, "version": "v2"}
    | {"queries": [{}], "scenes": 22, "crops": "direct", "sides": [256, 512]},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", RESULTS)
def test_every_field_of_a_result_may_be_anything(tmp_path, task):
    head = {"task": task, "model": "m", "dataset": "RESISC45", "split": None, "features": "projected"}
    path = tmp_path / "r.json"
    (tmp_path / "good.json").write_text(json.dumps(head | RESULTS[task] | {"dataset": "other"}))
    printed = [*tables("RSCLIP"), *tables("LRSCLIP")]
    for what, text in spoiled(head | RESULTS[task]):
        path.write_text(text)

        def read():
            results = read_results(tmp_path)
            for table in printed:
                measured(results, table)

        try:
            borne(read, str(path))
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
    for _ in unreadable(path):
        if path.is_file():
            refused(lambda: read_results(tmp_path), str(path))


def test_a_result_that_was_changed_is_not_printed_next_to_the_papers(tmp_path):
    write_result(tmp_path / "r.json", {"task": "knn", "model": "m", "dataset": "d", "accuracy": 61.5})
    (found,) = read_results(tmp_path)
    assert found == {"task": "knn", "model": "m", "dataset": "d", "accuracy": 61.5}
    file = tmp_path / "r.json"
    file.write_text(file.read_text().replace("61.5", "81.5"))
    refused(lambda: read_results(tmp_path), f"{file}: damaged, its checksum")


def test_every_field_of_a_split_may_be_anything(tmp_path):
    ids = [f"i{n}" for n in range(8)]
    path = tmp_path / "split.json"
    write_split(path, split(["a", "b"] * 4), ids)
    for _, text in spoiled(json.loads(path.read_text())):
        path.write_text(text)
        borne(lambda: read_split(path, ids), str(path))
    for _ in unreadable(path):
        refused(lambda: read_split(path, ids), str(path))


def test_every_value_of_a_file_of_class_names_may_be_anything(tmp_path):
    path = tmp_path / "names.json"
    for what, text in spoiled({"a": "an airport", "b": "a bridge"}):
        path.write_text(text)
        read = borne(lambda: class_texts(["a", "b"], ["a photo of {}"], str(path)), str(path))
        assert read == (what.split()[1] in ("text", "empty_text", "line_ends") and what[0] != "$"), what
    for _ in unreadable(path):
        refused(lambda: class_texts(["a"], ["{}"], str(path)), str(path))
