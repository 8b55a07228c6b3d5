"""The command `lrsclip study`: what it trains, keeps and tells, with a model of width 8."""

import csv
import dataclasses
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_study

from eval.embeddings import check_set, open_set
from eval.papers.measured import measured, read_results
from eval.papers.published_tables import PublishedRow, named_tables
from lrsclip_jax import cli
from lrsclip_jax.errors import InputError
from lrsclip_jax.studies import running

pytestmark = pytest.mark.exhaustive
STUDY = str(Path(tiny_study.__file__))
TABLE = named_tables("lrsclip:fig10")[0]
SCENES = PublishedRow("", {"ratio": "8:2"}, {"scenes/text_to_image/R@1": None}, {})
FAILING = f"""
import dataclasses, sys
sys.path.insert(0, {str(Path(STUDY).parent)!r})
import tiny_study
from lrsclip_jax.studies import Variant

def get_study():
    study = tiny_study.get_study()
    broken = Variant({{"ratio": "9:1"}}, {{"model.init": "/nowhere"}})
    return dataclasses.replace(study, title="one fails", variants=(broken, *study.variants))
"""


def in_this_process(command, log):
    """Stands for a child process, whose imports would take most of the time."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(os.environ["CALLED"], "a") as called:
        called.write(f"{command[2]} {' '.join(command[3:])}\n")
    try:
        importlib.import_module(command[2] + ("" if command[2].endswith("main") else ".__main__")).main(command[3:])
    except InputError as error:
        raise running.Failed(str(error)) from None


def calls() -> list[str]:
    path = Path(os.environ["CALLED"])
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(running, "call", in_this_process)
    monkeypatch.setenv("CALLED", str(tmp_path / "called"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workdir with the whole study, and what was called for it."""
    workdir = tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "call", in_this_process)
        patch.setenv("CALLED", str(workdir.parent / "called"))
        assert cli.main(["study", STUDY, f"--workdir={workdir}"]) == 0
        return workdir, calls()


@pytest.fixture
def copy(finished, tmp_path, quick):
    """A workdir of one's own with the finished study."""
    shutil.copytree(finished[0], tmp_path / "w", symlinks=True)
    return tmp_path / "w"


def rows(path: Path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def scores(workdir: Path, name: str = "tiny_study") -> dict:
    return {(row["ratio"], row["seed"], row["score"]): row["value"] for row in rows(workdir / name / "seeds.csv")}


def test_each_variant_and_seed_is_trained_and_measured_once(finished):
    workdir, called = finished
    assert [line.split()[0] for line in called] == 4 * ["lrsclip_jax.main", "lrsclip_jax.embed"]
    found = scores(workdir)
    assert len(found) == 2 * 2 * (3 + 2 * 6)  # three scores, six recalls of each kind of text
    recalls = [float(value) for (*row, score), value in found.items() if row == ["1:9", "0"] and "ZCRL/" in score]
    assert sum(recalls) / 6 == pytest.approx(float(found["1:9", "0", "ZCRL"]))
    table = rows(workdir / "tiny_study" / "table.csv")
    assert [row["published"] for row in table if row["ratio"] == "8:2"] == ["64.79", "36.17", "75.7"]
    of = [float(found["1:9", seed, "ZCRL"]) for seed in "01"]
    assert float(next(row["mean"] for row in table if (row["ratio"], row["score"]) == ("1:9", "ZCRL"))) == sum(of) / 2


def test_the_page_holds_all_in_one_file(finished):
    page = (finished[0] / "tiny_study" / "study.html").read_text()
    assert "within noise" in page or "confirmed" in page or "refuted" in page
    assert page.count("<svg") >= 3 and "64.79" in page and "SeLo: not measured" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "Not finished" not in page


def test_the_embedding_sets_say_which_row_they_are(finished):
    sets = sorted((finished[0] / "tiny_study" / "sets").rglob("meta.json"))
    assert len(sets) == 4
    for path in sets:
        check_set(path.parent)
    rows = [open_set(path.parent).meta["study"] for path in sets]
    assert {(row["heads"]["ratio"], row["seed"]) for row in rows} == {(r, s) for r in ("8:2", "1:9") for s in (0, 1)}
    result = {"task": "zeroshot", "model": "8:2", "dataset": "RESISC45", "accuracy": 50.0, "study": rows[0]}
    assert measured([result], named_tables("lrsclip:VI")[0]) == {}


def test_evaluate_takes_the_sets_and_puts_them_into_the_papers_table(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.papers.measured.is_of", lambda study, table: True)  # of a table with these scenes
    out = tmp_path / "evaluation"
    sets = finished[0] / "tiny_study" / "sets"
    assert cli.main(["evaluate", str(sets), f"--out={out}", "--only=retrieval", "--processes=1"]) == 0
    found = measured(read_results(out / "results"), dataclasses.replace(TABLE, rows=(SCENES,)))
    assert list(found) == ["1:9, seed 0", "1:9, seed 1", "8:2, seed 0", "8:2, seed 1"]
    assert found["1:9, seed 1"].heads == {"ratio": "1:9"}
    value = found["1:9, seed 1"].values["scenes", "text_to_image/R@1"].value
    assert value == pytest.approx(float(scores(finished[0])["1:9", "1", "ZCRL/text_to_image/R@1"]))


def test_started_again_it_trains_nothing(copy):
    before = scores(copy)
    assert cli.main(["study", STUDY, f"--workdir={copy}"]) == 0
    assert calls() == [] and scores(copy) == before


def test_another_study_with_the_same_curve_trains_it_not_again(copy, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(Path(STUDY).read_text().replace('"8:2"', '"9:1"'))
    assert cli.main(["study", str(other), f"--workdir={copy}"]) == 0
    assert calls() == []
    assert sorted(scores(copy, "other").values()) == sorted(scores(copy).values())


def test_a_torn_file_of_scores_is_told_and_measured_again(copy, capsys):
    before = scores(copy)
    torn = min(copy.rglob("*.npz"))
    torn.write_bytes(torn.read_bytes()[:200])
    assert cli.main(["study", STUDY, f"--workdir={copy}"]) == 0
    said = capsys.readouterr().err
    assert said.count("measured again") == 1 and str(torn) in said
    assert scores(copy) == before and calls() == []


def test_a_damaged_embedding_set_is_told_and_made_again(copy, capsys):
    before = scores(copy)
    scored = min(copy.rglob("*.npz"))
    scored.unlink()  # as after a kill between embedding and scoring
    rows = scored.parents[1] / "sets" / scored.stem / "texts.npy"
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.unlink()  # the study's own set is a link to the same file
    rows.write_bytes(content)
    assert cli.main(["study", STUDY, f"--workdir={copy}"]) == 0
    assert capsys.readouterr().err.count("embedded again") == 1
    assert scores(copy) == before and [line.split()[0] for line in calls()] == ["lrsclip_jax.embed"]


def test_a_missing_seed_is_named_and_the_row_is_of_the_others(copy, monkeypatch, capsys):
    before = scores(copy)
    key = next(row["run"] for row in rows(copy / "tiny_study/seeds.csv") if (row["ratio"], row["seed"]) == ("1:9", "1"))
    shutil.rmtree(copy / "runs" / key)

    def fails(command, log):
        raise running.Failed("no memory")

    monkeypatch.setattr(running, "call", fails)
    assert cli.main(["study", STUDY, f"--workdir={copy}"]) == 2
    said = capsys.readouterr()
    assert "1:9: seed 1 is missing: its row is of the others" in said.out
    assert "error: 1:9, seed 1: no memory" in said.err
    assert "1:9: seed 1 is missing" in (copy / "tiny_study/study.html").read_text()
    one = next(row for row in rows(copy / "tiny_study/table.csv") if (row["ratio"], row["score"]) == ("1:9", "ZCRL"))
    assert one["seeds"] == "1" and one["mean"] == before["1:9", "0", "ZCRL"] and one["low"]
    kept = json.loads((copy / "tiny_study/results.json").read_text())
    assert kept["missing"] == ["1:9, seed 1"] and kept["failures"] == ["1:9, seed 1: no memory"]


def test_a_run_that_fails_does_not_end_the_others(copy, tmp_path, capsys):
    study = tmp_path / "failing.py"
    study.write_text(FAILING)
    assert cli.main(["study", str(study), f"--workdir={copy}"]) == 2
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: 9:1")]) == 2
    assert len(scores(copy, "failing")) == 60


def test_shards_are_equal_parts_that_together_are_the_study(copy, tmp_path, capsys):
    printed = []
    for part in "12":
        words = ["study", STUDY, f"--workdir={tmp_path / 'new'}", f"--shard={part}/2", "--dry-run"]
        assert cli.main(words) == 0
        printed += [line for line in capsys.readouterr().out.splitlines() if "lrsclip_jax.main" in line]
    assert len(printed) == len(set(printed)) == 4 and not (tmp_path / "new").exists()


def test_a_dry_run_tells_commands_pairs_and_hours_and_starts_nothing(copy, capsys):
    key = next(row["run"] for row in rows(copy / "tiny_study/seeds.csv"))
    shutil.rmtree(copy / "runs" / key)
    assert cli.main(["study", STUDY, f"--workdir={copy}", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("# 8:2, seed 0: 32 pairs, ") and said[0].endswith(" h")
    assert f"--workdir={copy}/runs/{key}/run" in said[1] and "--config.loss.long_weight=0.8" in said[1]
    assert f"--checkpoint={copy}/runs/{key}/run" in said[2]
    assert said[3].startswith("# 4 trainings, 3 of them finished; left: 32 pairs, ")
    assert cli.main(["study", STUDY, f"--workdir={copy}", "--dry-run", "--chip=H100-SXM"]) == 0
    assert "at least, on one H100 SXM" in capsys.readouterr().out
    assert calls() == []


def test_a_workdir_of_something_else_is_refused(finished, tmp_path):
    run = next((finished[0] / "runs").glob("*/run"))
    for workdir, message in ((run, "holds other files"), (finished[0] / "tiny_study", "holds other files")):
        with pytest.raises(InputError, match=message):
            cli.main(["study", STUDY, f"--workdir={workdir}"])
    with pytest.raises(InputError, match=r"holds another study of this name \(epochs: 0.8 -> 0.4\)"):
        cli.main(["study", STUDY, f"--workdir={finished[0]}", "--", "--config.epochs=0.4"])


@pytest.mark.exhaustive
def test_killed_and_started_again_it_ends_with_the_same_scores(finished, tmp_path):
    """In processes of its own; killed while the second run trains, then interrupted, then finished."""
    words = [sys.executable, "-m", "lrsclip_jax", "study", STUDY, f"--workdir={tmp_path / 'w'}", "--seeds=1"]

    def started(until: str) -> subprocess.Popen:
        process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 240
        while len(list((tmp_path / "w").glob(until))) < 1:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        return process

    process = started("runs/*/run/checkpoints/2")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    process = started("runs/*/scores/*.npz")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.endswith("interrupted\n") and "Traceback" not in said
    assert subprocess.run(words, stderr=subprocess.PIPE).returncode == 0
    expected = {name: value for name, value in scores(finished[0]).items() if name[1] == "0"}
    assert scores(tmp_path / "w") == expected
