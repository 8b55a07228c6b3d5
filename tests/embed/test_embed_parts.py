"""State files of an unfinished embedding set: damaged parts are made again, a damaged plan is named."""

import numpy as np
import pytest
from bad_files import NO_JSON, refused, unreadable

from lrsclip_jax.embed import parts

SPAN = range(4, 8)
PLAN = {"model": "m", "checkpoint": "runs/m"}


@pytest.fixture
def part(tmp_path):
    path = tmp_path / parts.FOLDER / "images-000000004.npz"
    path.parent.mkdir()
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    parts.save(path, rows=rows, kept=[4, 6, 7], unusable=[5], reasons=np.array(["torn"], np.str_))
    return path


def test_a_part_comes_back_as_it_was_saved_and_belongs_to_its_rows(part, capsys):
    found = parts.load(part)
    assert found["kept"].tolist() == [4, 6, 7] and found["reasons"].tolist() == ["torn"]
    assert found["rows"].dtype == np.float32 and found["rows"].shape == (3, 2)
    assert parts.is_done(part, SPAN)
    for other in (range(4), range(4, 9), range(4, 7)):
        assert not parts.is_done(part, other)
        assert "holds other rows than" in capsys.readouterr().err
    assert not parts.is_done(part.with_name("images-000000000.npz"), SPAN) and not capsys.readouterr().err


def test_parts_without_rows_and_parts_of_texts_are_sound(tmp_path):
    none = tmp_path / "images-000000000.npz"
    parts.save(none, rows=np.zeros((0, 2), np.float32), kept=[], unusable=[0, 1], reasons=np.array(["a", "b"]))
    assert parts.is_done(none, range(2))
    texts = tmp_path / "texts-000000000.npz"
    parts.save(texts, rows=np.ones((2, 2), np.float32), kept=range(2), length=[3, 9])
    assert parts.is_done(texts, range(2)) and parts.load(texts)["length"].tolist() == [3, 9]


def test_a_flipped_bit_of_a_part_is_noticed_or_changes_nothing(part, capsys):
    content, sound = part.read_bytes(), parts.load(part)
    noticed = 0
    for bit in np.random.default_rng(0).integers(8 * len(content), size=200).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        part.write_bytes(damaged)
        if parts.is_done(part, SPAN):
            for name, array in parts.load(part).items():
                np.testing.assert_array_equal(array, sound[name])
        else:
            noticed += 1
            (line,) = capsys.readouterr().err.splitlines()
            assert str(part) in line and line.endswith("it is made again")
    assert noticed > 50


def test_what_is_no_part_at_all_is_made_again(part, capsys):
    for content in (b"", part.read_bytes()[:100], *NO_JSON.values()):
        part.write_bytes(content)
        assert not parts.is_done(part, SPAN)
    part.unlink()
    part.symlink_to(part.with_name("gone"))
    assert not parts.is_done(part, SPAN)
    assert all("made again" in line for line in capsys.readouterr().err.splitlines())


def test_a_damaged_plan_is_mended_from_its_copy(part, tmp_path, capsys):
    parts.claim(tmp_path, PLAN)
    plan = tmp_path / parts.FOLDER / "plan.json"
    sound = plan.read_bytes()
    for damaged in (b"", sound[:20], sound.replace(b"runs/m", b"runs/n")):
        plan.write_bytes(damaged)
        parts.claim(tmp_path, PLAN)
        assert capsys.readouterr().err.endswith("; its copy is taken\n")
        assert plan.read_bytes() == plan.with_name("plan-copy.json").read_bytes() == sound
    plan.with_name("plan-copy.json").unlink()  # older versions made none
    parts.claim(tmp_path, PLAN)
    refused(lambda: parts.claim(tmp_path, PLAN | {"model": "n"}), "was begun with other model")
    assert part.exists() and capsys.readouterr().err == ""


def test_a_damaged_plan_is_named_and_what_was_finished_stays(part, tmp_path):
    parts.claim(tmp_path, PLAN)
    plan = tmp_path / parts.FOLDER / "plan.json"
    plan.with_name("plan-copy.json").unlink()
    before = part.read_bytes()
    for _ in unreadable(plan):
        refused(lambda: parts.claim(tmp_path, PLAN), str(plan), f"delete {plan.parent}, and the set is begun again")
    for other in (b"[]", b"null", b"3", b'"x"'):
        plan.write_bytes(other)
        refused(lambda: parts.claim(tmp_path, PLAN), str(plan))
    plan.write_text('{"model": ["m"], "checkpoint": {}}')
    refused(lambda: parts.claim(tmp_path, PLAN), "was begun with other checkpoint, model")
    assert part.read_bytes() == before
