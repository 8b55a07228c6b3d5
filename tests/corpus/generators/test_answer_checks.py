import pytest

from lrsclip_jax.corpus.generators import prompts
from lrsclip_jax.corpus.generators.answer_checks import check_long, check_short, tidied
from lrsclip_jax.corpus.generators.protocol import Request

SHORT = "A harbour with two piers and many small boats near a sandy beach."
LONG = (
    "The image shows a harbour in the upper left part, where two long concrete piers reach into dark blue water. Many "
    "small white boats lie along both sides of each pier. To the right of the harbour a sandy beach runs down to the "
    "lower edge of the image, and behind it stands a row of houses with red roofs among dense green trees."
)


def kind(check, text, system=""):
    reason = check(Request("k", prompts.summarise(LONG), system=system), text)
    return reason and reason.split(":")[0]


def test_captions_pass():
    assert kind(check_short(), SHORT) is None
    assert kind(check_long(), LONG) is None
    # A summary may be made of the prompt's own words.
    assert kind(check_short(), "Many small white boats lie along both sides of each pier.") is None
    assert kind(check_short(), "A runway of the El Paso airport beside a field.") is None


@pytest.mark.parametrize("text", ["", "...", " \n"])
def test_nothing_is_no_caption(text):
    assert kind(check_short(), text) == kind(check_long(), text) == "empty"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m unable to view images, so the harbour stays hidden.",
        "As an AI language model, I see a harbour with boats.",
        "I cannot see the image. Please describe it.",
        "No image was provided.",
    ],
)
def test_refusals(text):
    assert kind(check_short(), text) == kind(check_long(), text) == "refusal"


@pytest.mark.parametrize(
    "text",
    ["Sure! A harbour with two piers.", "Here is a short summary: two piers at sea.", "**Caption:** two piers at sea"],
)
def test_talk_to_the_asker(text):
    assert kind(check_short(), text) == "preamble"


@pytest.mark.parametrize("instruction", [prompts.SUMMARISE, prompts.RSCLIP_SHORT, prompts.RSCLIP_LONG])
def test_an_answer_that_repeats_its_instruction(instruction):
    assert kind(check_short(), f"{instruction} a harbour by the sea") == "prompt echo"


def test_an_echo_of_a_part_of_a_long_instruction_or_of_the_system_message():
    echo = f"{LONG} Write only what can be seen in it, begin with the description at once."
    assert kind(check_long(), echo) == "prompt echo"
    system = "You look at aerial photographs for a city that plans new roads."
    assert kind(check_long(), f"{LONG} {system}", system) == "prompt echo"
    assert kind(check_long(), f"{LONG} {system}") is None


@pytest.mark.parametrize(
    "text",
    [
        "trees trees trees trees along a road",
        "There is a house and a road and a house and a road and a house and a road and",
        f"{LONG} {LONG}",
    ],
)
def test_loops(text):
    assert kind(check_short(max_words=200, max_tokens=248), text) == "repetition"


@pytest.mark.parametrize(
    "text",
    [
        "In der Mitte des Bildes befindet sich ein großes Gebäude mit einem Parkplatz.",
        "Au centre de l'image, il y a un grand bâtiment entouré d'arbres.",
        "La imagen muestra un aeropuerto con varios aviones en una pista.",
        "A imagem mostra um aeroporto com vários aviões na pista.",
        "L'immagine mostra un aeroporto con diversi aerei sulla pista.",
        "Het beeld toont een vliegveld met veel vliegtuigen.",
        "一个有许多小船的港口",
        "Гавань с двумя причалами и лодками",
    ],
)
def test_other_languages(text):
    assert kind(check_short(), text) == "not English"


def test_bounds_are_in_words_and_clip_tokens():
    check = check_short(max_words=5, min_words=3)
    assert check(Request("k", ""), "two piers") == "too short: 2 words, at least 3"
    assert check(Request("k", ""), "two piers in a blue sea") == "too long: 6 words, at most 5"
    assert check(Request("k", ""), "two piers in a sea") is None
    check = check_long(min_tokens=7, max_tokens=8)  # start and end token are counted
    assert check(Request("k", ""), "two red piers here") == "too short: 6 CLIP tokens, at least 7"
    assert check(Request("k", ""), "two red piers here.") is None
    assert check(Request("k", ""), "two red piers here, and more") == "too long: 9 CLIP tokens, at most 8"


def test_answers_are_tidied():
    assert tidied(' "A harbour\n with  boats." ') == "A harbour with boats."
    assert tidied("“A harbour.”") == "A harbour."
    assert tidied('"A" and "B"') == '"A" and "B"'
    assert tidied("a\ud800 port") == "a port"
