import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch.families import known_models
from lrsclip_jax.pytorch.families.known_models import Architecture


@pytest.mark.parametrize(
    ("name", "model"), [("ViT-B-32", "vitb32"), ("ViT-B-16", "vitb16"), ("ViT-L-14", "vitl14"), ("ViT-H-14", "vith14")]
)
def test_widths_and_heads_are_the_zoos(name, model):
    towers = zoo.create(model)
    image, text = towers.image, towers.text
    assert known_models.ARCHITECTURES[name] == Architecture(image.width, image.patch, text.width)
    assert known_models.heads("image", image.width) == image.heads
    assert known_models.heads("text", text.width) == text.heads


def test_heads_are_not_always_64_wide():
    assert {width: known_models.heads("image", width) for width in (1280, 1408, 1664, 1792)} == dict.fromkeys(
        (1280, 1408, 1664, 1792), 16
    )
    assert known_models.heads("text", 1280) == 20
    assert known_models.heads("image", 640) is known_models.heads("text", 1152) is None


def test_the_activations_of_the_families():
    quick = {name for name, model in known_models.PUBLISHED.items() if model.activation == "quick_gelu"}
    assert {"OpenAI-ViT-L-14", "RemoteCLIP-ViT-B-32", "GeoRSCLIP-ViT-B-32", "SkyCLIP-ViT-L-14"} < quick
    assert {"GeoRSCLIP-ViT-L-14", "LRSCLIP-ViT-B-16", "LongCLIP-ViT-L-14", "laion400m-ViT-B-32"} < quick
    assert quick.isdisjoint({"GeoRSCLIP-ViT-H-14", "SkyCLIP-ViT-B-32", "laion2b-ViT-B-32"})
    assert all(model.architecture in known_models.ARCHITECTURES for model in known_models.PUBLISHED.values())


def test_only_models_of_the_same_architecture_are_named():
    assert known_models.activations(known_models.ARCHITECTURES["ViT-H-14"]) == (
        "quick_gelu: none; gelu: GeoRSCLIP-ViT-H-14, laion2b-ViT-H-14"
    )
    everything = known_models.activations(Architecture(1, 2, 3))
    assert all(name in everything for name in known_models.PUBLISHED)


def test_an_unknown_name_and_another_architecture():
    with pytest.raises(InputError, match="did you mean 'RemoteCLIP-ViT-B-32'.*known: OpenAI-ViT-B-32, "):
        known_models.model("remoteclip-vit-b-32")
    with pytest.raises(
        InputError, match="a.pt is not --model=LRSCLIP-ViT-B-16: it has image width 768, patch 32, text"
    ):
        known_models.check_architecture("LRSCLIP-ViT-B-16", known_models.ARCHITECTURES["ViT-B-32"], "a.pt")
