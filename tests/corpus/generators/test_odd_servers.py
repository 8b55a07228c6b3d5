"""Servers that answer anything: that record is set aside with its reason, and no key comes out anywhere."""

import asyncio
import gzip
import json
import re
from dataclasses import replace

import pytest
from chat_server import ChatServer, Reply

from eval.redaction import redacted
from lrsclip_jax.corpus.generators import client, completion
from lrsclip_jax.corpus.generators.answer_checks import check_short
from lrsclip_jax.corpus.generators.client import Caller, Failed
from lrsclip_jax.corpus.generators.completion import parse_completion
from lrsclip_jax.corpus.generators.encoded_images import Fit
from lrsclip_jax.corpus.generators.protocol import Request, Server
from lrsclip_jax.corpus.generators.request_queue import ask
from lrsclip_jax.errors import InputError

GOOD = {
    "choices": [{"message": {"role": "assistant", "content": "a river between green fields"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}
SECRET = "sk-0123456789"


def body_of(text):
    return json.dumps(content(text), ensure_ascii=False)


def content(value):
    return {**GOOD, "choices": [{"message": {"content": value}}]}


ODD = {
    "html": (b"<html>busy</html>", "not JSON"),
    "nothing": (b"", "empty, expected JSON"),
    "text": (b'"busy"', "expected an object, got text"),
    "list": (b"[1]", "expected an object, got a list"),
    "deep": (b"[" * 200_000, "got a list"),
    "deep in a field": (json.dumps({**GOOD, "x": 0}).replace("0", "[" * 100_000).encode(), "nested too deep"),
    "number": (content(5), "choices[0].message.content: "),
    "parts": (
        content([{"type": "text", "text": "a"}]),
        "choices[0].message.content: ",
    ),
    "usage of words": ({**GOOD, "usage": {"prompt_tokens": "many"}}, "usage.prompt_tokens: "),
    "usage below 0": ({**GOOD, "usage": {"prompt_tokens": -1}}, "usage.prompt_tokens: "),
    "usage of 5,000 digits": (json.dumps(GOOD).replace("1", "9" * 5000).encode(), "its answer"),
    "usage as number": ({**GOOD, "usage": 5}, "usage: "),
    "usage as text": ({**GOOD, "usage": "none"}, "usage: "),
    "choices as object": ({**GOOD, "choices": {"0": 1}}, "choices: expected a list, got an object"),
    "no choices": ({**GOOD, "choices": []}, "choices: "),
    "choices missing": ({"usage": None}, "choices"),
    "message as text": ({**GOOD, "choices": [{"message": "a river"}]}, "choices[0].message: expected an object"),
    "latin": (body_of("un fleuve près d'ici").encode("latin-1"), "not UTF-8"),
    "utf-16": (json.dumps(GOOD).encode("utf-16"), "not UTF-8"),
    "half a surrogate pair": (json.dumps(content("a \ud800 river")).encode(), "surrogate"),
    "torn": (json.dumps(GOOD).encode()[:-5], "not JSON"),
    "two values": (json.dumps(GOOD).encode() * 2, "not JSON"),
}


def server_of(url, **changes):
    return Server(url, "m", **{"retries": 0, "back_off_seconds": 0.001, "timeout_seconds": 60.0, **changes})


def call(server):
    async def once():
        caller = Caller(server)
        try:
            return await caller.answer(Request("k", "Describe the port"))
        finally:
            await caller.close()

    return asyncio.run(once())


def body(value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_a_reason_on_one_line(name):
    value, words = ODD[name]
    with pytest.raises(InputError, match=re.escape(words)):
        parse_completion(body(value))


def test_all_of_them_are_set_aside_and_the_others_have_their_answers(tmp_path):
    odd = list(ODD.values())

    def reply(call, before):
        number = int(call.prompt.split()[-1])
        return Reply(raw=body(odd[number // 2][0])) if number % 2 else Reply()

    requests = [Request(f"{n}/short", f"text {n}") for n in range(2 * len(odd))]
    with ChatServer(reply) as server:
        # Retries: a server may refuse one of many connections for a moment.
        outcomes = list(ask(requests, server_of(server.url, retries=5), tmp_path / "j", check_short()))
    assert [outcome.reasons for outcome in outcomes[::2] if not outcome.text] == []
    for outcome, (_, words) in zip(outcomes[1::2], odd, strict=True):
        assert outcome.text is None and outcome.asked == 0
        (reason,) = outcome.reasons
        assert reason.startswith("no chat completion: ") and words in reason and reason.isprintable()
    assert len((tmp_path / "j").read_text().splitlines()) == len(odd)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": 7, "of": {"cached": 1}}])
def test_what_servers_leave_out_or_add_is_no_fault(usage):
    answer = parse_completion(body({**GOOD, "usage": usage, "model": 5, "id": None}))
    assert answer.text == "a river between green fields" and answer.tokens_out == 0
    assert parse_completion(body(content(None))).text == ""
    assert parse_completion(b"\xef\xbb\xbf" + body(GOOD)).text == "a river between green fields"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(headers={"transfer-encoding": "chunked"}, raw=b"zz\r\nno size\r\n"), "connection lost"),
        (Reply(headers={"content-encoding": "gzip"}, raw=b"no gzip"), "compressed and torn"),
        (Reply(headers={"content-encoding": "gzip"}, raw=gzip.compress(bytes(9 << 20))), "more than 8,388,608 bytes"),
        (
            Reply(status=302, headers={"location": "http://u:p@127.0.0.1:9/x?key=abc"}),
            r"points to http://…@127\.0\.0\.1:9/x\?key=…\)",
        ),
        (Reply(status=418, raw=b"\x1b[2Jteapot \xff" * 1000), r"status 418 \(\\x1b\[2Jteapot"),
        (Reply(status=500, raw=b'{"error": ["odd"]}'), r'status 500 \(\{"error": \["odd"\]\}\)'),
        (Reply(status=500, raw=b'{"error": "busy"}'), r"status 500 \(busy\)"),
        (Reply(status=503, headers={"retry-after": "nan"}), r"status 503"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_comes_over_the_wire_is_bounded_and_goes_nowhere_else(reply, reason):
    with ChatServer(lambda *_: reply) as server, pytest.raises(Failed, match=reason) as failure:
        call(server_of(server.url))
    assert len(server.calls) == 1 and len(str(failure.value)) < 1000 and str(failure.value).isprintable()


def test_a_body_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(client, "LARGEST", 1000)
    assert completion.LARGEST == 8 << 20
    with ChatServer(lambda *_: Reply(text="x" * 10**6)) as server, pytest.raises(Failed, match="more than 1,000 bytes"):
        call(server_of(server.url))


def echoes(call, before):
    """Repeats all headers, in an answer or in an error."""
    said = " ".join(f"{name}: {value}" for name, value in call.headers.items())
    if "refused" in call.prompt:
        return Reply(status=(400, 500)["500" in call.prompt], message=said)
    return Reply(text=f"a river between green fields, as {said} says")


def headers(call):
    return {name.lower(): value for name, value in call.headers.items()}


def test_no_key_is_in_answers_journals_reasons_or_messages(monkeypatch, tmp_path):
    monkeypatch.setenv("ODD", SECRET)
    requests = [Request(name, f"text {name}") for name in ("good", "refused 400", "refused 500")]
    with ChatServer(echoes) as server:
        settings = server_of(server.url, key_variable="ODD")
        outcomes = list(ask(requests, settings, tmp_path / "j", lambda *_: None))
        address = server.url.replace("http://", "http://me:pass-word-1@")
        outcomes += ask(requests, server_of(address), tmp_path / "k", lambda *_: None)
    assert "uthorization: Bearer … " in outcomes[0].text and "uthorization: Basic … " in outcomes[3].text
    assert headers(server.calls[0])["authorization"] == f"Bearer {SECRET}"
    basic = headers(server.calls[-1])["authorization"].split()[1]
    kept = repr(outcomes) + (tmp_path / "j").read_text() + (tmp_path / "k").read_text()
    assert all(len(outcome.reasons) == 1 and "…" in outcome.reasons[0] for outcome in outcomes[1:3])
    assert not re.search(f"{SECRET}|pass-word-1|{basic}", kept)


def test_addresses_are_shown_without_their_secrets():
    server = server_of("https://me:word@host:8000/v1?api-version=1&key=abcdef")
    assert server.shown == "https://…@host:8000/v1?api-version=1&key=…"
    assert set(server.secrets()) == {"abcdef", "word", "me:word", "bWU6d29yZA=="}
    assert redacted("GET /a?token=x&b=1 of ftp://u@h") == "GET /a?token=…&b=1 of ftp://…@h"
    with pytest.raises(InputError) as error:
        replace(server, concurrency=0)
    assert "word" not in str(error.value) and "abcdef" not in str(error.value)


def test_an_address_keeps_its_query_behind_the_path():
    with ChatServer(lambda call, _: Reply()) as server:
        with pytest.raises(InputError, match="no chat completions there") as error:
            call(server_of(f"{server.url}?key={SECRET}"))  # this server knows no query
    assert "/v1/chat/completions?key=…" in str(error.value) and SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"base_url": "http://127.0.0.1:99999/v1"}, "expected an address such as"),
        ({"base_url": "http://"}, "expected an address such as"),
        ({"base_url": "http://a b/v1"}, "expected an address such as"),
        ({"base_url": "http://a\r\nhost: b/v1"}, "expected an address such as"),
        ({"base_url": 5}, "base_url 5: expected an address"),
        ({"base_url": "http://[::1/v1"}, "expected an address such as"),
        ({"model": ""}, "model is ''"),
        ({"model": ["m"]}, "model is ['m']"),
        ({"temperature": float("nan")}, "temperature is nan, expected at least 0"),
        ({"temperature": "warm"}, "temperature is 'warm', expected a number"),
        ({"price_in": "cheap"}, "price_in is 'cheap', expected a number"),
        ({"price_out": float("inf")}, "price_out is inf, expected at least 0"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds is nan, expected more than 0"),
        ({"timeout_seconds": None}, "timeout_seconds is None, expected a number"),
        ({"retries": 1.5}, "retries is 1.5, expected a whole number"),
        ({"concurrency": True}, "concurrency is True, expected a whole number"),
        ({"seed": 2**70}, "seed is 1180591620717411303424, expected at least"),
        ({"per_minute": -1}, "per_minute is -1, expected more than 0"),
        ({"fit": 5}, "fit is 5, expected side and crop"),
        ({"key_variable": SECRET}, "key_variable is no name of an environment variable"),
    ],
)
def test_bad_settings_of_a_server_are_one_line(change, line):
    with pytest.raises(InputError, match=re.escape(line)) as error:
        Server(**{"base_url": "http://localhost:8000/v1", "model": "m", **change})
    assert SECRET not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["abcé", "abc\r", "ab c", "abc\n"])
def test_a_key_that_is_none_is_named_by_its_variable(key, monkeypatch):
    monkeypatch.setenv("ODD", key)
    with pytest.raises(InputError, match="the key in ODD holds what no key has") as error:
        call(server_of("http://127.0.0.1:9/v1", key_variable="ODD"))
    assert "abc" not in str(error.value)
    with pytest.raises(InputError) as error:
        call(server_of("http://127.0.0.1:9/v1", key_variable="sk_pasted_by_mistake"))
    assert "pasted" not in str(error.value)


def test_a_side_of_another_kind_is_one_line():
    for side in (0, "large", None, 1.5):
        with pytest.raises(InputError, match="an image is sent with a side of"):
            Fit(side)
