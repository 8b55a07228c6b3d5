"""The image tower under timm's names: timm's definition, written out by torch, takes every tensor and agrees."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_clip
from safetensors.numpy import load_file

from lrsclip_jax.convert.export import export
from lrsclip_jax.convert.formats import timm_folder
from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.clip import unit

PLAIN = {"activation": "gelu", "norm_eps": 1e-6, "patch_bias": True, "pre_norm": False}
# Fields of the tower: the name in timm, whose size "base" is 64 wide here.
TOWERS = {
    "vit_base_patch16_clip_quickgelu_224": {},
    "vit_base_patch16_clip_224": {"activation": "gelu"},
    "vit_base_patch16_224": PLAIN,
    "vit_base_patch14_dinov2": PLAIN | {"patch": 14, "size": 56},
}
MEAN = PLAIN | {"pool": "mean"}


@pytest.fixture(autouse=True)
def small_base(monkeypatch):
    monkeypatch.setitem(timm_folder._SIZES, (64, 2, 2), "base")


def written(out, fields, **more):
    model = tiny_clip.model({"layers": 2, "heads": 2} | fields, {})
    params = tiny_clip.parameters(model)
    pixels = dataclasses.replace(IMAGENET_PREPROCESSING, size=model.image.size)
    export(model, params, pixels, format="timm", out=out, source="a test", **more)
    return model, params


def timm_vit(torch, name, described):
    """timm 1.0.31's VisionTransformer of a name at 64 wide, two layers and two heads: its modules and its function."""
    nn, size, average = torch.nn, described["model_args"]["img_size"], described["global_pool"] == "avg"
    clip, patch = "_clip_" in name, 14 if "patch14" in name else 16

    def layer_norm():
        return nn.LayerNorm(64, eps=1e-5 if clip else 1e-6)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj = nn.Linear(64, 192), nn.Linear(64, 64)

        def forward(self, x):
            q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 32).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.proj(y.transpose(1, 2).reshape(x.shape))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(64, 256), nn.Linear(256, 64)

        def forward(self, x):
            x = self.fc1(x)
            return self.fc2(x * torch.sigmoid(1.702 * x) if "quickgelu" in name else nn.functional.gelu(x))

    class LayerScale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.full((64,), 1e-5))

        def forward(self, x):
            return x * self.gamma

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.attn, self.norm2, self.mlp = layer_norm(), Attention(), layer_norm(), Mlp()
            self.ls1, self.ls2 = (LayerScale() if "dinov2" in name else nn.Identity() for _ in range(2))

        def forward(self, x):
            x = x + self.ls1(self.attn(self.norm1(x)))
            return x + self.ls2(self.mlp(self.norm2(x)))

    class VisionTransformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embed = nn.Module()
            self.patch_embed.proj = nn.Conv2d(3, 64, patch, patch, bias=not clip)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 64))
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, 64))
            self.norm_pre = layer_norm() if clip else nn.Identity()
            self.blocks = nn.Sequential(Block(), Block())
            self.norm = nn.Identity() if average else layer_norm()
            self.fc_norm = layer_norm() if average else nn.Identity()
            self.head = nn.Linear(64, described["num_classes"])

        def forward(self, pixels):
            x = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
            x = self.norm(self.blocks(self.norm_pre(x)))
            return self.head(self.fc_norm(x[:, 1:].mean(dim=1) if average else x[:, 0]))

    return VisionTransformer().eval()


@pytest.mark.parametrize(("name", "fields"), [*TOWERS.items(), ("vit_base_patch16_224", MEAN)])
def test_timms_definition_takes_every_tensor_and_agrees(name, fields, tmp_path):
    torch = pytest.importorskip("torch")
    model, params = written(tmp_path / "x", fields)
    described = json.loads((tmp_path / "x" / "config.json").read_text())
    assert described["architecture"] == name and described["pretrained_cfg"]["std"] == [0.229, 0.224, 0.225]
    twin = timm_vit(torch, name, described)
    tensors = load_file(tmp_path / "x" / "model.safetensors")
    twin.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})  # strict: all, and no more
    pixels = np.random.default_rng(0).normal(size=(3, model.image.size, model.image.size, 3)).astype(np.float32)
    with torch.inference_mode():
        theirs = torch.nn.functional.normalize(twin(torch.from_numpy(pixels).permute(0, 3, 1, 2)), dim=-1).numpy()
    ours = unit(model.image.apply({"params": params["image"]}, pixels))
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [PLAIN | {"patch": 14, "size": 56, "width": 384, "heads": 6, "layers": 12}])
def test_timm_itself_loads_the_folder_and_agrees(fields, tmp_path):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    model, params = written(tmp_path / "x", fields)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'x'}", pretrained=True).eval()
    pixels = np.random.default_rng(0).normal(size=(3, 56, 56, 3)).astype(np.float32)
    with torch.inference_mode():
        rows = torch.nn.functional.normalize(theirs(torch.from_numpy(pixels).permute(0, 3, 1, 2)), dim=-1).numpy()
    np.testing.assert_allclose(rows, unit(model.image.apply({"params": params["image"]}, pixels)), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"layers": 3}, "width 64, 3 layers, 2 heads, an MLP of 256"),
        ({"mlp_width": 96}, "an MLP of 96"),
        ({"patch": 8}, "base_patch8 with quick_gelu"),
        ({"norm_eps": 1e-6}, "a norm before the blocks, no bias on the patches, norms' eps 1e-06"),
        (PLAIN | {"activation": "quick_gelu"}, "base_patch16 with quick_gelu"),
        (MEAN | {"patch": 14, "size": 56}, "base_patch14 with gelu"),
        (PLAIN | {"registers": 4, "rotary_base": 100.0}, "its image tower has rotary positions, registers"),
        (PLAIN | {"pool": "map"}, "its image tower has attention pooling"),
    ],
)
def test_a_tower_that_timm_does_not_have_is_refused(fields, reason, tmp_path):
    with pytest.raises(InputError, match=f"--format=timm: no model of timm computes the same: .*{reason}"):
        written(tmp_path / "x", fields)
    assert not list(tmp_path.iterdir())
