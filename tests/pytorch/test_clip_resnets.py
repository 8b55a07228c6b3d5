"""CLIP's ResNets beside a twin of torch's own layers: files, function, training, exports, and what does not fit."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_clip
from safetensors.numpy import load_file, save_file

import lrsclip_jax
from lrsclip_jax import config as configs
from lrsclip_jax import fitting, flops, sharding
from lrsclip_jax.convert.export import export
from lrsclip_jax.convert.served import towers
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.patches import patch_values
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import openai
from lrsclip_jax.pytorch.read import read
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.step import initial_state

WIDTH, STAGES, HEADS, EMBED, SIZE = 4, (1, 2, 1, 1), 2, 16, 64
IMAGE = {"kind": "resnet", "size": SIZE, "width": WIDTH, "stages": STAGES, "heads": HEADS, "embed_dim": EMBED}
TEXT = {"width": 64, "layers": 1, "heads": 1, "embed_dim": EMBED}
MODEL = zoo.create("custom", image=IMAGE, text=TEXT)
HINTS = Hints(activation="quick_gelu", image_heads=HEADS, text_heads=1)
PREPROCESSING = dataclasses.replace(CLIP_PREPROCESSING, size=SIZE)


def twin(torch):
    """The image tower under OpenAI's names, after CLIP's model.py; all its numbers are drawn, statistics too."""
    nn = torch.nn

    class Bottleneck(nn.Module):
        def __init__(self, inside, width, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            self.pool, self.downsample = nn.AvgPool2d(stride), None
            if stride > 1 or inside != 4 * width:
                convolution = nn.Conv2d(inside, 4 * width, 1, bias=False)
                self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(4 * width))

        def forward(self, x):
            out = self.bn1(self.conv1(x)).relu()
            out = self.pool(self.bn2(self.conv2(out)).relu())
            out = self.bn3(self.conv3(out))
            return (out + (x if self.downsample is None else self.downsample(self.pool(x)))).relu()

    class Pool(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.positional_embedding = nn.Parameter(torch.empty(1 + (SIZE // 32) ** 2, width))
            self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
            self.c_proj = nn.Linear(width, EMBED)

        def forward(self, x):
            x = x.flatten(2).permute(2, 0, 1)
            x = torch.cat([x.mean(dim=0, keepdim=True), x]) + self.positional_embedding[:, None]
            projections = {f"{part}_proj_weight": getattr(self, f"{part}_proj").weight for part in "qkv"}
            biases = torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias])
            rest = None, biases, None, None, False, 0.0, self.c_proj.weight, self.c_proj.bias
            settings = {"use_separate_proj_weight": True, "need_weights": False, "training": False}
            inputs = x[:1], x, x, x.shape[-1], HEADS
            return nn.functional.multi_head_attention_forward(*inputs, *rest, **settings, **projections)[0][0]

    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, WIDTH // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTH // 2)
            self.conv2, self.bn2 = nn.Conv2d(WIDTH // 2, WIDTH // 2, 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTH // 2)
            self.conv3, self.bn3 = nn.Conv2d(WIDTH // 2, WIDTH, 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTH)
            inside = WIDTH
            for stage, count in enumerate(STAGES):
                blocks = []
                for number in range(count):
                    blocks.append(Bottleneck(inside, WIDTH * 2**stage, 2 if stage and not number else 1))
                    inside = 4 * WIDTH * 2**stage
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            self.attnpool = Pool(inside)

        def cells(self, x):
            for number in (1, 2, 3):
                x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)).relu()
            x = nn.functional.avg_pool2d(x, 2)
            return self.layer4(self.layer3(self.layer2(self.layer1(x))))

        def forward(self, x):
            return self.attnpool(self.cells(x))

    torch.manual_seed(0)
    tower = Tower().eval()
    with torch.no_grad():
        for module in tower.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.running_var.uniform_(0.3, 2)
                module.running_mean.normal_(0, 0.3)
                module.bias.normal_(0, 0.3)
                module.num_batches_tracked.fill_(7)
            elif isinstance(module, nn.Linear):
                module.bias.normal_(0, 0.3)
        tower.attnpool.positional_embedding.normal_(0, 0.3)
    return tower


def text_tensors():
    params = tiny_clip.parameters(MODEL)
    leaves = [leaf for leaf in openai.table(MODEL) if not leaf.path.startswith("image/")]
    return layout.to_theirs(leaves, params) | {"logit_scale": np.full((), 3, np.float32)}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tower(torch):
    return twin(torch)


@pytest.fixture(scope="module")
def tensors(tower):
    images = {f"visual.{key}": value.numpy() for key, value in tower.state_dict().items()}
    return text_tensors() | images


@pytest.fixture(scope="module")
def file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet") / "clip.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def found(file):
    return read(str(file), HINTS)


def pixels(count=3, size=SIZE):
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def as_torch(torch, images):
    return torch.from_numpy(np.array(normalise(jnp.asarray(images), PREPROCESSING))).permute(0, 3, 1, 2)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_from_a_file_to_unit_rows_it_is_torchs_own(torch, tower, file):
    model = lrsclip_jax.load(file, activation="quick_gelu", image_heads=HEADS, text_heads=1, dtype="float32")
    with torch.inference_mode():
        theirs = unit(tower(as_torch(torch, pixels())).numpy())
    assert np.abs(np.diff(theirs, axis=0)).max(axis=1).min() > 0.02  # the rows differ
    np.testing.assert_allclose(model.images(pixels()), theirs, atol=1e-6)


def test_a_cell_of_a_heat_map_passes_the_value_layer_and_the_projection(torch, tower, found):
    with torch.inference_mode():
        cells = tower.cells(as_torch(torch, pixels())).flatten(2).transpose(1, 2)
        theirs = tower.attnpool.c_proj(tower.attnpool.v_proj(cells)).numpy()
    images = normalise(jnp.asarray(pixels()), PREPROCESSING)
    ours = jax.jit(lambda params, x: patch_values(MODEL.image, params, x))(found.params["image"], images)
    np.testing.assert_allclose(ours, unit(theirs), atol=1e-5)


def test_every_tensor_comes_back_bit_by_bit(tensors, found, tmp_path):
    export(MODEL, found.params, PREPROCESSING, format="open_clip", out=tmp_path / "x.safetensors", source="a test")
    back = load_file(tmp_path / "x.safetensors")
    counts = {key for key in tensors if key.endswith("num_batches_tracked")}
    assert len(counts) == 3 + 3 * 5 + 4 and back.keys() == tensors.keys() - counts and set(found.unused) == counts
    for key in back:
        np.testing.assert_array_equal(back[key], tensors[key], err_msg=key)


def test_a_folder_of_open_clip_says_what_the_tensors_do_not(found, tmp_path):
    export(MODEL, found.params, PREPROCESSING, format="open_clip", out=tmp_path / "x", source="a test")
    again = read(str(tmp_path / "x"))
    assert again.image == IMAGE and again.text == found.text and again.preprocessing == PREPROCESSING
    assert "1 + 2 + 1 + 1 bottlenecks × 4, 2" in (tmp_path / "x/README.md").read_text()
    config = json.loads((tmp_path / "x/open_clip_config.json").read_text())
    for change, message in (
        ({"layers": [1, 1, 1, 1]}, r"the image tower's stages is \(1, 2, 1, 1\) by its tensors, \(1, 1, 1, 1\) by"),
        ({"layers": [1, 2, 1]}, "vision_cfg.layers: expected a list of length >= 4"),
        ({"layers": 5, "patch_size": 32}, "the image tower's kind is resnet by its tensors, vit by"),
        ({"head_width": 7}, "the image width 128 does not divide into 18 heads"),
    ):
        changed = config["model_cfg"] | {"vision_cfg": config["model_cfg"]["vision_cfg"] | change}
        (tmp_path / "x/open_clip_config.json").write_text(json.dumps(config | {"model_cfg": changed}))
        with pytest.raises(InputError, match=message):
            read(str(tmp_path / "x"))


def test_half_precision_another_prefix_and_another_size(torch, tensors, found, tmp_path):
    halves = {key: torch.from_numpy(np.asarray(value)) for key, value in tensors.items()}
    halves = {key: value.half() if value.is_floating_point() else value for key, value in halves.items()}
    renamed = {key.replace("visual.", "image_backbone."): value for key, value in halves.items()}
    renamed = {key if key.startswith(("image", "logit")) else f"text_backbone.{key}": renamed[key] for key in renamed}
    torch.save({"state_dict": {f"module.{key}": value for key, value in renamed.items()}}, tmp_path / "itra.pt")
    again = read(str(tmp_path / "itra.pt"), HINTS)
    for ours, halved in zip(jax.tree.leaves(found.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(np.asarray(ours, np.float16).astype(np.float32), halved)
    larger = fitting.of_size(found, 96)
    table = larger.params["image"]["position_embedding"]
    wide = torch.from_numpy(found.params["image"]["position_embedding"][1:].reshape(1, 2, 2, -1)).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(wide, (3, 3), mode="bicubic", antialias=True)
    np.testing.assert_allclose(table[1:], theirs[0].flatten(1).T, atol=1e-6)
    with pytest.raises(InputError, match="--size=100 is no multiple of the image tower's patch, 32"):
        fitting.of_size(found, 100)


def without(key):
    return lambda tensors: {name: value for name, value in tensors.items() if name != key}


def changed(key, value):
    return lambda tensors: tensors | {key: value}


def only(*starts):
    return lambda tensors: {name.removeprefix("visual."): tensors[name] for name in tensors if name.startswith(starts)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("visual.layer2.1.bn2.running_var"), "lacks visual.layer2.1.bn2.running_var"),
        (without("visual.layer2.1.conv1.weight"), "has also visual.layer2.1.bn1.bias"),
        (without("visual.layer1.0.conv1.weight"), "has no visual.layer1.0.conv1.weight of four dimensions"),
        (without("visual.layer4.0.conv1.weight"), "lacks visual.layer4.0.conv1.weight"),
        (without("visual.attnpool.k_proj.bias"), "lacks visual.attnpool.k_proj.bias"),
        (without("text_projection"), "has no text_projection of two dimensions"),
        (changed("visual.layer3.0.conv2.weight", np.zeros((16, 16, 1, 1))), "visual.layer3.0.conv2.weight has shape"),
        (changed("visual.attnpool.positional_embedding", np.zeros((7, 128))), "of shape [7, 128] is no row of a class"),
        (changed("visual.bn1.running_var", np.full(2, -1.0)), "visual.bn1.running_var holds negative numbers"),
        (changed("visual.bn1.running_mean", np.full(2, np.nan)), "visual.bn1.running_mean holds NaN"),
        # A ResNet of torchvision, and a CLIP with one: neither has CLIP's head of attention.
        (only("visual.conv1", "visual.bn1", "visual.layer"), "is a ResNet without the head of attention (attnpool)"),
        (
            lambda tensors: {name: tensors[name] for name in tensors if "attnpool" not in name},
            "is a ResNet without the head of attention (attnpool)",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tensors, change, message, tmp_path):
    save_file(change(tensors), tmp_path / "x.safetensors")
    with pytest.raises(InputError) as error:
        read(str(tmp_path / "x.safetensors"), HINTS)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_cut_short_is_one_line(file, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(InputError, match="can't be read as safetensors, or is cut short"):
        read(str(tmp_path / "x.safetensors"), HINTS)


def config(*overrides):
    fields = {f"model.image.{name}": value for name, value in IMAGE.items()} | {"model.image.size": 32}
    fields |= {f"model.text.{name}": value for name, value in TEXT.items()}
    fields |= {
        "model.text.vocab_size": 60,
        "model.text.end_token": 59,
        "model.text.context_length": 8,
        "model.text.frozen_positions": 0,
    }
    fields |= {"batch_size": 8, "eval.batch_size": 8, "data.long_length": 8, "data.short_length": 8}
    fields |= {"model.name": "rn50", "data.sources": "scenes:8:0", "data.packed": False, "optimizer.name": "adamw"}
    keys = [*(f"{key}={value}" for key, value in fields.items()), "optimizer.weight_decay=0.1", "train.ema=0.5"]
    return configs.load("configs/vitb16.py", [*keys, "model.init=random", *overrides])


def trained(params, *overrides):
    """A step from `params`: its metrics, and the state after it."""
    setup = set_up(config(*overrides), RunLength(10, 10))
    rng = np.random.default_rng(0)
    ids = np.concatenate([rng.integers(1, 58, (8, 7)), np.full((8, 1), 59)], axis=1).astype(np.int32)
    batch = {"image": pixels(8, 32), "long": ids, "short": ids[::-1].copy(), "has_long": np.ones(8, bool)}
    batch |= {"has_short": np.ones(8, bool)}
    state = initial_state(params, setup.optimizer, setup.shapes)
    return setup.step(PREPROCESSING)(state, sharding.to_devices(batch, setup.mesh))


@pytest.fixture(scope="module")
def start(found):
    """The file's image tower at 32 pixels, and a small text tower."""
    small = zoo.create("custom", image=IMAGE | {"size": 32}, text=TEXT | {"vocab_size": 60, "context_length": 8})
    return tiny_clip.parameters(small) | {
        "image": fitting.of_size(found, 32).params["image"],
        "logit_scale": np.float32(2.0),
    }


def test_a_step_moves_everything_but_the_statistics(start):
    state, metrics = trained(start, "model.image.remat=none")
    assert bool(metrics["finite"]) and float(metrics["gradient_norm"]) > 0
    for kept in (state.params, state.ema):
        for path, value in jax.tree.leaves_with_path(kept["image"]):
            name, before = path_of(path), np.asarray(start["image"])
            for part in name.split("/"):
                before = before[part] if isinstance(before, dict) else before.item()[part]
            assert np.array_equal(value, before) == name.endswith(("/mean", "/var")), name
    frozen = [path_of(path) for path, _ in jax.tree.leaves_with_path(state.opt_state)]
    assert not [path for path in frozen if path.endswith(("/mean", "/var"))]  # nor is there a moment of them


@pytest.mark.exhaustive
def test_what_bottlenecks_store_changes_no_gradient(found):
    images, params = normalise(jnp.asarray(pixels(2)), PREPROCESSING), found.params["image"]

    def gradient(remat):
        tower = MODEL.image.clone(remat=remat)
        return jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(tower.apply({"params": params}, images)))))(params)

    stored = gradient("none")
    for remat in ("dense", "full"):
        for one, other in zip(jax.tree.leaves(stored), jax.tree.leaves(gradient(remat)), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("format", ["onnx", pytest.param("jax", marks=pytest.mark.exhaustive)])
def test_runtimes_without_this_package_give_our_embeddings(format, found, file, tmp_path):
    pytest.importorskip({"onnx": "onnxruntime", "jax": "flatbuffers"}[format])
    export(MODEL, found.params, PREPROCESSING, format=format, out=tmp_path / "x", source="a test")
    ours = lrsclip_jax.load(file, activation="quick_gelu", image_heads=HEADS, text_heads=1, dtype="float32")
    rows = towers(tmp_path / "x").image(pixels())
    np.testing.assert_allclose(rows, ours.images(pixels()), atol=1e-5)


def test_formats_without_such_a_tower_refuse_it(found, tmp_path):
    for format, message in (("hf", "the image tower is a ResNet; try"), ("timm", "writes ViTs, and the image tower")):
        with pytest.raises(InputError, match=message):
            export(MODEL, found.params, PREPROCESSING, format=format, out=tmp_path / "x", source="a test")


def test_new_bands_start_at_zero(found):
    model = zoo.create("custom", image=IMAGE | {"bands": ("B08", "B04", "B03", "B02")}, text=TEXT)
    kernel = fitting.fitted(model, found, "a test")["image"]["stem"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :, 1:], found.params["image"]["stem"]["conv1"]["kernel"])
    assert not kernel[:, :, 0].any()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.image.size=100", "model.image.size=100 is not a multiple of 32, a ResNet's stride"),
        ("model.image.stages=(3, 4)", "stages=(3, 4): a ResNet has four stages"),
        ("model.image.width=5", "model.image.width=5 is odd"),
        ("model.image.heads=3", "model.image.width=4 does not divide into model.image.heads=3"),
        ("model.image.remat=names:qkv", "a ResNet's is 'none', 'dense' or 'full'"),
        ("model.image.resolution=native", "a ResNet's images are squares"),
        ("model.image.patch=16", "model.image.patch: a field of model.image.kind='vit' alone"),
        ("model.image.kind=vit", "model.image.stages: a field of model.image.kind='resnet' alone"),
        ("model.adapt=(('.*/mlp', 'adapter', 8),)", "no adapter has a place in a ResNet"),
        ("loss.patches=0.5", "loss.patches=0.5 is about the patches of a ViT"),
        ("data.image_features=x", None),
        ("model.adapt=(('text/.*', 'lora', 2),)", None),
    ],
)
def test_what_a_resnet_can_not_do_is_said_of_the_config(override, message):
    if message is None:
        config(override)
        return
    with pytest.raises(InputError) as error:
        config(override)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "published"),
    [("rn50", 12.22), ("rn101", 19.54), ("rn50x4", 42.56), ("rn50x16", 149.39), ("rn50x64", 529.11)],
)
def test_published_sizes(name, published):
    # Forward GFLOPs of the image towers as open_clip's docs/model_profile.csv prints them. PyTorch's head computes what
    # every token finds in all, and drops all but the first's.
    tower = zoo.create(name).image
    cells, width = (tower.size // 32) ** 2, tower.feature_width
    others = cells * (2 * width * (width + tower.embed_dim) + 4 * width * (1 + cells))
    counted = flops.work(flops.products(tower, flops.tokens(tower))).executed
    assert (counted + others) / 1e9 == pytest.approx(published, rel=2e-3)


def test_a_step_repeats_its_convolutions_where_nothing_is_stored():
    for remat, repeated in (("none", 0), ("dense", 0), ("full", 1)):
        tower = zoo.create("rn50", image={"remat": remat}).image
        forward = flops.products(tower, flops.tokens(tower))
        convolutions = [product for product in forward if product.name == "convolution"]
        assert math.isclose(
            flops.work(flops.recomputed(tower, forward)).executed, repeated * flops.work(convolutions).executed
        )
