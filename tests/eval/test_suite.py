"""The suite: every task that a folder of sets allows, each measured once, all of it in one page."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from documents import Document, assert_fetches_nothing, picture
from PIL import Image

from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.probe.probe_set import knn_of_set, linear_probe_of_set, split_of_set
from eval.probe.splits import read_split
from eval.retrieval import retrieval_metrics
from eval.selo import windows
from eval.selo.of_set import selo_of_set
from eval.suite.__main__ import main
from eval.suite.result_files import numbers_of, safe_name
from eval.suite.tasks import EvalTask, evaluated_part, tasks_of
from eval.text_length import length_curve
from eval.zeroshot import zeroshot_of_set

CLASSES = ("airport", "beach", "port & <dock>")
TEMPLATES = ("a satellite photo of {}", "{} from above")
OURS, THEIRS = "ours B/16", "theirs"
SCENES = {
    "retrieval_long",
    "retrieval_short",
    "length_long",
    "text_lengths",
    "zeroshot",
    "zeroshot_raw",
    "linear_probe",
    "knn",
    "few_shot",
}


def scenes(root: Path, model: str, noise: float, seed: int) -> Path:
    """36 labelled images in three splits, with long (also cut), short and class texts; pictures of ours only."""
    rng = np.random.default_rng(seed)
    centres = 4 * np.random.default_rng(9).normal(size=(3, 8))
    labels = np.repeat(np.arange(3), 12)
    images = centres[labels] + rng.normal(size=(36, 8))
    image_rows, texts, text_rows = [], [], []
    for row, label in enumerate(labels):
        of_image = {"id": f"{row:02}.jpg", "label": CLASSES[label], "split": ("train", "val", "test")[row % 3]}
        if model == OURS:
            (root / "pictures").mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(row)).save(root / "pictures" / f"{row:02}.jpg")
            of_image["file"] = f"../pictures/{row:02}.jpg"
        image_rows.append(of_image)
        for kind, tokens in (("long", None), ("long", 9), ("long", 5), ("short", None)):
            cut = {"tokens": tokens} if tokens else {}
            length = 7 + row if kind == "long" else 6
            text_rows.append({"text": f"{kind} {row}", "kind": kind, "image": f"{row:02}.jpg", "length": length, **cut})
            texts.append(images[row] + noise * (1 + 9 / (tokens or 99)) * rng.normal(size=8))
    for template in TEMPLATES:
        for label, name in enumerate(CLASSES):
            text_rows.append({"text": template.format(name), "kind": "class", "label": name, "template": template})
            texts.append(centres[label] + noise * rng.normal(size=8))
    meta = {"model": model, "dataset": "harbours", "features": "projected", "context_length": 30}
    return write_set(root / f"{safe_name(model)}_scenes", meta, images, np.array(texts), image_rows, text_rows)


def localisation(root: Path) -> Path:
    """A scene with two queries."""
    rng = np.random.default_rng(5)
    (root / "pictures").mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(height=320, width=296)).save(root / "pictures" / "scene.png")
    cells = windows(320, 296, (128, 256))
    image_rows = [{"id": str(n), "scene": "bay", "window": list(map(int, cell))} for n, cell in enumerate(cells)]
    square = [[[40, 40], [140, 40], [140, 140], [40, 140]]]
    queries = [{"text": f"a {what}", "kind": "query", "scene": "bay", "points": square} for what in ("quay", "ship")]
    meta = {
        "model": OURS,
        "dataset": "bays",
        "features": "projected",
        "scenes": {"bay": {"height": 320, "width": 296, "file": "../pictures/scene.png"}},
    }
    return write_set(
        root / "localisation", meta, rng.normal(size=(len(cells), 8)), rng.normal(size=(2, 8)), image_rows, queries
    )


def encoder(root: Path) -> Path:
    """The image tower's own features of ours."""
    ours = open_set(root / f"{safe_name(OURS)}_scenes")
    rows = np.concatenate([ours.images, ours.images[:, :4]], axis=1)
    meta = {"model": OURS, "dataset": "harbours", "features": "encoder"}
    return write_set(root / "encoder", meta, rows, None, ours.image_rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four sets of two models, and the folder of their evaluation."""
    root = tmp_path_factory.mktemp("suite")
    sets, out = root / "sets", root / "out"
    scenes(sets, OURS, noise=0.3, seed=1)
    scenes(sets, THEIRS, noise=2.0, seed=2)
    encoder(sets)
    localisation(sets)
    assert run(sets, out) == 0
    return sets, out


def run(sets, out, *more):
    return main([f"--sets={sets}", f"--out={out}", "--processes=1", *more])


@pytest.fixture
def copy(world, tmp_path):
    """A copy of sets and evaluation that a test may change; times of files are kept."""
    return tuple(Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in world)


def results_of(out):
    return {
        path.relative_to(out / "results"): json.loads(path.read_text()) for path in (out / "results").rglob("*.json")
    }


def test_each_set_has_the_results_that_it_allows(world):
    ours = Path(safe_name(OURS))
    expected = {ours / "harbours" / f"{name}.json" for name in SCENES}
    expected |= {Path("theirs") / "harbours" / f"{name}.json" for name in SCENES}
    expected |= {ours / "harbours" / f"{name}@encoder.json" for name in ("linear_probe", "knn", "few_shot")}
    expected |= {ours / "bays" / "selo.json"}
    assert set(results_of(world[1])) == expected


def test_results_are_those_of_the_functions(world):
    sets, out = world
    found = {str(path): result for path, result in results_of(out).items()}
    theirs = open_set(sets / "theirs_scenes")
    test = [row for row in range(36) if row % 3 == 2]
    long = [row for row, text in enumerate(theirs.text_rows) if text["kind"] == "long" and "tokens" not in text]
    expected = retrieval_metrics(theirs.images[test], theirs.texts[np.array(long)[test]], np.arange(12))
    result = found["theirs/harbours/retrieval_long.json"]
    assert expected.items() <= result.items()
    assert (result["split"], result["kind"], result["cut"]) == ("test", "long", sum(7 + row > 30 for row in test))
    assert result["chance"]["text_to_image"]["R@1"] == pytest.approx(100 / 12)
    part = evaluated_part(theirs)
    assert zeroshot_of_set(part, "raw").items() <= found["theirs/harbours/zeroshot_raw.json"].items()
    assert length_curve(part, "long").items() <= found["theirs/harbours/length_long.json"].items()
    for name, probe in (("linear_probe", linear_probe_of_set), ("knn", knn_of_set)):
        expected = probe(theirs)
        assert found[f"theirs/harbours/{name}.json"]["parts"] == expected.pop("split")
        assert expected.items() <= found[f"theirs/harbours/{name}.json"].items()
    selo = json.loads(json.dumps(selo_of_set(open_set(sets / "localisation"))))
    assert selo.items() <= found[f"{safe_name(OURS)}/bays/selo.json"].items()


def test_the_split_is_kept_for_all_models(world):
    sets, out = world
    (path,) = (out / "splits").iterdir()
    ours = open_set(sets / "encoder")
    kept, drawn = read_split(path, [image["id"] for image in ours.image_rows]), split_of_set(ours, seed=0)
    np.testing.assert_array_equal(kept.test, drawn.test)
    np.testing.assert_array_equal(kept.train, drawn.train)


def test_every_number_is_in_the_table(world):
    out = world[1]
    with open(out / "results.csv", encoding="utf-8", newline="") as file:
        rows = {tuple(row[:6]): float(row[6]) for row in list(csv.reader(file))[1:]}
    results = results_of(out)
    for name, metric, value in (
        ("retrieval_long", "text_to_image/R@5", lambda result: result["text_to_image"]["R@5"]),
        ("zeroshot_raw", "per_class/beach", lambda result: result["per_class"]["beach"]),
        ("length_long", "image_to_text/R@1/9 tokens", lambda result: result["image_to_text"]["R@1"][1]),
        ("few_shot", "shots/4/mean", lambda result: result["shots"]["4"]["mean"]),
    ):
        result = results[Path("theirs") / "harbours" / f"{name}.json"]
        split = result["split"] or ""
        assert rows["theirs", "harbours", split, "projected", name, metric] == value(result)
    assert (OURS, "bays", "", "projected", "selo", "R_mi") in rows
    assert (OURS, "harbours", "", "encoder", "knn", "accuracy") in rows
    assert len(rows) == sum(len(list(numbers_of(result))) for result in results.values())


def test_the_page_shows_every_model_and_fetches_nothing(world):
    sets, out = world
    markup = (out / "report.html").read_text(encoding="utf-8")
    assert_fetches_nothing(markup)
    links = [unquote(link["href"]) for link in Document(markup).all("a") if not link["href"].startswith("#")]
    results = {path.relative_to(out).as_posix() for path in (out / "results").rglob("*.json")}
    assert links[0] == "results.csv" and {*links[1:]} == results
    document = Document(markup)
    headings = document.text("h2")
    for heading in (
        "Overview",
        "Retrieval with long text: harbours, test",
        "Length of the long text: harbours, test",
        "How long the texts are",
        "Zero-shot classification: harbours, test",
        "Probes of the image tower: harbours",
        "Semantic localisation: bays",
        "The embedding sets",
    ):
        assert heading in headings
    rows = document.text("th")
    for row in (OURS, THEIRS, f"{OURS}, encoder features", "chance"):
        assert row in rows
    accuracy = json.loads((out / "results" / "theirs" / "harbours" / "linear_probe.json").read_text())["accuracy"]
    assert f"{accuracy:.2f}" in document.text("td")
    alts = [image["alt"] for image in document.all("img")]
    assert len([alt for alt in alts if alt.startswith("Image 1, ")]) == 6  # three queries of both kinds of text
    assert len([alt for alt in alts if "the query" in alt]) == 8
    assert len([alt for alt in alts if alt.startswith("Query")]) == 2  # of localisation
    assert "port & <dock>" in document.text("text")  # a class in the confusion matrix
    assert any("published" in text for text in document.text("span"))
    told = [text for text in document.text("p") if "were cut" in text]
    assert told == [
        f"{OURS}; {THEIRS}: {sum(7 + row > 30 for row in range(2, 36, 3))} of 12 long texts were cut to 30 tokens."
    ]


def test_only_what_changed_is_measured_again(copy, capsys):
    sets, out = copy
    before = {path: path.stat().st_mtime_ns for path in (out / "results").rglob("*.json")}
    texts = sets / "theirs_scenes" / "texts.npy"
    changed = np.load(texts)[::-1].copy()
    texts.unlink()
    np.save(texts, changed)
    (out / "results" / safe_name(OURS) / "bays" / "selo.json").write_text('{"task": "selo"')  # torn
    gone = out / "results" / safe_name(OURS) / "harbours" / "knn.json"
    gone.unlink()
    assert run(sets, out) == 0
    assert "22 results, 11 of them from before" in capsys.readouterr().out
    for path, time in before.items():
        anew = "theirs" in path.parts or path.name == "selo.json" or path == gone
        assert (path.stat().st_mtime_ns != time) == anew, path


def test_another_seed_is_another_draw_of_the_probes_alone(copy, capsys):
    sets, out = copy
    assert run(sets, out, "--seed=1", "--only=knn,retrieval") == 0
    assert "16 results, 13 of them from before" in capsys.readouterr().out
    assert len(list((out / "splits").iterdir())) == 2


def test_chosen_tasks_join_what_is_there(world, tmp_path, capsys):
    sets, out = world[0], tmp_path / "out"
    assert run(sets, out, "--only=text_lengths") == 0
    assert {path.name for path in results_of(out)} == {"text_lengths.json"}
    assert run(sets, out, "--only=zeroshot") == 0
    assert {path.name for path in results_of(out)} == {"text_lengths.json", "zeroshot.json", "zeroshot_raw.json"}
    headings = Document((out / "report.html").read_text(encoding="utf-8")).text("h2")
    assert "How long the texts are" in headings and "Zero-shot classification: harbours, test" in headings
    assert not any("Probes" in heading for heading in headings)


def test_processes_measure_the_same(world, tmp_path):
    out = tmp_path / "out"
    assert main([f"--sets={world[0]}", f"--out={out}", "--processes=2", "--only=text_lengths,retrieval"]) == 0
    for path, result in results_of(out).items():
        assert result == results_of(world[1])[path]


@pytest.mark.slow
def test_what_fails_is_told_in_a_line_and_the_rest_goes_on(copy, capsys):
    sets, out = copy
    shutil.rmtree(out)
    lines = (sets / "theirs_scenes" / "texts.jsonl").read_text().splitlines()
    lines[0] = lines[0].replace('"00.jpg"', '"lost.jpg"')
    (sets / "theirs_scenes" / "texts.jsonl").write_text("\n".join(lines) + "\n")
    lines = (sets / "encoder" / "images.jsonl").read_text().replace('"label": "beach"', '"size": 1')
    (sets / "encoder" / "images.jsonl").write_text(lines)
    with open(sets / "localisation" / "images.npy", "r+b") as file:
        file.truncate(150)
    assert run(sets, out) == 2
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 6 and len(said.err.splitlines()) == 6
    assert sum("lost.jpg" in line and "theirs_scenes" in line for line in errors) == 2  # retrieval and length
    assert sum("no label" in line for line in errors) == 3
    assert sum("images.npy: " in line and "torn or damaged" in line for line in errors) == 1
    assert len(results_of(out)) == 9 + 7
    document = Document((out / "report.html").read_text(encoding="utf-8"))
    assert document.text("h2")[0] == "Not measured"
    assert all(line.removeprefix("error: ") in document.text("p") for line in errors)


def test_a_defect_keeps_its_traceback_and_the_rest_goes_on(world, tmp_path, capsys, monkeypatch):
    def broken(embedding_set):
        raise TypeError("broken")

    monkeypatch.setattr("eval.suite.tasks.length_histogram", broken)
    assert run(world[0], tmp_path / "out", "--only=text_lengths,length") == 1
    said = capsys.readouterr().err
    assert said.count('in broken\n    raise TypeError("broken")') == said.count("error: text_lengths of ") == 2
    assert {path.name for path in results_of(tmp_path / "out")} == {"length_long.json"}


def test_probes_by_itra_are_measured_where_they_are_asked_for_and_stay(copy, capsys):
    sets, out = copy
    assert run(sets / "encoder", out, "--probes=itra", "--only=linear_probe,knn") == 0
    linear = json.loads((out / "results" / safe_name(OURS) / "harbours" / "linear_probe_itra@encoder.json").read_text())
    assert linear["protocol"] == "itra" and linear["parts"] == {
        "rule": "80/20 of each class, by the order of ids",
        "train": 27,
        "validation": 0,
        "test": 9,
    }
    assert linear["seed"] == 0 and linear["accuracy"] >= linear["accuracy_last"]
    assert run(sets, out) == 0
    document = Document((out / "report.html").read_text(encoding="utf-8"))
    assert f"{OURS}, encoder features, by ITRA" in document.text("th")
    with open(out / "results.csv", encoding="utf-8", newline="") as file:
        assert (OURS, "linear_probe_itra") in {(row[0], row[4]) for row in csv.reader(file)}


def test_what_is_below_chance_is_said_in_result_page_and_terminal(copy, capsys):
    sets, out = copy
    path = sets / "theirs_scenes" / "texts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["kind"] == "class":
            row["label"] = CLASSES[(CLASSES.index(row["label"]) + 1) % 3]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = path.with_name("images.jsonl")
    images.write_text(images.read_text().replace('"split"', '"part"'))  # of the 12 test images none could be right
    assert run(sets, out, "--only=zeroshot") == 0
    (line, _) = (line for line in capsys.readouterr().err.splitlines() if "zeroshot" in line)  # of both averages
    assert "per cent are right, below chance (33" in line and "labels and texts disagree" in line
    result = json.loads((out / "results" / "theirs" / "harbours" / "zeroshot.json").read_text())
    assert line.endswith(result["warning"])
    told = Document((out / "report.html").read_text(encoding="utf-8")).text("p")
    assert f"theirs: {result['warning']}." in told
    assert run(sets, out, "--only=zeroshot") == 0  # a result that is reused says it again
    assert result["warning"] in capsys.readouterr().err


def test_a_row_of_a_study_is_carried_into_the_results_and_one_of_none_is_named(copy, capsys):
    sets, out = copy
    for name, study in (
        ("theirs_scenes", {"table": "lrsclip:VI", "heads": {"pcm": "True"}}),
        ("encoder", {"table": "lrsclip:II", "heads": {}}),
    ):
        meta = json.loads((sets / name / "meta.json").read_text())
        (sets / name / "meta.json").write_text(json.dumps(meta | {"study": study}))
    assert run(sets, out, "--only=knn,zeroshot") == 2
    assert f"error: {sets}/encoder/meta.json, study: table is 'lrsclip:II', a table of an" in capsys.readouterr().err
    assert json.loads((out / "results/theirs/harbours/knn.json").read_text())["study"]["heads"] == {"pcm": "True"}


def test_two_checkpoints_of_one_name_are_told_apart(world, tmp_path, capsys):
    sets, out = tmp_path / "sets", tmp_path / "out"
    for name in ("a", "b"):
        shutil.copytree(world[0] / "encoder", sets / name)
    assert run(sets, out, "--only=knn") == 0
    assert f"note: knn of {sets}/b: left out, {sets}/a is of the same model" in capsys.readouterr().err
    meta = json.loads((sets / "b" / "meta.json").read_text())
    (sets / "b" / "meta.json").write_text(json.dumps(meta | {"step": 7}))
    assert run(sets, out, "--only=knn") == 2
    assert f"{sets}/a is of another checkpoint under the same name, {OURS!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--sets=NOWHERE", "NOWHERE: no embedding set there"),
        ("--out=FILE", "FILE is a file, a folder is expected"),
        ("--only=retreival", "--only=retreival: no task, did you mean 'retrieval'?"),
        ("--seed=-1", "--seed=-1: expected a whole number from 0"),
        ("--processes=0", "--processes=0: expected a whole number from 1"),
    ],
)
def test_bad_input_is_one_line(world, tmp_path, argument, message):
    (tmp_path / "FILE").write_text("")
    given = {"--sets": world[0] / "encoder", "--out": tmp_path / "out"} | dict([argument.split("=")])
    with pytest.raises(InputError, match=re.escape(message)) as error:
        main([f"{flag}={tmp_path / 'FILE' if value == 'FILE' else value}" for flag, value in given.items()])
    assert "\n" not in str(error.value)


def test_a_set_without_a_task_is_bad_input(tmp_path):
    write_set(
        tmp_path / "x",
        {"model": "m", "dataset": "d", "features": "encoder"},
        np.eye(3),
        None,
        [{"id": str(i)} for i in range(3)],
    )
    with pytest.raises(InputError, match="no set at or below .* has what any task needs"):
        run(tmp_path / "x", tmp_path / "out")


def test_texts_of_encoder_features_meet_no_images(tmp_path):
    texts = [{"text": "t", "kind": "short", "image": "0"}, {"text": "u", "kind": "class", "label": "a"}]
    images = [{"id": str(n), "label": "a"} for n in range(2)]
    meta = {"model": "m", "dataset": "d", "features": "encoder"}
    found = open_set(write_set(tmp_path / "x", meta, np.eye(2), np.eye(2), images, texts))
    assert tasks_of(found) == [
        *(EvalTask(name) for name in ("linear_probe", "knn", "few_shot")),
        *(EvalTask(name, "itra") for name in ("linear_probe", "knn")),
    ]


def test_names_of_files_are_safe_and_differ():
    assert safe_name("LRSCLIP_ViT-B-16") == "LRSCLIP_ViT-B-16"
    odd = ["a/b", "a_b", "a:b", "../a", "a" * 300, "a" * 301, "", "é", ".", ".."]
    safe = [safe_name(name) for name in odd]
    assert len(set(safe)) == len(odd)
    assert all(name and "/" not in name and not name.startswith(".") and len(name) < 100 for name in safe)
