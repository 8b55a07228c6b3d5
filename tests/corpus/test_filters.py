"""The filters of a recipe: what happens to a corpus that is built again with others, and what is refused."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from eval.embeddings import write_set
from lrsclip_jax.corpus.build import build
from lrsclip_jax.corpus.recipe_config import defaults, source, subset
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.stages.filters import planned_filters
from lrsclip_jax.corpus.stages.stage import set_aside
from lrsclip_jax.errors import InputError

IMAGES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six captioned images in a.jsonl and two more in b.jsonl, and a test set with a copy of the last of a.jsonl."""
    folder = tmp_path_factory.mktemp("filters")
    rng = np.random.default_rng(0)
    (folder / "tests").mkdir()
    for name, numbers in {"a": range(IMAGES), "b": range(IMAGES, IMAGES + 2)}.items():
        rows = []
        for n in numbers:
            Image.fromarray(rng.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(folder / f"{n}.png")
            rows.append({"image": f"{n}.png", "short": [f"image {n}" + " of a very small pond" * (n % 3)]})
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Image.open(folder / f"{IMAGES - 1}.png").resize((60, 60)).save(folder / "tests" / "copy.png")
    Image.fromarray(rng.integers(256, size=(40, 40, 3), dtype=np.uint8)).save(folder / "tests" / "other.png")
    return folder


def recipe(folder, *names):
    config = defaults()
    config.subsets = tuple(subset(name, "as-is", source("captions", f"{folder}/{name}.jsonl")) for name in names)
    config.leakage.Pond = str(folder / "tests")
    config.allow_unknown_licences = True
    return config


def ids(place):
    return [record.id for record in store.read(place)]


def written(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("part-*")}


@pytest.fixture(scope="module")
def first(folder):
    """A corpus of a.jsonl, and an embedding set of it in which the cosine of image n and its text is n / 10."""
    out = folder / "first"
    build(recipe(folder, "a"), out)
    made = ids(out / "corpus")
    cosines = np.arange(len(made)) / 10
    of_text = [{"text": "t", "kind": "short", "image": name} for name in made]
    write_set(
        folder / "set",
        {"model": "m", "dataset": "a", "features": "projected"},
        np.tile([1.0, 0.0], (len(made), 1)),
        np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1),
        [{"id": name} for name in made],
        of_text,
    )
    return out


def test_leaks_are_told_in_a_file_and_on_the_page_and_survive_a_stop(folder, first, tmp_path):
    said = json.loads((first / "leakage.json").read_text())
    assert said.pop("crc32")
    [example] = said["Pond"].pop("examples")
    assert said == {"Pond": {"images": 2, "images_leaked": 1, "records_removed": 1}}
    paths = [folder / f"{IMAGES - 1}.png", folder / "tests" / "copy.png"]
    assert [example["record_image"], example["image"]] == list(map(str, paths)) and example["distance"] <= 8
    page = (first / "statistics.html").read_text()
    assert (
        re.search(r"<h2[^>]*>Leakage\b", page) and page.count("data:image/jpeg") == 1 and "and copy.png: hashes" in page
    )
    assert ids(first / "corpus") == [f"a/{n}.png" for n in range(IMAGES - 1)]

    shutil.copytree(first, tmp_path / "out")
    done = [tmp_path / "out" / name / ".done.json" for name in ("filters/2-leakage", "filters/3-texts", "corpus")]
    for path in done:  # as if it had been killed behind its last record
        path.unlink()
    build(recipe(folder, "a"), tmp_path / "out")
    assert all(path.exists() for path in done) and not (tmp_path / "out" / "earlier").exists()
    assert (tmp_path / "out" / "leakage.json").read_text() == (first / "leakage.json").read_text()


def test_other_filters_make_again_what_follows_and_keep_what_was(folder, first, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(first, out, copy_function=shutil.copy2)
    before = {path: time for path, time in written(out).items() if path.parent.name != "corpus"}
    config = recipe(folder, "a")
    config.clip_score.embeddings, config.clip_score.top = str(folder / "set"), 0.4
    for _ in range(2):  # the second time nothing is made
        build(config, out)
        assert ids(out / "corpus") == ["a/3.png", "a/4.png"]
        assert ids(out / "earlier/1/corpus") == ids(first / "corpus") and not (out / "earlier/2").exists()
        assert before.items() <= written(out).items()
    assert (out / "earlier/1/statistics.html").read_text() == (first / "statistics.html").read_text()
    assert f"{out}/corpus: made of other records; {out}/earlier/1 keeps it" in capsys.readouterr().out

    config = recipe(folder, "a", "b")  # two records more, and other filters from the third on
    config.leakage = {}
    config.balance.by, config.balance.edges, config.balance.limit = "length", (6, 12), 1
    build(config, out)
    assert sorted(path.name for path in (out / "filters").iterdir()) == [
        *("0-images", "1-duplicates", "2-texts", "3-balance")
    ]
    assert len(ids(out / "filters/2-texts")) == 8 and len(ids(out / "corpus")) == 3
    assert ids(out / "earlier/2/filters/4-clip_score") == ids(out / "earlier/2/corpus") == ["a/3.png", "a/4.png"]
    assert not (out / "leakage.json").exists() and (out / "earlier/2/leakage.json").exists()
    assert {path for path in written(out) if "subsets/a" in str(path)} < set(before)


def test_a_subset_that_was_made_otherwise_is_refused_and_follows_what_was_taken_away(folder, first, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(first, out)
    config = recipe(folder, "b")
    config.subsets = ({**config.subsets[0], "name": "a"},)
    with pytest.raises(InputError, match="0-read was made with other sources: choose another --out, or delete"):
        build(config, out)
    shutil.rmtree(out / "subsets/a/0-read")
    build(config, out)
    assert ids(out / "corpus") == ["a/6.png", "a/7.png"]
    assert ids(out / "earlier/1/corpus") == ids(first / "corpus")


def test_where_no_record_is_left_the_last_reason_is_told(folder, first, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(first, out)
    config = recipe(folder, "a")
    config.clip_score.embeddings, config.clip_score.least = str(folder / "set"), 0.9
    with pytest.raises(InputError, match=r"4-clip_score: no record is left, 5 are set aside, .*0\.9000 is asked for"):
        build(config, out)
    assert len(list(set_aside(out / "filters/4-clip_score"))) == 5


@pytest.mark.slow
def test_ray_builds_the_same_corpus(folder, first, tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    config = recipe(folder, "a", "b")
    config.clip_score.embeddings, config.clip_score.least = str(folder / "set"), 0.2
    config.texts.uses, config.balance.limit, config.balance.by = 1, 1, "length"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        build(config, tmp_path / "ray", "ray")
    finally:
        ray.shutdown()
    build(config, tmp_path / "local")
    stages = [path.parent.relative_to(tmp_path / "local") for path in (tmp_path / "local").rglob(".settings.json")]
    assert len(stages) == 2 + 7 + 1
    for name in stages:
        for file in (".set_aside.jsonl", ".settings.json", ".done.json"):  # these hold the digests of the records
            assert (tmp_path / "ray" / name / file).read_text() == (tmp_path / "local" / name / file).read_text()
    assert (tmp_path / "ray/leakage.json").read_text() == (tmp_path / "local/leakage.json").read_text()
    assert 0 < len(ids(tmp_path / "ray/corpus")) < 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"duplicates": "fuzzy"}, "config.duplicates is 'fuzzy': expected 'perceptual', 'exact' or None"),
        ({"duplicate_distance": 65}, "a distance of 65 bits"),
        ({"leakage_distance": -1}, "a distance of -1 bits"),
        ({"leakage.Lake": "nowhere"}, "nowhere: no images in it"),
        ({"images.uniform": 2.0}, "a uniform share of 2.0"),
        ({"texts.short": (3,)}, r"config.texts.short is \(3,\): expected \(least, most\) CLIP tokens"),
        ({"texts.long": (9, 7)}, "long captions of 9 to 7 tokens"),
        ({"texts.uses": 0}, "a caption at most 0 times"),
        ({"texts.uses": "all"}, "config.texts.uses is 'all': expected a number"),
        ({"texts.uses": 1, "texts.similarity": 0.0}, "a similarity of 0"),
        ({"balance.limit": 2, "balance.by": "lenght"}, "'lenght': expected label or source or length"),
        ({"balance.limit": 2, "balance.by": "length", "balance.edges": (8, 5)}, "8, 5: expected ascending"),
        ({"balance.limit": True}, "config.balance.limit is True: expected a number"),
        ({"clip_score.embeddings": "nowhere", "clip_score.top": 0.5}, "nowhere: no finished embedding set"),
        ({"clip_score.embeddings": "nowhere"}, "choose one of a share of the best CLIP scores"),
        (
            {"clip_score.embeddings": "nowhere", "clip_score.least": "0.x"},
            "least is '0.x': expected a number",
        ),
    ],
)
def test_a_bad_value_is_one_line_before_any_work(folder, values, message):
    config = recipe(folder, "a")
    with config.unlocked():
        config.update_from_flattened_dict(values)
    with pytest.raises(InputError, match=message):
        planned_filters(config)
