"""LoRA in PEFT's files, held against PEFT itself on transformers' CLIPModel."""

import json
import warnings

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lrsclip_jax import weights
from lrsclip_jax.adapters import peft as files
from lrsclip_jax.convert.__main__ import main as convert
from lrsclip_jax.convert.formats import peft_folder
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import adapt_rules, zoo
from lrsclip_jax.models.clip import plain
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from tests import tiny_clip

RULES = (("image/.*", "lora", 3, 6.0), ("text/blocks/(attention/(query|value)|mlp/fc1)", "lora", 2))
PIXELS = np.random.default_rng(5).normal(size=(2, 3, 32, 32)).astype(np.float32)
IDS = np.array([[49406, 5, 900, 49407, 0], [49406, 77, 49407, 0, 0]], np.int32)


def rows(found):
    """Unit rows of images and texts as we compute them."""
    model = weights.model_of(found)

    def encode(clip, pixels, ids):
        return clip.encode_image(pixels), clip.encode_text(ids)

    apply = jax.jit(lambda params: model.apply({"params": params}, PIXELS.transpose(0, 2, 3, 1), IDS, method=encode))
    return apply(found.params)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A base as a CLIPModel, an adapted model of it, and its LoRA in PEFT's files."""
    folder = tmp_path_factory.mktemp("peft")
    adapt = adapt_rules.resolved(RULES)
    model = tiny_clip.model({"adapt": adapt["image"], "layers": 2}, {"adapt": adapt["text"]})
    tiny_clip.clip_folder(folder / "base", plain(model), seed=3)
    base = weights.read(str(folder / "base"))
    added = weights.base.adapters(tiny_clip.parameters(model, seed=4))
    image, text = zoo.fields(model)
    about = {"init": "runs/base", "sha256": "", "adapt_with": ("(image|text)/projection/.*", "logit_.*")}
    params = weights.base.joined(base.params, added)
    adapted = ReadCheckpoint("lrsclip_jax", params, image, text, base.preprocessing, base=about)
    lines = peft_folder.write(adapted, folder / "adapter", "runs/adapted")
    return folder, adapted, lines


@pytest.mark.slow  # PEFT is long to import
def test_peft_computes_what_we_compute_from_its_files(exported):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    from transformers import CLIPModel

    folder, adapted, lines = exported
    assert "PEFT's LoRA of 15 modules and both projections" in lines[0] and "logit_scale" in lines[2]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(CLIPModel.from_pretrained(folder / "base"), folder / "adapter").eval()
        out = theirs(input_ids=torch.tensor(IDS, dtype=torch.long), pixel_values=torch.tensor(PIXELS))
    for ours, their, of_base in zip(
        rows(adapted), (out.image_embeds, out.text_embeds), rows(weights.read(str(folder / "base"))), strict=True
    ):
        assert np.abs(ours - their.numpy()).max() <= 1e-5
        assert np.abs(ours - of_base).max() > 1e-2


@pytest.mark.slow
def test_an_adapter_that_peft_saved_is_read_with_its_own_ranks_and_alphas(exported, tmp_path):
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    from transformers import CLIPModel

    base = exported[0] / "base"
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=["q_proj", "out_proj", "vision_model.encoder.layers.1.mlp.fc2"],
        rank_pattern={"vision_model.encoder.layers.0.self_attn.q_proj": 2},
        alpha_pattern={"text_model.encoder.layers.0.self_attn.q_proj": 12},
        modules_to_save=["text_projection"],
        init_lora_weights=False,  # B is drawn, too
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(CLIPModel.from_pretrained(base), config).eval()
        theirs.get_submodule("base_model.model.text_projection.modules_to_save.default").weight.mul_(2).add_(0.1)
        theirs.save_pretrained(tmp_path / "theirs")
        out = theirs(input_ids=torch.tensor(IDS, dtype=torch.long), pixel_values=torch.tensor(PIXELS))
    found = weights.read(str(tmp_path / "theirs"), Hints(base=str(base)))
    assert dict(found.image["adapt"])["attention/query"].rank == 4
    for read in (found, weights.merged(found, "theirs")):
        for ours, their in zip(rows(read), (out.image_embeds, out.text_embeds), strict=True):
            assert np.abs(ours - their.numpy()).max() <= 1e-5


def test_files_of_peft_come_back_and_merge(exported, tmp_path, capsys):
    folder, adapted, _ = exported
    hints = Hints(base=str(folder / "base"))
    found = weights.read(str(folder / "adapter"), hints)
    merged, expected = weights.merged(found, ""), rows(adapted)
    for ours, those in zip((*rows(found), *rows(merged)), (*expected, *expected), strict=True):
        assert np.abs(ours - those).max() <= 1e-6
    run = tmp_path / "run"
    convert(["import", str(folder / "adapter"), f"--base={folder / 'base'}", f"--workdir={run}"])
    assert "PEFT's LoRA on Hugging Face CLIPModel" in capsys.readouterr().out
    imported = weights.read(str(run))
    assert "adapt" not in imported.image
    jax.tree.map(np.testing.assert_array_equal, imported.params, merged.params)


def changed(folder, out, settings=None, tensors=None):
    """A copy of an adapter with other settings and tensors."""
    out.mkdir()
    config = json.loads((folder / files.CONFIG).read_text()) | (settings or {})
    (out / files.CONFIG).write_text(json.dumps(config))
    save_file(load_file(folder / files.WEIGHTS) | (tensors or {}), out / files.WEIGHTS)
    return str(out)


KEY = f"{files.ROOT}vision_model.encoder.layers.0.mlp.fc1.lora_A.weight"


@pytest.mark.parametrize(
    ("settings", "tensors", "message"),
    [
        ({"use_dora": True}, {}, "use_dora is True: this LoRA computes something else"),
        ({"peft_type": "PREFIX_TUNING"}, {}, "peft_type is 'PREFIX_TUNING', only LORA is read"),
        ({"r": "x"}, {}, "adapter_config.json: r"),
        ({}, {KEY: np.zeros((3, 65), np.float32)}, "a matrix 65 × 256, the base's is 64 × 256: an adapter of another"),
        ({}, {KEY: np.full((3, 64), np.nan, np.float32)}, "is no matrix of finite numbers"),
        ({}, {KEY.replace("layers.0", "layers.7"): np.zeros((3, 64), np.float32)}, "without .*layers.7"),
        ({}, {"base_model.model.other.lora_A.weight": np.zeros((3, 64), np.float32)}, "is no LoRA of a CLIPModel"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(exported, tmp_path, settings, tensors, message):
    source = changed(exported[0] / "adapter", tmp_path / "bad", settings, tensors)
    with pytest.raises(InputError, match=message):
        weights.read(source, Hints(base=str(exported[0] / "base")))


def test_an_adapter_of_another_base_is_refused(exported, tmp_path):
    folder, adapted, _ = exported
    tiny_clip.clip_folder(tmp_path / "other", plain(weights.model_of(adapted)), seed=9)
    with pytest.raises(InputError, match="is an adapter of another base: its sha256 is"):
        weights.read(str(folder / "adapter"), Hints(base=str(tmp_path / "other")))
    for name in ("/etc/model", "../model", "model", None):  # no path in a file of others is followed
        source = changed(folder / "adapter", tmp_path / f"bad{len(str(name))}", {"base_model_name_or_path": name})
        with pytest.raises(InputError, match="name it with --base=SRC"):
            weights.read(source)
    with pytest.raises(InputError, match="is no adapter of PEFT"):
        weights.read(str(folder / "base"), Hints(base=str(folder / "base")))


def test_what_the_files_of_peft_do_not_hold_is_refused(exported, tmp_path):
    _, adapted, _ = exported
    more = adapted.base | {"adapt_with": ("text/final_norm/.*",)}
    adapter = (("mlp", adapt_rules.Adapter(16)),)
    for found, message in (
        (ReadCheckpoint("", adapted.params, adapted.image, adapted.text), "holds no adapters apart from their base"),
        (
            ReadCheckpoint("", adapted.params, adapted.image, adapted.text, base=more),
            "text/final_norm/bias trained, too",
        ),
        (
            ReadCheckpoint("", {}, adapted.image | {"adapt": adapter}, adapted.text, base=adapted.base),
            "the image tower of x has adapters, and this format LoRA alone",
        ),
    ):
        with pytest.raises(InputError, match=message):
            peft_folder.write(found, tmp_path / "out", "x")
    assert not (tmp_path / "out").exists()
