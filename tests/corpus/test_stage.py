import pytest

from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.stages.stage import run_stage, set_aside
from lrsclip_jax.errors import InputError

RECORDS = [CorpusRecord(f"{n:02d}", f"{n}.jpg", "s") for n in range(12)]


def without_threes(records, seen=None, stop=None):
    for number, record in enumerate(records):
        if stop is not None and number == stop:
            raise KeyboardInterrupt
        if seen is not None:
            seen.append(record.id)
        if int(record.id) % 3 == 0:
            yield SetAside(record.id, "threes", "a multiple of three")
        else:
            yield record


def test_a_stage_writes_records_and_sets_others_aside(tmp_path):
    source = [*RECORDS, SetAside("x", "read", "torn")]
    counts = run_stage(tmp_path / "s", lambda: source, without_threes, {"of": 3})
    assert counts == {"read": 13, "kept": 8, "set aside": 5}
    assert [record.id for record in store.read(tmp_path / "s")] == [r.id for r in RECORDS if int(r.id) % 3]
    assert [row["id"] for row in set_aside(tmp_path / "s")] == ["00", "03", "06", "09", "x"]
    again = run_stage(tmp_path / "s", lambda: pytest.fail("it is done"), without_threes, {"of": 3})
    assert again == counts


@pytest.mark.parametrize("torn", [False, True])
def test_a_stopped_stage_goes_on_with_what_is_missing(tmp_path, torn):
    folder, seen = tmp_path / "s", []
    with pytest.raises(KeyboardInterrupt):
        run_stage(folder, lambda: RECORDS, lambda records: without_threes(records, seen, stop=7), {})
    if torn:
        with open(folder / ".set_aside.jsonl", "a") as file:
            file.write('{"id": "09", "sta')
    counts = run_stage(folder, lambda: RECORDS, lambda records: without_threes(records, seen), {})
    assert sorted(seen) == [record.id for record in RECORDS]  # each once
    assert counts["kept"] == 8 and [row["id"] for row in set_aside(folder)] == ["00", "03", "06", "09"]


def test_a_stage_that_looks_at_all_records_starts_again(tmp_path):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, lambda: RECORDS, lambda records: without_threes(records, stop=7), {}, one_by_one=False)
    run_stage(tmp_path, lambda: RECORDS, lambda records: without_threes(records, seen), {}, one_by_one=False)
    assert seen == [record.id for record in RECORDS] and store.count(tmp_path) == 8


def test_other_settings_are_another_stage(tmp_path):
    run_stage(tmp_path / "s", lambda: RECORDS, iter, {"of": 3, "kept": 1})
    with pytest.raises(InputError, match="made with other of: choose another --out, or delete"):
        run_stage(tmp_path / "s", lambda: RECORDS, iter, {"of": 4, "kept": 1})


def test_of_a_record_in_several_none_is_made_twice(tmp_path):
    def halves(records, stop=None):
        for number, record in enumerate(records):
            for half in "ab":
                if (number, half) == stop:
                    raise KeyboardInterrupt
                yield CorpusRecord(f"{record.id}/{half}", record.image, "s")

    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, lambda: RECORDS, lambda records: halves(records, stop=(4, "b")), {})
    assert run_stage(tmp_path, lambda: RECORDS, halves, {})["kept"] == 24
    assert len(store.ids(tmp_path)) == 24


def test_a_record_that_can_no_longer_be_made_stays_and_is_named(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, lambda: RECORDS, lambda records: without_threes(records, stop=7), {})
    changed = [SetAside("02", "read", "/images/2.jpg: torn"), *RECORDS[:2], *RECORDS[3:]]
    counts = run_stage(tmp_path, lambda: changed, without_threes, {})
    assert counts["kept"] == 8 and "02" in store.ids(tmp_path)
    said = "note: 02 was made before, and can't be made now: /images/2.jpg: torn"
    assert capsys.readouterr().err.splitlines() == [said]
