import base64
import io
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chat_server import ChatServer, Reply
from PIL import Image

from lrsclip_jax.corpus.generators import prompts
from lrsclip_jax.corpus.generators.answer_checks import check_short
from lrsclip_jax.corpus.generators.journal import read
from lrsclip_jax.corpus.generators.protocol import Request, Server
from lrsclip_jax.corpus.generators.request_queue import ask
from lrsclip_jax.errors import InputError

GOOD = "a river between green fields"


def quick(url, **changes):
    settings = {"concurrency": 4, "timeout_seconds": 5.0, "retries": 2, "back_off_seconds": 0.001, **changes}
    return Server(url, "tiny", **settings)


def requests(count, start=0):
    return [Request(f"{n}/short", f"text {n}") for n in range(start, start + count)]


def all_of(server, journal, asked, check=None):
    return list(ask(asked, server, journal, check or check_short()))


def number(call):
    return int(call.prompt.split()[-1])


def test_every_request_has_its_answer_in_order(tmp_path):
    def reply(call, before):
        return Reply(text=f"field {number(call)} by a river", seconds=0.02 * (number(call) % 7 == 0))

    with ChatServer(reply) as server:
        outcomes = all_of(quick(server.url), tmp_path / "j", requests(24))
    assert [outcome.text for outcome in outcomes] == [f"field {n} by a river" for n in range(24)]
    assert all(outcome.asked == 1 and outcome.answers[0].tokens_in == 100 for outcome in outcomes)
    assert set(server.asked.values()) == {1}
    assert server.most_in_flight <= 4
    assert len(list(read(tmp_path / "j"))) == 24


def test_all_slots_are_used_and_no_more(tmp_path):
    together = threading.Barrier(8)

    def reply(call, before):
        together.wait(timeout=4)
        return Reply()

    with ChatServer(reply) as server:
        outcomes = all_of(quick(server.url, concurrency=8), tmp_path / "j", requests(32))
    assert [outcome.text for outcome in outcomes] == [GOOD] * 32
    assert server.most_in_flight == 8


def test_what_the_journal_answers_is_not_asked(tmp_path):
    with ChatServer() as server:
        all_of(quick(server.url), tmp_path / "j", requests(10))
        outcomes = all_of(quick(server.url), tmp_path / "j", requests(15))
        assert [outcome.asked for outcome in outcomes] == [0] * 10 + [1] * 5
        assert {outcome.text for outcome in outcomes} == {GOOD} and set(server.asked.values()) == {1}
        all_of(replace(quick(server.url), model="larger"), tmp_path / "j", requests(2))
        assert server.asked["text 0"] == 2  # of another model


def test_rejected_answers_are_kept_and_asked_for_once_more(tmp_path):
    def reply(call, before):
        return {
            0: Reply(text="I'm sorry, I cannot help." if before == 0 else GOOD),
            1: Reply(text="trees trees trees trees trees"),
            2: Reply(finish="length"),
        }.get(number(call), Reply())

    def again():
        return all_of(quick(server.url), tmp_path / "j", requests(4))

    with ChatServer(reply) as server:
        outcomes, later = again(), again()
    assert [(outcome.text, outcome.reasons) for outcome in outcomes] == [
        (GOOD, ("refusal",)),
        (None, ("repetition", "repetition")),
        (None, ("truncated", "truncated")),
        (GOOD, ()),
    ]
    assert later == [replace(outcome, asked=0) for outcome in outcomes]
    assert server.asked == Counter({"text 0": 2, "text 1": 2, "text 2": 2, "text 3": 1})
    assert [call.body["seed"] for call in server.calls if number(call) == 1] == [0, 1]
    kept = [row for row in read(tmp_path / "j") if row["key"] == "1/short"]
    assert [(row["text"], row["reason"]) for row in kept] == [("trees trees trees trees trees", "repetition")] * 2


def test_another_check_judges_the_journal_anew(tmp_path):
    def strict(request, text):
        return "no river wanted" if "river" in text else None

    with ChatServer(lambda call, before: Reply(text="a road" if before else GOOD)) as server:
        all_of(quick(server.url), tmp_path / "j", requests(3))
        outcomes = all_of(quick(server.url), tmp_path / "j", requests(3), strict)
        assert [(outcome.text, outcome.asked) for outcome in outcomes] == [("a road", 1)] * 3
        loose = all_of(quick(server.url), tmp_path / "j", requests(3), lambda *_: None)
        assert [(outcome.text, outcome.asked) for outcome in loose] == [(GOOD, 0)] * 3


def test_one_that_fails_is_left_out_and_asked_by_the_next_call(tmp_path):
    broken = [True]

    def reply(call, before):
        return Reply(status=500) if number(call) == 3 and broken[0] else Reply()

    with ChatServer(reply) as server:
        outcomes = all_of(quick(server.url), tmp_path / "j", requests(6))
        assert [outcome.text for outcome in outcomes] == [GOOD] * 3 + [None] + [GOOD] * 2
        assert outcomes[3].reasons == ("status 500 (as the test wants it); sent 3 times",)
        broken[0] = False
        assert {outcome.text for outcome in all_of(quick(server.url), tmp_path / "j", requests(6))} == {GOOD}
    assert server.asked == Counter({"text 3": 4} | {f"text {n}": 1 for n in (0, 1, 2, 4, 5)})


def test_a_bad_day_loses_nothing_and_asks_nothing_twice(tmp_path):
    busy = Reply(status=429, headers={"retry-after": "0.01"})
    troubles = dict.fromkeys((0, 9, 18), Reply(status=500)) | dict.fromkeys((1, 10, 19), busy)
    troubles |= dict.fromkeys((2, 11, 20), Reply(drop=True)) | {5: Reply(seconds=2)}

    with ChatServer(lambda call, before: Reply() if before else troubles.get(number(call), Reply())) as server:
        outcomes = all_of(quick(server.url, timeout_seconds=0.6), tmp_path / "j", requests(36))
    assert [outcome.text for outcome in outcomes] == [GOOD] * 36
    assert server.asked == Counter({f"text {n}": 1 + (n in troubles) for n in range(36)})
    assert len(list(read(tmp_path / "j"))) == 36


def test_the_rate_is_kept_by_retries_too(tmp_path):
    with ChatServer(lambda call, before: Reply(status=500) if before == 0 else Reply()) as server:
        start = time.monotonic()
        all_of(quick(server.url, per_minute=60 * 50), tmp_path / "j", requests(8))
    assert len(server.calls) == 16
    assert all(call.at - start >= n / 50 for n, call in enumerate(server.calls))


def test_requests_are_drawn_as_they_are_needed(tmp_path):
    drawn = []
    endless = (drawn.append(n) or Request(str(n), f"text {n}") for n in itertools.count())
    with ChatServer() as server:
        outcomes = ask(endless, quick(server.url, concurrency=2), tmp_path / "j", check_short())
        assert [outcome.request.key for outcome in itertools.islice(outcomes, 20)] == [str(n) for n in range(20)]
        outcomes.close()
    assert len(drawn) <= 20 + 4 * 2


def test_images_are_sent(tmp_path):
    pixels = np.kron(np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20, np.ones((40, 60, 1), np.uint8))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    request = Request("a/long", prompts.RSCLIP_LONG, image=str(tmp_path / "a.png"))
    with ChatServer() as server:
        all_of(quick(server.url), tmp_path / "j", [request])
    image, text = server.calls[0].body["messages"][0]["content"]
    assert text == {"type": "text", "text": "Describe the image in detail"}
    data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    expected = io.BytesIO()
    Image.fromarray(pixels).save(expected, "JPEG", quality=92)
    received = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(received, np.asarray(Image.open(expected)))
    np.testing.assert_allclose(received, pixels, atol=12)


def test_a_wrong_key_stops_everything(tmp_path):
    with ChatServer(lambda call, _: Reply(status=401) if number(call) == 20 else Reply()) as server:
        with pytest.raises(InputError, match=f"^{server.url}: refused with status 401"):
            all_of(quick(server.url), tmp_path / "j", requests(10_000))
    assert len(server.calls) < 60
    assert len(list(read(tmp_path / "j"))) >= 17  # when the 21st is sent, at most three others are under way


def test_a_stalled_request_does_not_hide_the_end(tmp_path):
    def reply(call, _):
        return Reply(seconds=4) if number(call) == 0 else Reply(status=403)

    start = time.monotonic()
    with ChatServer(reply) as server, pytest.raises(InputError, match="status 403"):
        all_of(quick(server.url), tmp_path / "j", requests(4))
    assert time.monotonic() - start < 3.5


def test_an_interrupt_ends_it_at_once_and_keeps_the_journal(tmp_path):
    def reply(call, before):
        if number(call) != 12 or before:
            return Reply()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # Ctrl-C
        return Reply(seconds=4)

    start = time.monotonic()
    with ChatServer(reply) as server:
        with pytest.raises(KeyboardInterrupt):
            all_of(quick(server.url), tmp_path / "j", requests(20))
        assert time.monotonic() - start < 3.5
        journalled = {f"text {row['key'].split('/')[0]}" for row in read(tmp_path / "j")}
        all_of(quick(server.url), tmp_path / "j", requests(20))
    assert len(journalled) >= 9 and all(server.asked[prompt] == 1 for prompt in journalled)
    assert sum(server.asked.values()) <= 20 + 4


def test_no_server_there(tmp_path):
    with ChatServer() as server:
        pass
    with pytest.raises(InputError, match=f"^{server.url}: no server there"):
        all_of(quick(server.url), tmp_path / "j", requests(100))


def test_a_server_that_never_answers_is_given_up(tmp_path):
    with ChatServer(lambda *_: Reply(status=500)) as server:
        with pytest.raises(InputError, match="20 requests in a row failed, the last by: status 500"):
            all_of(quick(server.url, retries=0), tmp_path / "j", requests(1000))
    assert len(server.calls) < 30


KILLED = """
import sys
from pathlib import Path
from lrsclip_jax.corpus.generators.request_queue import ask
from lrsclip_jax.corpus.generators.answer_checks import check_short
from lrsclip_jax.corpus.generators.protocol import Request
from lrsclip_jax.corpus.generators.protocol import Server

server = Server(sys.argv[1], "tiny", concurrency=4, timeout_seconds=5.0)
requests = (Request(f"{n}/short", f"text {n}") for n in range(10_000))
for outcome in ask(requests, server, Path(sys.argv[2]), check_short()):
    pass
"""


@pytest.mark.slow
def test_killed_at_any_instant_and_continued(tmp_path):
    with ChatServer(lambda *_: Reply(seconds=0.001)) as server:
        command = [sys.executable, "-c", textwrap.dedent(KILLED), server.url, str(tmp_path / "j")]
        child = subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL)
        try:
            while sum(server.answered.values()) < 60 and child.poll() is None:
                time.sleep(0.001)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        time.sleep(0.05)  # what it had sent arrives
        first, journalled = Counter(server.asked), {row["key"] for row in read(tmp_path / "j")}
        assert 56 <= len(journalled) < 10_000
        outcomes = all_of(quick(server.url), tmp_path / "j", requests(len(first) + 20))
    assert {outcome.text for outcome in outcomes} == {GOOD}
    again = {prompt for prompt, times in server.asked.items() if times > 1}
    assert not {f"{prompt.split()[-1]}/short" for prompt in again} & journalled
    assert len(again) <= 4 and max(server.asked.values()) <= 2
