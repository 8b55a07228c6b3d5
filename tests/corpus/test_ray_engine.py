"""Ray is optional and not in CI: these tests are skipped where it is not installed."""

import functools
import itertools
import os
import socket
import sys
import time
from dataclasses import replace

import pytest
from PIL import Image

from lrsclip_jax.corpus.hygiene.caption_checks import bound_captions
from lrsclip_jax.corpus.hygiene.image_checks import check_images
from lrsclip_jax.corpus.hygiene.leakage import Leak
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, Step
from lrsclip_jax.corpus.rules import caption_by_rules
from lrsclip_jax.corpus.stages import tiles
from lrsclip_jax.corpus.stages.ray_engine import run_stage_on_ray
from lrsclip_jax.corpus.stages.stage import run_stage, set_aside
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

RECORDS, PART = 300, 40
STAGES = {
    "rules": functools.partial(caption_by_rules, seed=3),
    "images": functools.partial(check_images, min_side=32, uniform=0.98),
    "texts": functools.partial(bound_captions, short=(3, 12), long=(20, 60)),
}


@pytest.fixture(scope="module")
def ray():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = pytest.importorskip("ray", reason="Ray is not installed")
    found.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    found.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no tests/ to import from
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of 300 records in eight parts, some of which each stage sets aside."""
    folder = tmp_path_factory.mktemp("source")
    for name, size in {"whole": 48, "small": 16}.items():
        Image.radial_gradient("L").resize((size, size)).save(folder / f"{name}.png")
    (folder / "torn.png").write_bytes((folder / "whole.png").read_bytes()[:200])
    return in_parts((record(n, folder) for n in range(RECORDS)), folder / "0-read")


def record(n, folder):
    image = "torn" if n % 31 == 7 else "small" if n % 23 == 5 else "whole"
    x, y = n % 30, n % 17
    corners = ((x, y), (x + 9.5, y), (x + 4, y + 8.25))
    things = (Thing("small-vehicle", (x, y, x + 9.5, y + 8.25), corners), Thing("tree", (2, 3, 11, 14))) * (n % 3)
    return CorpusRecord(
        f"r{n:03d}",
        str(folder / f"{image}.png"),
        "S",
        short=("A café, seen from above.",) if n % 7 == 0 else (),
        things=things,
        label="harbour" if n % 13 else None,
        width=48,
        height=48,
        split="train" if n % 2 else None,
        provenance=(Step("read", "S", f"row {n}"),),
    )


def in_parts(records, folder, size=PART):
    """Writes records as parts of `size`: each is a task."""
    with store.Writer(folder, size) as written:
        for record in records:
            written.write(record)
    return folder


def same(folder, other):
    return list(store.read(folder)) == list(store.read(other)) and [*set_aside(folder)] == [*set_aside(other)]


@pytest.mark.slow
def test_two_workers_make_what_one_process_makes(ray, source, tmp_path):
    for name, stage in STAGES.items():
        local, spread = tmp_path / "local" / name, tmp_path / "ray" / name
        counts = run_stage(local, functools.partial(store.read, source), stage, {"seed": 3})
        assert run_stage_on_ray(spread, [source], stage, {"seed": 3}, workers=2) == counts
        assert same(spread, local)
        assert counts["kept"] > 200 and counts["set aside"] > 5  # both kinds are compared
        source = in_parts(store.read(local), tmp_path / "parts" / name)
    details = [step.detail for record in store.read(spread) for step in record.provenance]
    assert "1 of" in " ".join(details)  # some have lost a text


def overtaken(records, place):
    """Says which process made a record; the first part waits until three others are done."""
    made = [replace(record, provenance=(Step("made", str(os.getpid())),)) for record in records]
    end = time.monotonic() + 60
    while made[0].id == "r000" and len(list(place.iterdir())) < 3:
        assert time.monotonic() < end, "nobody else works"
        time.sleep(0.02)
    (place / made[0].id).touch()
    yield from made


@pytest.mark.slow
def test_order_is_kept_when_another_worker_is_faster(ray, source, tmp_path):
    (tmp_path / "done").mkdir()
    run_stage_on_ray(tmp_path / "s", [source], functools.partial(overtaken, place=tmp_path / "done"), {}, workers=2)
    made = list(store.read(tmp_path / "s"))
    assert [record.id for record in made] == [record.id for record in store.read(source)]
    pids = [record.provenance[0].by for record in made]
    assert len(set(pids)) >= 2 and str(os.getpid()) not in pids


def noted(records, seen, stop=None):
    """Notes each record that it is given, and is ended before the one called `stop`."""
    for record in records:
        if record.id == stop:
            raise KeyboardInterrupt
        (seen / record.id).touch(exist_ok=False)
        leak = Leak(record.id, "noted", "of five", "test", "t.png", 5, record.image)
        yield leak if int(record.id[1:]) % 5 == 0 else record


@pytest.mark.slow
def test_ray_goes_on_where_the_local_engine_was_stopped(ray, source, tmp_path):
    (tmp_path / "seen").mkdir()
    records = functools.partial(store.read, source)
    stage = functools.partial(noted, seen=tmp_path / "seen")
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "s", records, functools.partial(stage, stop="r130"), {})
    assert len(list((tmp_path / "seen").iterdir())) == 130
    counts = run_stage_on_ray(tmp_path / "s", [source], stage, {}, workers=2)  # noting one again would fail
    assert counts == {"read": RECORDS, "kept": 240, "set aside": 60}
    (tmp_path / "again").mkdir()
    run_stage(tmp_path / "local", records, functools.partial(noted, seen=tmp_path / "again"), {})
    assert same(tmp_path / "s", tmp_path / "local") and [*set_aside(tmp_path / "s")][-1]["distance"] == 5


@pytest.mark.slow
def test_two_folders_and_a_stage_that_makes_many_of_one(ray, source, tmp_path):
    cut = functools.partial(tiles.cut, size=24, out=tmp_path / "tiles")
    few = [in_parts(itertools.islice(store.read(source), n, n + 5), tmp_path / f"{n}", 2) for n in (0, 5)]
    counts = run_stage_on_ray(tmp_path / "ray", few, cut, {}, workers=2)
    records = itertools.chain.from_iterable(map(store.read, few))
    assert counts == run_stage(tmp_path / "local", lambda: records, cut, {})
    assert counts["read"] == 10 and counts["kept"] > 30 and same(tmp_path / "ray", tmp_path / "local")


def refusing(records):
    for record in records:
        if record.id == "r060":
            raise InputError("references: no images in it")
        yield record


@pytest.mark.slow
def test_an_error_of_the_stage_is_one_line_and_what_is_done_stays(ray, source, tmp_path):
    with pytest.raises(InputError, match="^references: no images in it$"):
        run_stage_on_ray(tmp_path / "s", [source], refusing, {})
    assert list(store.read(tmp_path / "s")) == list(store.read(source))[:60]
    assert run_stage_on_ray(tmp_path / "s", [source], iter, {}) == {"read": RECORDS, "kept": RECORDS, "set aside": 0}
    assert same(tmp_path / "s", source)


@pytest.mark.slow
def test_no_cluster_at_the_address_is_one_line_at_once(source, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and not listening
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match=f"^no Ray cluster at {address}: .*refused$"):
            run_stage_on_ray(tmp_path / "s", [source], iter, {})


def test_without_ray_a_line_says_what_to_install(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"^--engine=ray needs Ray: pip install 'lrsclip_jax\[ray\]'$"):
        run_stage_on_ray(tmp_path / "s", [source], iter, {})
