import numpy as np
import pytest
from safetensors.numpy import save_file

from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import mae
from lrsclip_jax.pytorch.files.stored import Stored
from lrsclip_jax.pytorch.files.tensors import Tensors, open_tensors
from lrsclip_jax.pytorch.layout import to_theirs

WIDTH, HEADS, PATCH, GRID, LAYERS = 24, 3, 4, 3, 2


@pytest.fixture
def tensors():
    """A pre-trained MAE of random values, with a block of its decoder."""
    sizes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + GRID**2, WIDTH),
        "mask_token": (1, 1, 8),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "decoder_pos_embed": (1, 1 + GRID**2, 8),
        "decoder_embed.weight": (8, WIDTH),
        "decoder_blocks.0.attn.qkv.weight": (24, 8),
        "decoder_pred.bias": (48,),
    }
    products = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
    products |= {"mlp.fc1": (40, WIDTH), "mlp.fc2": (WIDTH, 40)}
    for layer in range(LAYERS):
        for name, shape in products.items():
            sizes |= {f"blocks.{layer}.{name}.weight": shape, f"blocks.{layer}.{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            sizes |= {f"blocks.{layer}.{name}.{part}": (WIDTH,) for part in ("weight", "bias")}
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in sizes.items()}


def read(tensors, folder, config=None, hints=Hints(image_heads=HEADS)):  # noqa: B008
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / "mae.safetensors")
    file = open_tensors(folder / "mae.safetensors")
    assert mae.recognises(file)
    return mae.read(file, config, hints, folder)


def test_every_tensor_finds_its_place_and_its_way_back(tensors, tmp_path):
    found = read(tensors, tmp_path)
    attention = found.params["image"]["blocks"]["attention"]
    fused = tensors["blocks.1.attn.qkv.weight"]
    # The fused layer holds query, key and value one below the other, each by heads of eight.
    np.testing.assert_array_equal(attention["qkv"]["kernel"][1, :, 2, 1], fused[2 * WIDTH + 8 : 2 * WIDTH + 16].T)
    np.testing.assert_array_equal(attention["qkv"]["bias"][1, 1, 2], tensors["blocks.1.attn.qkv.bias"][40:48])
    np.testing.assert_array_equal(attention["out"]["kernel"][0, 2], tensors["blocks.0.attn.proj.weight"][:, 16:].T)
    np.testing.assert_array_equal(found.params["image"]["class_embedding"], tensors["cls_token"][0, 0])
    back = to_theirs(mae.table(), found.params)
    assert back.keys() == {key for key in tensors if "decoder" not in key} - {"mask_token"}
    for key in back:
        np.testing.assert_array_equal(back[key], tensors[key], err_msg=key)


@pytest.mark.slow
def test_the_fields_are_maes(tensors, tmp_path):
    found = read(tensors, tmp_path)
    assert found.image == {
        "size": PATCH * GRID,
        "patch": PATCH,
        "width": WIDTH,
        "layers": LAYERS,
        "heads": HEADS,
        "mlp_width": 40,
        "patch_bias": True,
        "pre_norm": False,
        "norm_eps": 1e-6,
        "activation": "gelu",
        "pool": "cls",
    }
    assert found.text is None and not found.antialias and "projection" not in found.params["image"]
    assert found.unused == (
        "decoder_blocks.0.attn.qkv.weight",
        "decoder_embed.weight",
        "decoder_pos_embed",
        "decoder_pred.bias",
        "mask_token",
    )
    assert (found.preprocessing.size, found.preprocessing.mean) == (PATCH * GRID, IMAGENET_PREPROCESSING.mean)
    assert found.reasons["image.heads"] == "--image-heads"


def test_a_classifier_that_averages_patches(tensors, tmp_path):
    tensors["fc_norm.weight"], tensors["fc_norm.bias"] = tensors.pop("norm.weight"), tensors.pop("norm.bias")
    tensors |= {"head.weight": np.zeros((5, WIDTH), np.float32), "head.bias": np.zeros(5, np.float32)}
    found = read(tensors, tmp_path)
    assert found.image["pool"] == "mean" and {"head.weight", "head.bias"} <= set(found.unused)
    np.testing.assert_array_equal(found.params["image"]["post_norm"]["scale"], tensors["fc_norm.weight"])
    assert to_theirs(mae.table("fc_norm"), found.params).keys() == tensors.keys() - set(found.unused)


def test_timms_config_says_mean_and_deviation(tensors, tmp_path):
    timm = {"architecture": "vit_tiny", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]}}
    found = read(tensors, tmp_path, timm)
    assert (found.preprocessing.mean, found.preprocessing.std) == ((0.5, 0.5, 0.5), (0.5, 0.25, 0.5))


def test_published_models_tell_their_heads(tensors, tmp_path):
    def of_width_768(key, tensor):  # but for MLPs and patches, which matter nothing here
        shape = tuple({WIDTH: 768, 3 * WIDTH: 3 * 768}.get(size, size) for size in tensor.shape)
        return Stored(shape, lambda: np.broadcast_to(np.float32(0), shape))

    kept = {key: of_width_768(key, tensor) for key, tensor in tensors.items() if "decoder" not in key}
    blocks = {key.removeprefix("blocks.0"): stored for key, stored in kept.items() if key.startswith("blocks.0")}
    kept |= {f"blocks.{layer}{key}": stored for layer in range(12) for key, stored in blocks.items()}
    found = mae.read(Tensors("vitb16.pth", "pt", kept), None, Hints(), tmp_path)
    assert found.image["heads"] == 12 and found.reasons["image.heads"] == "MAE's"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.0.attn.qkv.bias"), r"it lacks blocks\.0\.attn\.qkv\.bias$"),
        (lambda t: t.pop("norm.weight"), r"it lacks norm\.weight$"),
        (lambda t: t.update({"norm_pre.weight": np.ones(WIDTH)}), r"it has also norm_pre\.weight$"),
        (lambda t: t.update(pos_embed=np.zeros((1, 9, WIDTH))), "is no row of a class token and a square grid"),
        (lambda t: t.update({"blocks.1.norm2.bias": np.zeros(3)}), r"has shape \[3\], the other tensors want \[24\]"),
        (lambda t: t.update({"blocks.0.gamma_1": np.zeros(WIDTH)}), r"is a BEiT \(it has blocks\.0\.gamma_1\)"),
        (lambda t: t.update({"blocks.0.attn.relative_position_bias_table": np.zeros((9, 3))}), "is a BEiT"),
        (lambda t: t.update({"blocks.0.attn.sampling_offsets.2.bias": np.zeros(3)}), "is an RVSA tower"),
        (lambda t: t.update({"blocks.0.PCM.0.weight": np.zeros((3, 3))}), "is a ViTAE"),
        (lambda t: t.update({f"encoder.{key}": t.pop(key) for key in list(t)}), "is a ViTAE or RVSA tower"),
        (lambda t: t.update({"layers.0.blocks.0.norm1.bias": np.zeros(3)}), "is a Swin"),
    ],
)
def test_another_architecture_is_one_line(tensors, tmp_path, change, message):
    change(tensors)
    with pytest.raises(InputError, match=message) as caught:
        read(tensors, tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_heads_and_activation_are_not_guessed(tensors, tmp_path):
    with pytest.raises(InputError, match="image heads at width 24: say"):
        read(tensors, tmp_path, hints=Hints())
    with pytest.raises(InputError, match="MAE's says gelu, .*activation says quick_gelu"):
        read(tensors, tmp_path, hints=Hints(image_heads=HEADS, activation="quick_gelu"))


def test_layer_scale_is_another_family(tensors, tmp_path):
    save_file(tensors | {"blocks.0.ls1.gamma": np.ones(WIDTH, np.float32)}, tmp_path / "other.safetensors")
    assert not mae.recognises(open_tensors(tmp_path / "other.safetensors"))
