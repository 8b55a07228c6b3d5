"""The study files that ship: both sizes are sound configs, and their rows are those of the paper's tables."""

import re
from pathlib import Path

import pytest

from lrsclip_jax import cli
from lrsclip_jax.config import recipes
from lrsclip_jax.errors import InputError
from lrsclip_jax.studies import study_file, trainings
from lrsclip_jax.studies.study import published

NAMES = sorted(path.stem for path in (recipes.shipped()[1] / "studies").glob("[!_]*.py"))


def test_each_ablation_of_the_paper_has_a_study():
    tables = {study_file.load(name)[1].table for name in NAMES}
    labels = ("fig7", "fig8", "VI", "VII", "fig9", "VIII", "fig10", "IX")
    assert tables == {*(f"lrsclip:{label}" for label in labels), ""}  # KPS has no published table


def test_the_help_names_every_study(capsys):
    with pytest.raises(SystemExit):
        cli.main(["study", "--help"])
    listed = capsys.readouterr().out.partition("\nstudies:\n")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"(\w+) \(", listed)) == NAMES


@pytest.mark.parametrize("size", ["", ":/data"])
@pytest.mark.parametrize("name", NAMES)
def test_its_trainings_are_sound_and_differ(name, size):
    found, study = study_file.load(name + size)
    plan = trainings.planned(found, study, name)
    keys = [cell.training.key for cell in plan.cells]
    assert len(set(keys)) == len(keys) == 3 * len(study.variants)
    assert study.claims


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_size_has_every_row_of_the_table(name):
    _, study = study_file.load(f"{name}:/data")
    if table := published(study):
        rows = [{head: row.heads[head] for head in table.heads} for row in table.rows]
        ours = [dict(variant.heads) for variant in study.variants]
        assert [row for row in rows if row not in ours] == []


def test_studies_share_the_run_of_the_papers_recipe():
    def keys(name):
        found, study = study_file.load(f"{name}:/data")
        return {cell.training.key for cell in trainings.planned(found, study, name).cells}

    shared = keys("loss_weights") & keys("pcm") & keys("text_kinds") & keys("first_sentence") & keys("batch_size")
    assert len(shared) == 3  # a seed each


def test_a_study_is_found_by_name_from_any_folder_and_a_wrong_name_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study_file.load("pcm")[0] == "pcm"
    with pytest.raises(InputError, match="no study pmc, did you mean 'pcm'"):
        study_file.load("pmc")
    Path("mine.py").write_text("def get_study():\n    return 3\n")
    with pytest.raises(InputError, match=r"mine: mine.py, line 1: get_study\(\) returns 3, it must end with"):
        study_file.load("mine")
