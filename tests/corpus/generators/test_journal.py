import json
from dataclasses import replace

import pytest

from lrsclip_jax.corpus.generators.encoded_images import RSCLIP_FIT
from lrsclip_jax.corpus.generators.journal import Journal, fingerprint, read
from lrsclip_jax.corpus.generators.protocol import Answer, Request, Server
from lrsclip_jax.errors import InputError

SERVER = Server("http://localhost:1/v1", "model")
REQUEST = Request("id/short", "Describe", "a.jpg")
DIGEST = fingerprint(REQUEST, SERVER)
ANSWERS = [Answer("häfen\n\ud800 …", 10, 3, 0.5), Answer("a port", 10, 2, 0.25, truncated=True)]


def written(path):
    with Journal(path) as journal:
        for answer in ANSWERS:
            journal.add(REQUEST, DIGEST, "model", answer, "refusal" if answer is ANSWERS[0] else None)
    return path


def test_answers_come_back_in_order(tmp_path):
    path = written(tmp_path / "new" / "journal.jsonl")
    with Journal(path) as journal:
        assert journal.answers(DIGEST) == ANSWERS
        assert journal.answers(fingerprint(REQUEST, replace(SERVER, model="other"))) == []
    assert [(row["key"], row["model"], row["reason"]) for row in read(path)] == [
        ("id/short", "model", "refusal"),
        ("id/short", "model", None),
    ]


def test_cut_at_any_byte_only_the_torn_line_is_lost(tmp_path):
    data = written(tmp_path / "whole").read_bytes()
    path = tmp_path / "torn"
    for size in [0, 1, *range(data.index(b"\n"), len(data) + 1)]:
        path.write_bytes(data[:size])
        whole = data[:size].count(b"\n")
        assert len(list(read(path))) == whole
        with Journal(path) as journal:
            assert journal.answers(DIGEST) == ANSWERS[:whole]
            if size == len(data) - 1:
                journal.add(REQUEST, DIGEST, "model", ANSWERS[1], None)
    assert path.read_bytes() == data


def test_what_an_answer_depends_on():
    same = [replace(SERVER, base_url="https://elsewhere/v1"), replace(SERVER, concurrency=2, per_minute=3, retries=0)]
    assert all(fingerprint(REQUEST, server) == DIGEST for server in same)
    others = [
        *[(replace(REQUEST, **change), SERVER) for change in ({"key": "b"}, {"prompt": "b"}, {"image": "b"})],
        (replace(REQUEST, system="b"), SERVER),
        *[(REQUEST, replace(SERVER, **change)) for change in ({"model": "b"}, {"seed": 1}, {"temperature": 1.0})],
        (REQUEST, replace(SERVER, max_tokens=5)),
        (REQUEST, replace(SERVER, fit=RSCLIP_FIT)),
    ]
    assert len({DIGEST, *(fingerprint(*pair) for pair in others)}) == 1 + len(others)
    text = replace(REQUEST, image=None)
    assert fingerprint(text, SERVER) == fingerprint(text, replace(SERVER, fit=RSCLIP_FIT))


def test_a_line_that_is_no_answer_is_named(tmp_path):
    path = written(tmp_path / "journal.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    for line in (b"{}\n", b"\n", b"[1]\n", json.dumps({"fingerprint": "xy"}).encode() + b"\n"):
        path.write_bytes(b"".join([lines[0], line, lines[1]]))
        with pytest.raises(InputError, match="journal.jsonl, line 2: no answer"):
            Journal(path)
        with pytest.raises(InputError, match="journal.jsonl, line 2: no answer"):
            list(read(path))
    assert path.read_bytes() == b"".join([lines[0], line, lines[1]])
    with pytest.raises(InputError, match="none.jsonl: can't be read"):
        list(read(tmp_path / "none.jsonl"))


def test_one_process_writes_at_a_time(tmp_path):
    with Journal(tmp_path / "journal.jsonl"):
        with pytest.raises(InputError, match="another process is writing"):
            Journal(tmp_path / "journal.jsonl")
    Journal(tmp_path / "journal.jsonl").__exit__(None, None, None)
