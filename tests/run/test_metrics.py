"""metrics.jsonl: rows come back as they were written, and damage costs the line that it is in, and is named."""

import io
import json
import math
import os
import struct

import numpy as np
import pytest
from etils import epath
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from lrsclip_jax.errors import InputError
from lrsclip_jax.run.metrics import MetricWriter, has_scores, read_metrics
from lrsclip_jax.run.tensorboard import EventFile


def written(folder, steps=range(10, 60, 10), tensorboard=False):
    """Metrics of a few steps, and the rows that were written."""
    rng = np.random.default_rng(0)
    writer = MetricWriter(
        epath.Path(folder), 0, [EventFile(epath.Path(folder) / "tensorboard", 1)] if tensorboard else []
    )
    rows = [{"step": step, "loss": rng.normal(), "logit_scale": 14.28, "text_tokens": 300.0} for step in steps]
    rows[1]["loss"] = math.nan
    for row in rows:
        writer.write(row["step"], {name: value for name, value in row.items() if name != "step"})
    return rows


def same(found, expected):
    return json.dumps(found) == json.dumps(expected)  # NaN and all


def test_rows_come_back_and_other_readers_see_them(tmp_path):
    rows = written(tmp_path)
    assert same(read_metrics(tmp_path), rows)
    file = tmp_path / "metrics.jsonl"
    plain = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row.pop("crc32") for row in plain] and same(plain, rows)
    pandas = pytest.importorskip("pandas")
    table = pandas.read_json(io.StringIO(file.read_text()), lines=True)
    assert table.step.tolist() == [10, 20, 30, 40, 50] and math.isnan(table.loss[1])


def test_one_bad_byte_costs_one_line_which_stays_and_is_named(tmp_path, capsys):
    rows = written(tmp_path)
    file = tmp_path / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[2] = lines[2][:9] + b"\xff" + lines[2][10:]
    file.write_bytes(b"\n".join(lines))
    assert same(read_metrics(tmp_path), rows[:2] + rows[3:])
    assert f"note: {file}, line 3: damaged" in capsys.readouterr().err
    MetricWriter(epath.Path(tmp_path), 40).write(50, {"loss": 1.0})
    assert f"{file}, line 3: damaged" in capsys.readouterr().err
    found = file.read_bytes().split(b"\n")
    assert found[:4] == lines[:4] and json.loads(found[4])["loss"] == 1.0 and len(found) == 6


def test_damage_after_the_last_step_that_counts_goes_with_the_rows_there(tmp_path, capsys):
    written(tmp_path)
    file = tmp_path / "metrics.jsonl"
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([*lines[:3], lines[3].replace(b"loss", b"lose"), lines[4], b""]))
    MetricWriter(epath.Path(tmp_path), 20)
    assert file.read_bytes().split(b"\n") == [*lines[:2], b""] and capsys.readouterr().err == ""


def test_every_flipped_bit_is_named_or_harmless_and_costs_no_other_row(tmp_path, capsys):
    rows = written(tmp_path)
    file, rng = tmp_path / "metrics.jsonl", np.random.default_rng(1)
    kept = file.read_bytes()
    ends = [8 * at + bit for at, byte in enumerate(kept) if byte == ord("\n") for bit in range(8)]
    for at in [*ends, *rng.choice(8 * len(kept), 300, replace=False)]:
        damaged = bytearray(kept)
        damaged[at // 8] ^= 1 << at % 8
        file.write_bytes(damaged)
        found, said = read_metrics(tmp_path), capsys.readouterr().err
        if not said:
            assert same(found, rows)
            continue
        missing = kept[: at // 8].count(b"\n")
        assert same(found, rows[:missing] + rows[missing + 1 :]) and f"line {missing + 1}: " in said


@pytest.mark.parametrize("cut", [1, 2, 30, 70])
def test_a_last_line_that_a_kill_cut_off_is_left_out(tmp_path, capsys, cut):
    rows = written(tmp_path)
    os.truncate(tmp_path / "metrics.jsonl", (tmp_path / "metrics.jsonl").stat().st_size - cut)
    assert same(read_metrics(tmp_path), rows if cut == 1 else rows[:-1])
    assert capsys.readouterr().err == ""


def test_rows_of_older_versions_have_no_checksum_and_count(tmp_path):
    file = tmp_path / "metrics.jsonl"
    old = ['{"step": 4, "loss": NaN}', '{"step": 4, "eval/set/long/mean_recall": 50}']
    file.write_text("\n".join(old) + "\n")
    assert has_scores(epath.Path(tmp_path), 4) and not has_scores(epath.Path(tmp_path), 5)
    MetricWriter(epath.Path(tmp_path), 4).write(8, {"loss": 0.5})
    assert file.read_text().splitlines()[:2] == old
    assert [row["step"] for row in read_metrics(tmp_path)] == [4, 4, 8]


@pytest.mark.parametrize(
    "line", ['["step", 3]', '{"loss": 1.0}', '{"step": "3"}', '{"step": 3, "loss": "low"}', "[" * 9999]
)
def test_what_is_no_row_is_named(tmp_path, capsys, line):
    (tmp_path / "metrics.jsonl").write_text(f'{line}\n{{"step": 5}}\n')
    assert read_metrics(tmp_path) == [{"step": 5}]
    assert capsys.readouterr().err.startswith(f"note: {tmp_path}/metrics.jsonl, line 1: ")


def test_a_folder_in_its_place_is_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match="metrics.jsonl can't be read: Is a directory"):
        read_metrics(tmp_path)


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_tensorboard_is_told_the_same(tmp_path):
    rows = written(tmp_path, tensorboard=True)
    [file] = (tmp_path / "tensorboard").iterdir()
    data, events = file.read_bytes(), []
    while data:  # TFRecord: length, its masked CRC-32C, the event, its masked CRC-32C
        (length, of_length) = struct.unpack("<QI", data[:12])
        body, (of_body,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length : 16 + length])
        assert of_length == masked(data[:8]) and of_body == masked(body)
        events.append(Event.FromString(body))
        data = data[16 + length :]
    assert events[0].file_version == "brain.Event:2" and events[1].session_log.status == 1
    assert [event.step for event in events] == [1, 1, 10, 20, 30, 40, 50]
    told = {value.tag: value.simple_value for value in events[2].summary.value}
    assert told.keys() | {"step"} == rows[0].keys() and told["loss"] == np.float32(rows[0]["loss"])
