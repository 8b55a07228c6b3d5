import re

import pytest

from lrsclip_jax.corpus.generators import prompts
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing


def test_the_prompts_of_the_papers_to_the_letter():
    assert prompts.SUMMARISE == "Summarize this image caption in 20 words or less"
    assert prompts.RSCLIP_SHORT == "Write a short description for the image."
    assert prompts.RSCLIP_LONG == "Describe the image in detail"


def test_a_summary_is_asked_for_with_the_long_text_alone():
    assert prompts.summarise("A port.") == "Summarize this image caption in 20 words or less:\n\nA port."


def test_short_texts_guide_the_long_one():
    prompt = prompts.expand(["a desert", "yellow sand in waves"])
    assert "\n- a desert\n- yellow sand in waves\n" in prompt
    for wanted in ("main ground objects", "attributes", "positions in the image and relative to one another"):
        assert wanted in prompt
    with pytest.raises(InputError, match="there is none"):
        prompts.expand([])


def test_labels_and_counts_are_anchors():
    box = (0.0, 0.0, 9.0, 9.0)
    things = [Thing("harbor"), *[Thing("small-vehicle", box)] * 2, *[Thing("Tennis_Court", box)] * 12]
    prompt = prompts.anchors(things, "SparseResidential")
    assert "\n- scene: sparseresidential\n- tennis court: 12\n- small vehicle: 2\n- harbor\n" in prompt
    assert re.findall(r"^- .*", prompts.anchors([], "port"), re.MULTILINE) == ["- scene: port"]
    with pytest.raises(InputError, match="there are none"):
        prompts.anchors([])
