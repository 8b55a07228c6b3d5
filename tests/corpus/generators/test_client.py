import asyncio
import time
from dataclasses import replace

import pytest
from chat_server import ChatServer, Reply

from lrsclip_jax.corpus.generators.client import Caller, Failed, Pace
from lrsclip_jax.corpus.generators.protocol import Answer, Request, Server
from lrsclip_jax.errors import InputError

REQUEST = Request("k", "Describe the port")


def quick(url, **changes):
    return Server(url, "tiny", **{"timeout_seconds": 5.0, "retries": 2, "back_off_seconds": 0.001, **changes})


def call(server, request=REQUEST, attempt=0):
    async def once():
        caller = Caller(server)
        try:
            return await caller.answer(request, attempt)
        finally:
            await caller.close()

    return asyncio.run(once())


def first_then_good(reply):
    return lambda call, before: reply if before == 0 else Reply()


def test_an_answer_with_its_tokens():
    with ChatServer() as server:
        answer = call(quick(server.url, max_tokens=99), replace(REQUEST, system="Be brief"))
    assert answer == Answer("a river between green fields", 100, 10, answer.seconds) and 0 < answer.seconds < 5
    assert server.calls[0].body == {
        "model": "tiny",
        "max_tokens": 99,
        "temperature": 0.2,
        "seed": 0,
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Describe the port"}],
    }


def test_a_second_attempt_has_other_settings():
    with ChatServer() as server:
        call(quick(server.url), attempt=1)
    assert server.calls[0].body["seed"] == 1 and server.calls[0].body["temperature"] == pytest.approx(0.6)


def test_the_end_of_the_tokens_is_seen():
    with ChatServer(lambda *_: Reply(finish="length")) as server:
        assert call(quick(server.url)).truncated


@pytest.mark.parametrize(
    "trouble", [*[Reply(status=status) for status in (408, 409, 429, 500, 503)], Reply(drop=True)], ids=str
)
def test_trouble_that_passes(trouble):
    with ChatServer(first_then_good(trouble)) as server:
        assert call(quick(server.url)).text == "a river between green fields"
    assert len(server.calls) == 2


def test_a_stalled_answer_is_asked_for_again():
    with ChatServer(first_then_good(Reply(seconds=2))) as server:
        assert call(quick(server.url, timeout_seconds=0.5)).text == "a river between green fields"
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    "trouble, reason",
    [
        (Reply(status=500), r"status 500 \(as the test wants it\); sent 3 times"),
        (Reply(drop=True), "connection lost; sent 3 times"),
        (Reply(seconds=1), "no answer within 0.2 seconds; sent 3 times"),
    ],
)
def test_retries_are_limited(trouble, reason):
    with ChatServer(lambda *_: trouble) as server, pytest.raises(Failed, match=reason):
        call(quick(server.url, timeout_seconds=0.2 if trouble.seconds else 5.0))
    assert len(server.calls) == 3


def test_what_the_server_refuses_is_not_sent_again():
    with ChatServer(lambda *_: Reply(status=400)) as server, pytest.raises(Failed, match="status 400"):
        call(quick(server.url))
    assert len(server.calls) == 1


def test_the_server_says_when():
    with ChatServer(first_then_good(Reply(status=429, headers={"retry-after": "0.2"}))) as server:
        call(quick(server.url))
    assert server.calls[1].at - server.calls[0].at >= 0.2


def test_waits_of_hours_end_the_program():
    with ChatServer(lambda *_: Reply(status=429, headers={"retry-after": "86400"})) as server:
        with pytest.raises(InputError, match="429 .* asks to wait 86400 seconds: the same command continues then"):
            call(quick(server.url))


def test_a_wrong_key_ends_all_and_is_not_shown(monkeypatch):
    monkeypatch.setenv("PORT_KEY", "secret-123")
    with ChatServer(lambda call, _: Reply(status=401, message=f"bad {call.headers['authorization']}")) as server:
        with pytest.raises(InputError) as error:
            call(quick(server.url, key_variable="PORT_KEY"))
    assert len(server.calls) == 1
    assert str(error.value) == f"{server.url}: refused with status 401: the key in PORT_KEY is wrong or lacks the right"


def test_the_key_is_sent_and_stays_out_of_what_the_server_says(monkeypatch):
    monkeypatch.setenv("PORT_KEY", "secret-123")
    with ChatServer(lambda call, _: Reply(status=500, message=f"\n{call.headers['authorization']}")) as server:
        with pytest.raises(Failed, match=r"\(Bearer …\)"):
            call(quick(server.url, key_variable="PORT_KEY"))
    monkeypatch.delenv("PORT_KEY")
    with pytest.raises(InputError, match="PORT_KEY is not set: put its key there"):
        call(quick(server.url, key_variable="PORT_KEY"))


def test_an_unknown_model_ends_all():
    with ChatServer(lambda *_: Reply(status=404, message="model 'tiny' not found")) as server:
        with pytest.raises(InputError, match=f"{server.url}: no model 'tiny', .*model 'tiny' not found"):
            call(quick(server.url))
    with ChatServer() as server, pytest.raises(InputError, match="no chat completions there"):
        call(quick(server.url.removesuffix("/v1")))


def test_no_server_there_ends_all():
    with ChatServer() as server:
        pass
    with pytest.raises(InputError, match=f"{server.url}: no server there .* start it, or correct base_url"):
        call(quick(server.url, back_off_seconds=60))  # at once


def test_an_image_that_is_none(tmp_path):
    with ChatServer() as server, pytest.raises(Failed, match="image: .*none.png: image can't be read"):
        call(quick(server.url), replace(REQUEST, image=str(tmp_path / "none.png")))
    assert not server.calls


def test_turns_are_evenly_spaced_and_wait_for_a_hold():
    async def turns():
        pace = Pace(per_minute=60 * 100)
        start, times = time.monotonic(), []

        async def one():
            await pace.turn()
            times.append(time.monotonic() - start)
            if len(times) == 3:
                pace.hold(0.1)

        await asyncio.gather(*(one() for _ in range(6)))
        return times

    times = asyncio.run(turns())
    assert all(time >= least for time, least in zip(times, [0, 0.01, 0.02, 0.12, 0.13, 0.14], strict=True))
    assert times[-1] < 2


@pytest.mark.parametrize(
    "change, line",
    [
        ({"base_url": "localhost:8000"}, "base_url 'localhost:8000': expected an address such as"),
        ({"concurrency": 0}, "concurrency is 0, expected at least 1"),
        ({"retries": -1}, "retries is -1, expected at least 0"),
        ({"per_minute": 0}, "per_minute is 0, expected more than 0"),
        ({"timeout_seconds": 0}, "timeout_seconds is 0, expected more than 0"),
    ],
)
def test_bad_settings(change, line):
    with pytest.raises(InputError, match=line):
        Server(**{"base_url": "http://localhost:8000/v1", "model": "m", **change})


def test_cost():
    server = Server("http://localhost/v1", "m", price_in=2.0, price_out=10.0)
    assert server.cost(1_000_000, 200_000) == 4.0
    assert replace(server, price_in=None, price_out=None).cost(1, 1) is None
