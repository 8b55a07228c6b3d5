import pytest

from lrsclip_jax.corpus.generators.protocol import Outcome, Server
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.corpus.stages import ways
from lrsclip_jax.sources.item import Thing

SERVER = Server("http://localhost:1/v1", "a-model")
LONG = "A long text."


def record(name, **fields):
    return CorpusRecord(name, f"{name}.jpg", "s", **fields)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Answers with the key, but "mute" with nothing; draws a few requests ahead, as the real one does."""
    seen = []

    def ask(requests, server, journal, check, total=None):
        assert server is SERVER and journal == tmp_path / "journal"
        ahead = []
        for request in requests:
            seen.append(request)
            ahead.append(request)
            if len(ahead) == 3:
                yield answer(ahead.pop(0))
        yield from map(answer, ahead)

    def answer(request):
        mute = request.key.startswith("mute")
        return Outcome(request, None if mute else f"to {request.key}", ("refusal", "empty") if mute else ())

    monkeypatch.setattr(ways, "ask", ask)
    return seen


def test_texts_are_asked_for_where_they_lack_and_records_keep_their_order(asked, tmp_path):
    records = [
        record("has", long=(LONG,), short=("mine",)),
        record("a", long=(LONG,)),
        record("mute", long=(LONG,)),
        record("bare"),
        record("b", long=(LONG,), provenance=(Step("read"),)),
        record("too", long=(LONG,), short=("mine",)),
    ]
    made = list(ways.write_texts(records, ways.SUMMARISE, SERVER, tmp_path / "journal"))
    assert [one.id for one in made] == [one.id for one in records]
    assert made[0] is records[0] and made[5] is records[5]
    assert made[1].short == ("to a#short",) and made[4].short == ("to b#short",)
    assert made[4].provenance == (Step("read"), Step("summarise", "a-model", "short"))
    assert made[2] == SetAside("mute", "summarise", "no short text: refusal; empty")
    assert made[3] == SetAside("bare", "summarise", "there is no long text to summarise")
    assert [request.key for request in asked] == ["a#short", "mute#short", "b#short"]
    assert asked[0].prompt == f"Summarize this image caption in 20 words or less:\n\n{LONG}" and asked[0].image is None


def test_what_each_way_shows_and_says(asked, tmp_path):
    journal = tmp_path / "journal"
    captioned, labelled = (
        record("a", short=("A pier.", "Two boats.")),
        record("b", things=(Thing("ship", (0, 0, 1, 1)),)),
    )
    (made,) = ways.write_texts([captioned], ways.EXPAND, SERVER, journal)
    assert made.long == ("to a#long",) and made.short == captioned.short
    (made,) = ways.write_texts([labelled], ways.ANCHOR, SERVER, journal)
    assert made.long == ("to b#long",)
    (short,), (long,) = (
        ways.write_texts([record("c")], ways.DESCRIBE_SHORT, SERVER, journal),
        ways.write_texts([record("d")], ways.DESCRIBE_LONG, SERVER, journal),
    )
    assert short.short == ("to c#short",) and long.long == ("to d#long",)
    texts = [request.prompt for request in asked]
    assert "- A pier.\n- Two boats." in texts[0] and "ship: 1" in texts[1]
    assert texts[2:] == ["Write a short description for the image.", "Describe the image in detail"]
    assert [request.image for request in asked] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    for way in (ways.EXPAND, ways.ANCHOR):
        (made,) = ways.write_texts([record("none")], way, SERVER, journal)
        assert isinstance(made, SetAside) and "none" in made.reason
