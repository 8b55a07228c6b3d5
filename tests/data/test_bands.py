"""Which band is meant: by its name in all spellings, by its wavelength, by a layout; and the lines where it is not."""

import argparse

import pytest

from lrsclip_jax.data.bands import LAYOUTS, Band, band, find, layout_of, names_of, places, rgb_numbers
from lrsclip_jax.errors import InputError


@pytest.mark.parametrize("text", ["B04", "b4", "B4", "B04 Red", "B4, central wavelength 665 nm"])
def test_a_band_of_sentinel_2_is_known_in_every_spelling(text):
    assert band(text) == Band("B04", 665.0)


def test_names_wavelengths_and_other_words():
    assert band("Red") == Band("red", 665.0)
    assert band("b8a") == Band("B8A", 864.0)
    assert band("665nm").wavelength == 665.0
    assert band("VV") == Band("VV", None)
    assert band("") == Band("", None)


@pytest.mark.parametrize(
    ("wanted", "there", "expected"),
    [
        ("B04", ["blue", "green", "red"], 2),  # by wavelength
        ("red", ["B02", "B03", "B04"], 2),
        ("655nm", ["B02", "B03", "B04"], 2),  # Landsat's red
        ("nir", ["B8A"], None),  # 31 nm apart
        ("B8A", ["B08", "B8A"], 1),
        ("868nm", ["B08", "B8A"], 1),  # the nearest
        ("VV", ["VH", "VV"], 1),
        ("VV", ["B04"], None),
    ],
)
def test_a_band_is_found_by_name_or_by_the_nearest_wavelength(wanted, there, expected):
    assert find([wanted], list(map(band, there))) == [expected]


def test_a_name_of_another_sensor_is_not_taken_for_sentinels():
    landsat_7 = [Band("B03", 661.0), Band("B04", 835.0)]  # its B4 is near infrared
    assert find(["B04", "B08"], landsat_7) == [0, 1]


def test_eurosat_has_b8a_last():
    assert find(["B8A", "B09", "B12"], list(map(band, LAYOUTS["eurosat"]))) == [12, 8, 11]
    assert [len(LAYOUTS[name]) for name in ("sentinel2-l1c", "sentinel2-l2a", "eurosat")] == [13, 12, 13]


def test_red_green_and_blue_of_a_layout():
    assert rgb_numbers(LAYOUTS["eurosat"]) == (4, 3, 2)
    assert rgb_numbers(()) is None
    assert rgb_numbers(("VV", "VH")) is None


@pytest.mark.parametrize(
    ("wanted", "there", "line"),
    [
        (["B04", "B13"], ["B04", "B12"], r"^a\.tif: no band B13: it has B04, B12, did you mean 'B12'\?!$"),
        (["B04"], ["", ""], r"^a\.tif: no band B04: it has 2 without a name!$"),
        (["1600nm"], ["B04"], r"^a\.tif: no band 1600nm: it has B04"),
        (["B04", "red"], ["B04"], r"^a\.tif: B04 and red are both its band B04$"),
    ],
)
def test_a_missing_band_is_one_line_that_says_what_there_is(wanted, there, line):
    with pytest.raises(InputError, match=line):
        places(wanted, list(map(band, there)), "a.tif", "!")


def test_layouts_and_names_from_a_command_line():
    assert layout_of("eurosat") == LAYOUTS["eurosat"]
    assert layout_of("red,665nm,VV") == ("red", "665nm", "VV")
    for text, line in (("eurosad", "did you mean 'eurosat'"), ("a,,b", "no name of a band"), ("a b,c", "no name")):
        with pytest.raises(argparse.ArgumentTypeError, match=line):
            layout_of(text)
    with pytest.raises(argparse.ArgumentTypeError, match="no name of a band"):
        names_of("B04, B03")
