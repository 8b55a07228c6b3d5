"""Nouns of remote sensing in the singular and plural, articles, numbers and lists."""

from __future__ import annotations

import numpy as np
import pytest

from eval.facts.classes import dataset, datasets
from lrsclip_jax.corpus.rules.english import amount, listed, noun, phrase, plural, quantity, say, scene, with_article
from lrsclip_jax.errors import InputError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "one", "many"),
    [
        ("small-vehicle", "small vehicle", "small vehicles"),
        ("ground_track_field", "ground track field", "ground track fields"),
        ("groundtrackfield", "ground track field", "ground track fields"),
        ("storageTank", "storage tank", "storage tanks"),
        ("tenniscourt", "tennis court", "tennis courts"),
        ("tennis-court", "tennis court", "tennis courts"),
        ("Expressway-Service-area", "expressway service area", "expressway service areas"),
        ("swimming pool", "swimming pool", "swimming pools"),
        ("Fixed-wing Aircraft", "fixed wing aircraft", "fixed wing aircraft"),
        ("bus", "bus", "buses"),
        ("buses", "bus", "buses"),
        ("church", "church", "churches"),
        ("churches", "church", "churches"),
        ("crossroad", "crossroads", "crossroads"),
        ("overpass", "overpass", "overpasses"),
        ("overpasses", "overpass", "overpasses"),
        ("ferry", "ferry", "ferries"),
        ("ferries", "ferry", "ferries"),
        ("highway", "highway", "highways"),
        ("wharf", "wharf", "wharves"),
        ("people", "person", "people"),
        ("human", "person", "people"),
        ("Trees", "tree", "trees"),
        ("houses", "house", "houses"),
        ("bushes", "bush", "bushes"),
        ("buildings", "building", "buildings"),
        ("awning-tricycle", "tricycle with an awning", "tricycles with an awning"),
        ("block of flats", "block of flats", "blocks of flats"),
        ("Hut/Tent", "hut or tent", "huts or tents"),
        ("motor", "motorcycle", "motorcycles"),
        ("helipad (closed)", "helipad", "helipads"),
    ],
)
def test_class_names_become_nouns(name, one, many):
    found = noun(name)
    assert (found.one, found.many, found.stuff) == (one, many, False)


@pytest.mark.parametrize(
    ("name", "words", "is_plural"),
    [
        ("Water", "water", False),
        ("low_vegetation", "low vegetation", False),
        ("Impervious surfaces", "paved ground", False),
        ("road", "roads", True),
        ("Agriculture", "farmland", False),
        ("bareland", "bare land", False),
        ("grass", "grass", False),
    ],
)
def test_ground_covers_are_not_counted(name, words, is_plural):
    found = noun(name)
    assert (found.one, found.stuff, found.plural) == (words, True, is_plural)
    assert quantity(3, found, RNG) == words


@pytest.mark.parametrize("name", ["background", "Clutter/Background", "ignored regions", "others"])
def test_names_that_say_nothing_are_none(name):
    assert noun(name) is None


def test_a_name_without_letters_is_an_error():
    with pytest.raises(InputError, match="'12' has no name in words"):
        noun("12")


@pytest.mark.parametrize(
    ("text", "article"),
    [
        ("airport", "an"),
        ("urban area", "an"),
        ("university", "a"),
        ("unit", "a"),
        ("uninhabited island", "an"),
        ("utility pole", "a"),
        ("European house", "a"),
        ("one way street", "a"),
        ("onion field", "an"),
        ("oil tank", "an"),
        ("hourglass", "an"),
        ("house", "a"),
        ("suv", "an"),
        ("t junction", "a"),
    ],
)
def test_articles_follow_the_sound(text, article):
    assert with_article(text.lower()) == f"{article} {text.lower()}"


def test_counts_are_numbers_to_ten_and_vague_words_that_are_true_beyond():
    assert [quantity(count, noun("church"), RNG) for count in (1, 2, 10)] == [
        "a church",
        "two churches",
        "ten churches",
    ]
    drawn = {count: {amount(count, RNG) for _ in range(200)} for count in (11, 24, 25, 199, 200)}
    assert drawn[11] == drawn[24] == {"many", "a lot of", "numerous"}
    assert drawn[25] == drawn[199] == drawn[11] | {"dozens of", "a large number of"}
    assert drawn[200] == drawn[25] | {"hundreds of"}


def test_lists_and_agreement():
    assert [listed(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    one, two = ("a church", False), ("two buses", True)
    template = ["{there_are} {things}; {things} {lie} there"]
    assert say(RNG, template, phrase([one])) == "There is a church; a church lies there."
    assert say(RNG, template, phrase([two, one])).startswith("There are two buses and a church; two buses and a")
    assert say(RNG, ["{things} {are} there"], phrase([one, one])) == "A church and a church are there."


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("Beach", "a beach"),
        ("industrial", "an industrial area"),
        ("sparseresidential", "a sparse residential area"),
        ("Parking", "a parking lot"),
        ("Forest", "a forest"),
        ("BareLand", "bare land"),
        ("circular_farmland", "circular farmland"),
        ("storage_tank", "a storage tank"),
        ("storage tanks", "storage tanks"),
        ("tenniscourt", "a tennis court"),
    ],
)
def test_labels_of_scenes_take_their_article(label, words):
    assert scene(label) == words


@pytest.mark.slow
def test_plurals_of_all_benchmark_classes_end_like_plurals():
    for name in datasets():
        for text in dataset(name).classes.values():
            ending = plural(noun(text).one).split(" of ")[0]
            assert ending.endswith(("s", "land", "men")) or noun(text).stuff, text
