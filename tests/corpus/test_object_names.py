"""The names of objects in DOTA, FAIR1M, xView, iSAID, LoveDA, HRSC2016 and COCO, and hard ones, in both numbers."""

import subprocess
import sys

import pytest

from lrsclip_jax.corpus.rules.caption_stage import caption_by_rules
from lrsclip_jax.corpus.rules.english import noun, scene, with_article
from lrsclip_jax.errors import InputError, MissingPackage

TABLE = [
    ("plane", "a plane", "planes"),
    ("small-vehicle", "a small vehicle", "small vehicles"),
    ("ship", "a ship", "ships"),
    ("storage-tank", "a storage tank", "storage tanks"),
    ("bridge", "a bridge", "bridges"),
    ("roundabout", "a roundabout", "roundabouts"),
    ("harbor", "a harbor", "harbors"),
    ("baseball-diamond", "a baseball diamond", "baseball diamonds"),
    ("airport", "an airport", "airports"),
    ("soccer-ball-field", "a soccer field", "soccer fields"),
    ("helipad", "a helipad", "helipads"),
    ("container-crane", "a container crane", "container cranes"),
    ("helicopter", "a helicopter", "helicopters"),
    ("basketball-court", "a basketball court", "basketball courts"),
    ("Boeing737", "a boeing737", "boeing737s"),
    ("Excavator", "an excavator", "excavators"),
    ("other-airplane", "an airplane", "airplanes"),
    ("Intersection", "an intersection", "intersections"),
    ("Engineering Ship", "an engineering ship", "engineering ships"),
    ("Dry Cargo Ship", "a dry cargo ship", "dry cargo ships"),
    ("Liquid Cargo Ship", "a liquid cargo ship", "liquid cargo ships"),
    ("Tugboat", "a tugboat", "tugboats"),
    ("Dump Truck", "a dump truck", "dump trucks"),
    ("Bus", "a bus", "buses"),
    ("Fixed-wing Aircraft", "a fixed wing aircraft", "fixed wing aircraft"),
    ("Cargo Plane", "a cargo plane", "cargo planes"),
    ("Utility Truck", "a utility truck", "utility trucks"),
    ("Truck w/Box", "a truck with box", "trucks with box"),
    ("Oil Tanker", "an oil tanker", "oil tankers"),
    ("Maritime Vessel", "a maritime vessel", "maritime vessels"),
    ("Yacht", "a yacht", "yachts"),
    ("Ferry", "a ferry", "ferries"),
    ("Straddle Carrier", "a straddle carrier", "straddle carriers"),
    ("Hut/Tent", "a hut or tent", "huts or tents"),
    ("Shed", "a shed", "sheds"),
    ("Railway Vehicle", "a railway vehicle", "railway vehicles"),
    ("Facility", "a facility", "facilities"),
    ("Vehicle Lot", "a vehicle lot", "vehicle lots"),
    ("Shipping container lot", "a shipping container lot", "shipping container lots"),
    ("Pylon", "a pylon", "pylons"),
    ("Tower", "a tower", "towers"),
    ("Large_Vehicle", "a large vehicle", "large vehicles"),
    ("Swimming_pool", "a swimming pool", "swimming pools"),
    ("building", "a building", "buildings"),
    ("aircraft carrier", "an aircraft carrier", "aircraft carriers"),
    ("warcraft", "a warcraft", "warcraft"),
    ("Hovercraft", "a hovercraft", "hovercraft"),
    ("submarine", "a submarine", "submarines"),
    ("person", "a person", "people"),
    ("sheep", "a sheep", "sheep"),
    ("knife", "a knife", "knives"),
    ("bench", "a bench", "benches"),
    ("skis", "a ski", "skis"),
    ("giraffe", "a giraffe", "giraffes"),
    ("wine glass", "a wine glass", "wine glasses"),
    ("tomatoes", "a tomato", "tomatoes"),
    ("oasis", "an oasis", "oases"),
    ("oases", "an oasis", "oases"),
    ("volcano", "a volcano", "volcanoes"),
    ("volcanoes", "a volcano", "volcanoes"),
    ("knives", "a knife", "knives"),
    ("SUV", "an SUV", "SUVs"),
    ("suvs", "an SUV", "SUVs"),
    ("HVAC unit", "an HVAC unit", "HVAC units"),
    ("UAVs", "a UAV", "UAVs"),
    ("RV", "an RV", "RVs"),
    ("TV", "a TV", "TVs"),
    ("LNG tanker", "an LNG tanker", "LNG tankers"),
    ("x-ray machine", "an x ray machine", "x ray machines"),
    ("gas works", "a gas works", "gas works"),
    ("gasworks", "a gasworks", "gasworks"),
    ("crossroads", "a crossroads", "crossroads"),
    ("buses", "a bus", "buses"),
    ("canoes", "a canoe", "canoes"),
    ("silo", "a silo", "silos"),
    ("photo", "a photo", "photos"),
    ("buffalo", "a buffalo", "buffaloes"),
    ("reef", "a reef", "reefs"),
    ("roofs", "a roof", "roofs"),
    ("leaves", "a leaf", "leaves"),
    ("caves", "a cave", "caves"),
    ("wolves", "a wolf", "wolves"),
    ("warehouses", "a warehouse", "warehouses"),
    ("bases", "a base", "bases"),
    ("military base", "a military base", "military bases"),
    ("plateaus", "a plateau", "plateaus"),
    ("stadium", "a stadium", "stadiums"),
    ("gymnasiums", "a gymnasium", "gymnasiums"),
    ("taxi", "a taxi", "taxis"),
    ("campus", "a campus", "campuses"),
    ("hourglass", "an hourglass", "hourglasses"),
    ("university", "a university", "universities"),
    ("unmanned vehicle", "an unmanned vehicle", "unmanned vehicles"),
    ("eucalyptus tree", "a eucalyptus tree", "eucalyptus trees"),
    ("one-storey house", "a one storey house", "one storey houses"),
    ("fields of wheat", "a field of wheat", "fields of wheat"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "one", "many"), TABLE)
def test_names_of_objects_have_their_article_and_their_plural(name, one, many):
    found = noun(name)
    assert not found.stuff
    assert (with_article(found.one), found.many) == (one, many)
    assert noun(found.many) == found  # a name may come in the plural


@pytest.mark.parametrize(
    ("label", "words"),
    [("SUV", "an SUV"), ("oasis", "an oasis"), ("volcanoes", "volcanoes"), ("HVAC unit", "an HVAC unit")],
)
def test_scenes_of_such_names_have_their_article(label, words):
    assert scene(label) == words


@pytest.mark.parametrize("text", ["SUV", "HVAC unit", "RV", "MLRS"])
def test_letters_that_are_spoken_by_name_decide_the_article(text):
    assert with_article(text) == f"an {text}" and with_article(text.lower()) == f"an {text.lower()}"
    assert with_article("UAV") == "a UAV" and with_article("GPS mast") == "a GPS mast"


@pytest.mark.slow
def test_common_names_wait_for_no_large_library():
    code = """
import sys
from lrsclip_jax.corpus.rules.english import noun
for name in ("building", "houses", "storage tank", "ferries", "bus", "churches", "aircraft", "people", "Trees"):
    noun(name)
print("inflect" in sys.modules)
noun("volcano")
print("inflect" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_without_inflect_one_line_ends_the_captions(monkeypatch):
    from lrsclip_jax.corpus.records.record import CorpusRecord
    from lrsclip_jax.corpus.rules import english
    from lrsclip_jax.sources.item import Thing

    monkeypatch.setitem(sys.modules, "inflect", None)
    english._inflect.cache_clear()
    english.noun.cache_clear()
    record = CorpusRecord("a", "a.jpg", "s", things=(Thing("dynamo", (1, 1, 5, 5)),), width=9, height=9)
    with pytest.raises(MissingPackage, match=r"^inflect .*: pip install 'lrsclip_jax\[corpus\]'$"):
        list(caption_by_rules([record]))
    assert issubclass(MissingPackage, InputError)
