"""Files with OpenAI's key names beside OpenAI's forward pass, written anew in numpy."""

import dataclasses
import json
import math
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import openai
from lrsclip_jax.pytorch.read import read

START, END, VOCABULARY = 49406, 49407, 49408
LAYERS, PATCH, GRID, EMBED = 2, 8, 2, 32
IMAGE, TEXT, LENGTH = 128, 64, 30  # widths, and positions
QUICK = Hints(activation="quick_gelu", image_heads=2, text_heads=1)


def random_state():
    """A state dict of OpenAI's CLIP, its norms and biases far from what they start as."""
    rng = np.random.default_rng(0)

    def draw(*shape, scale=0.1, mean=0.0):
        return rng.normal(mean, scale, shape).astype(np.float32)

    def norm(key, width):
        return {f"{key}.weight": draw(width, mean=1.0), f"{key}.bias": draw(width)}

    def dense(key, out, width):
        return {f"{key}.weight": draw(out, width, scale=width**-0.5), f"{key}.bias": draw(out)}

    def blocks(prefix, width):
        tensors = {}
        for layer in range(LAYERS):
            key = f"{prefix}transformer.resblocks.{layer}"
            tensors |= norm(f"{key}.ln_1", width) | norm(f"{key}.ln_2", width)
            attention = dense(f"{key}.attn.in_proj", 3 * width, width)
            tensors |= {name.replace("in_proj.", "in_proj_"): value for name, value in attention.items()}
            tensors |= dense(f"{key}.attn.out_proj", width, width)
            tensors |= dense(f"{key}.mlp.c_fc", 4 * width, width) | dense(f"{key}.mlp.c_proj", width, 4 * width)
        return tensors

    return (
        {
            "visual.conv1.weight": draw(IMAGE, 3, PATCH, PATCH),
            "visual.class_embedding": draw(IMAGE),
            "visual.positional_embedding": draw(1 + GRID**2, IMAGE),
            "visual.proj": draw(IMAGE, EMBED),
            "token_embedding.weight": draw(VOCABULARY, TEXT),
            "positional_embedding": draw(LENGTH, TEXT),
            "text_projection": draw(TEXT, EMBED),
            "logit_scale": np.float32(4.25),
        }
        | norm("visual.ln_pre", IMAGE)
        | norm("visual.ln_post", IMAGE)
        | norm("ln_final", TEXT)
        | blocks("visual.", IMAGE)
        | blocks("", TEXT)
    )


STATE = random_state()


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def norm(state, key, x, eps):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * state[f"{key}.weight"] + state[f"{key}.bias"]


def transformed(state, prefix, x, heads, activation, eps, mask=0.0):
    """OpenAI's Transformer, float64 [B, N, width]."""

    def dense(x, weight, bias):
        return x @ state[weight].T + state[bias]

    for layer in range(LAYERS):
        key = f"{prefix}transformer.resblocks.{layer}"
        qkv = dense(norm(state, f"{key}.ln_1", x, eps), f"{key}.attn.in_proj_weight", f"{key}.attn.in_proj_bias")
        q, k, v = (part.reshape(*part.shape[:2], heads, -1).swapaxes(1, 2) for part in np.split(qkv, 3, -1))
        scores = np.exp(q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1]) + mask)
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(x.shape)
        x = x + dense(mixed, f"{key}.attn.out_proj.weight", f"{key}.attn.out_proj.bias")
        hidden = dense(norm(state, f"{key}.ln_2", x, eps), f"{key}.mlp.c_fc.weight", f"{key}.mlp.c_fc.bias")
        x = x + dense(activation(hidden), f"{key}.mlp.c_proj.weight", f"{key}.mlp.c_proj.bias")
    return x


def reference(state, images, ids, heads, activation, eps):
    """What OpenAI's encode_image and encode_text give, as unit rows: images [B, S, S, 3], ids [B, L]."""
    state = {key: np.asarray(value, np.float64) for key, value in state.items()}
    patches = images.reshape(len(images), GRID, PATCH, GRID, PATCH, 3).transpose(0, 1, 3, 5, 2, 4)
    patches = patches.reshape(len(images), GRID**2, -1) @ state["visual.conv1.weight"].reshape(IMAGE, -1).T
    first = np.broadcast_to(state["visual.class_embedding"], (len(images), 1, IMAGE))
    x = np.concatenate([first, patches], 1) + state["visual.positional_embedding"]
    x = transformed(state, "visual.", norm(state, "visual.ln_pre", x, eps), heads[0], activation, eps)
    image_rows = norm(state, "visual.ln_post", x[:, 0], eps) @ state["visual.proj"]

    x = state["token_embedding.weight"][ids] + state["positional_embedding"]
    mask = np.triu(np.full((LENGTH, LENGTH), -np.inf), 1)
    x = transformed(state, "", x, heads[1], activation, eps, mask)
    text_rows = norm(state, "ln_final", x, eps)[np.arange(len(ids)), ids.argmax(-1)] @ state["text_projection"]
    return [rows / np.linalg.norm(rows, axis=-1, keepdims=True) for rows in (image_rows, text_rows)]


def inputs():
    rng = np.random.default_rng(2)
    images = rng.normal(size=(3, GRID * PATCH, GRID * PATCH, 3)).astype(np.float32)
    ids = np.zeros((3, LENGTH), np.int32)
    for row, end in zip(ids, (1, 12, LENGTH - 1), strict=True):
        row[: end + 1] = [START, *rng.integers(1, START, end - 1), END]
    return images, ids


def assert_computes(found, state, heads, activation, eps=1e-5):
    images, ids = inputs()
    model = zoo.create("custom", image=found.image, text=found.text)
    rows, (text_rows,), scale = jax.jit(model.apply)({"params": found.params}, images, ids)
    for ours, theirs in zip((rows, text_rows), reference(state, images, ids, heads, activation, eps), strict=True):
        assert np.abs(np.diff(theirs, axis=0)).max() > 0.01
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert scale == state["logit_scale"]


def written(folder, tensors, name="weights.safetensors"):
    save_file({key: np.asarray(value) for key, value in tensors.items()}, folder / name)
    return str(folder / name)


def config(**changes):
    """open_clip's config of STATE; changes like vision_cfg={"head_width": 32} are merged."""
    values = {
        "model_cfg": {"embed_dim": EMBED},
        "vision_cfg": {"image_size": GRID * PATCH, "layers": LAYERS, "width": IMAGE, "patch_size": PATCH},
        "text_cfg": {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": TEXT, "heads": 4, "layers": LAYERS},
        "preprocess_cfg": {},
    }
    values = {part: fields | changes.get(part, {}) for part, fields in values.items()}
    model = values["model_cfg"] | {part: values[part] for part in ("vision_cfg", "text_cfg")}
    return {"model_cfg": model, "preprocess_cfg": values["preprocess_cfg"]}


def described(folder, **changes):
    (folder / "open_clip_config.json").write_text(json.dumps(config(**changes)))


def assert_same(params, others):
    assert jax.tree.structure(params) == jax.tree.structure(others)
    jax.tree.map(np.testing.assert_array_equal, params, others)


@pytest.mark.slow
def test_open_clip_with_its_config(tmp_path):
    described(
        tmp_path,
        vision_cfg={"head_width": 32, "norm_kwargs": {"eps": 1e-3}},
        text_cfg={"norm_kwargs": {"eps": 1e-3}},
        preprocess_cfg={"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.3, 0.4], "size": [16, 16], "resize_mode": "shortest"},
    )
    found = read(written(tmp_path, STATE))
    assert found.family == "open_clip"
    assert (found.image["heads"], found.text["heads"], found.image["activation"]) == (4, 4, "gelu")
    assert found.preprocessing.mean == (0.5, 0.5, 0.5) and found.preprocessing.std == (0.2, 0.3, 0.4)
    assert found.preprocessing.size == found.image["size"] == 16
    assert all(found.reasons[f"image.{field}"] == "open_clip_config.json" for field in ("heads", "activation"))
    assert_computes(found, STATE, (4, 4), gelu, eps=1e-3)


def test_open_clip_as_told(tmp_path):
    found = read(written(tmp_path, STATE), QUICK)
    assert found.preprocessing == dataclasses.replace(CLIP_PREPROCESSING, size=16)
    assert found.text["context_length"] == LENGTH and found.text["end_token"] == END
    assert_computes(found, STATE, (2, 1), quick_gelu)


def test_a_tower_without_first_norm_that_averages(tmp_path):
    state = {key: value for key, value in STATE.items() if "ln_pre" not in key}
    described(tmp_path, vision_cfg={"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True})
    found = read(written(tmp_path, state))
    assert (found.image["pool"], found.image["pre_norm"]) == ("mean", False)
    model = zoo.create("custom", image=found.image, text=found.text)
    assert layout.to_theirs(openai.table(model), found.params).keys() == state.keys()


def custom_text(key):
    return key if key.startswith("visual.") or key == "logit_scale" else f"text.{key}"


def itra(key):
    return custom_text(key).replace("text.", "text_backbone.").replace("visual.", "image_backbone.")


@pytest.mark.slow
@pytest.mark.parametrize("rename", [custom_text, itra])
def test_prefixes_and_buffers(tmp_path, rename):
    plain = read(written(tmp_path, STATE), QUICK)
    renamed = {rename(key): value for key, value in STATE.items()}
    buffers = (rename("attn_mask"), rename("transformer.embeddings.position_ids"))
    renamed |= dict.fromkeys(buffers, np.zeros((1, 2), np.float32)) | {"logit_scale": STATE["logit_scale"].reshape(1)}
    found = read(written(tmp_path, renamed), QUICK)
    assert found.unused == buffers
    assert_same(found.params, plain.params)


def test_a_training_checkpoint_of_open_clip(tmp_path):
    torch = pytest.importorskip("torch")
    state = {f"module.{key}": torch.from_numpy(np.array(value)) for key, value in STATE.items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {}}, tmp_path / "epoch_3.pt")
    found = read(str(tmp_path / "epoch_3.pt"), QUICK)
    assert_same(found.params, read(written(tmp_path, STATE), QUICK).params)


def test_openais_archive(tmp_path):
    torch = pytest.importorskip("torch")
    numbers = {"input_resolution": GRID * PATCH, "context_length": LENGTH, "vocab_size": VOCABULARY}
    state = {key: np.array(value, np.float16 if value.ndim > 1 else np.float32) for key, value in STATE.items()}
    root = torch.nn.Module()
    for key, value in (state | {key: np.array(value) for key, value in numbers.items()}).items():
        *parents, name = key.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, torch.nn.Module())
            module = getattr(module, parent)
        module.register_buffer(name, torch.from_numpy(value))
    torch.jit.script(root).save(tmp_path / "ViT-tiny.pt")
    found = read(str(tmp_path / "ViT-tiny.pt"))
    assert found.family == "OpenAI CLIP" and found.unused == tuple(sorted(numbers))
    assert (found.image["heads"], found.text["heads"], found.image["activation"]) == (2, 1, "quick_gelu")
    assert "OpenAI CLIP's model code" in found.reasons["image.heads"]
    halved = {key: value.astype(np.float32) for key, value in state.items()}
    assert_same(found.params, read(written(tmp_path, halved), QUICK).params)


def test_longclips_two_tables_become_one(tmp_path):
    rng = np.random.default_rng(1)
    second = rng.normal(0, 0.1, (LENGTH, TEXT)).astype(np.float32)
    found = read(written(tmp_path, STATE | {"positional_embedding_res": second}))
    assert found.family == "Long-CLIP"
    assert (found.image["heads"], found.text["heads"], found.text["activation"]) == (2, 1, "quick_gelu")
    merged = np.concatenate([STATE["positional_embedding"][:20], second[20:]])
    np.testing.assert_array_equal(found.params["text"]["position_embedding"], merged)
    assert_computes(found, STATE | {"positional_embedding": merged}, (2, 1), quick_gelu)

    model = zoo.create("custom", image=found.image, text=found.text)
    tensors = openai.longclip_tensors(found.params, model)
    assert tensors.keys() == STATE.keys() | {"positional_embedding_res"}
    assert_same(read(written(tmp_path, tensors)).params, found.params)
    for table in ("positional_embedding", "positional_embedding_res"):
        np.testing.assert_array_equal(tensors[table], merged)


def test_out_is_what_came_in(tmp_path):
    found = read(written(tmp_path, STATE), QUICK)
    model = zoo.create("custom", image=found.image, text=found.text)
    tensors = layout.to_theirs(openai.table(model), found.params)
    assert tensors.keys() == STATE.keys()
    for key, value in STATE.items():
        np.testing.assert_array_equal(tensors[key], value)
        assert tensors[key].shape == value.shape and tensors[key].dtype == np.float32


def refused(path, hints=QUICK):
    with pytest.raises(InputError) as caught:
        read(str(path), hints)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_tensors_do_not_show_is_asked_for(tmp_path):
    path = written(tmp_path, STATE)
    message = refused(path, Hints())
    assert "--activation=quick_gelu or --activation=gelu" in message
    assert re.search("quick_gelu: .*OpenAI-ViT-B-32.*; gelu: .*laion2b-ViT-B-32", message)
    assert "image heads at width 128: say --image-heads=" in refused(path, Hints(activation="gelu"))
    assert "text heads at width 64: say --text-heads=" in refused(path, Hints(activation="gelu", image_heads=2))
    assert "does not divide into 5 heads" in refused(path, Hints(activation="gelu", image_heads=5))
    assert "is not --model=RemoteCLIP-ViT-B-32: it has image width 128" in refused(
        path, Hints(model="RemoteCLIP-ViT-B-32")
    )


def test_sources_must_agree(tmp_path):
    path = written(tmp_path, STATE)
    described(tmp_path, model_cfg={"quick_gelu": True})
    assert "open_clip_config.json says quick_gelu, --activation says gelu" in refused(path, Hints(activation="gelu"))
    assert "open_clip_config.json says 4, --text-heads says 1" in refused(path, Hints(text_heads=1))
    described(tmp_path, vision_cfg={"width": 768})
    assert "width is 128 by its tensors, 768 by" in refused(path)
    described(tmp_path, preprocess_cfg={"size": 336})
    assert "size is 16 by its tensors, 336 by" in refused(path)
    (tmp_path / "open_clip_config.json").unlink()
    long = written(tmp_path, STATE | {"positional_embedding_res": STATE["positional_embedding"]})
    assert "Long-CLIP's model code says quick_gelu, --activation says gelu" in refused(long, Hints(activation="gelu"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_cfg": {"pool_type": "avg"}}, "vision_cfg pools by 'avg'"),
        ({"vision_cfg": {"attentional_pool": True}}, "vision_cfg has attentional_pool=True"),
        ({"vision_cfg": {"timm_model_name": "vit"}}, "vision_cfg has timm_model_name='vit'"),
        ({"vision_cfg": {"width": "wide"}}, "model_cfg: vision_cfg.width: expected a whole number, got text"),
        ({"text_cfg": {"no_causal_mask": True}}, "text_cfg has no_causal_mask=True"),
        ({"text_cfg": {"pool_type": "last"}}, "pool_type='last'"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "hf_model_name='roberta-base'"),
        (
            {"preprocess_cfg": {"resize_mode": "squash"}},
            "resize_mode='squash': such a model can't be converted, only 'shortest' can",
        ),
    ],
)
def test_a_config_of_another_function(tmp_path, changes, message):
    described(tmp_path, **changes)
    assert message in refused(written(tmp_path, STATE))


def changed(**others):
    """STATE with other tensors: NAME=None leaves one out; "__" stands for a dot."""
    tensors = STATE | {key.replace("__", "."): value for key, value in others.items()}
    return {key: value for key, value in tensors.items() if value is not None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (changed(ln_final__bias=None, text_projection__bias=np.zeros(3)), "lacks ln_final.bias and has also text_proj"),
        (changed(visual__proj=None), "lacks visual.proj"),
        (changed(text_projection=None), "text_projection"),
        (changed(visual__proj=np.zeros((IMAGE, 7))), "visual.proj has shape [128, 7]"),
        (changed(visual__conv1__weight=np.zeros((IMAGE, 4, PATCH, PATCH))), "visual.conv1.weight has shape"),
        (changed(visual__positional_embedding=np.zeros((7, IMAGE))), "visual.positional_embedding of shape [7, 128]"),
        (changed(token_embedding__weight=np.zeros((100, TEXT))), "has 100 rows, CLIP's tokenizer 49408 ids"),
        (changed(positional_embedding_res=np.zeros((248, TEXT))), "they must have one shape"),
        (changed(positional_embedding_res=np.zeros((30, TEXT)), positional_embedding=None), "lacks positional_emb"),
        (changed(visual__layer1__0__conv1__weight=np.zeros(2)), "ResNet"),
        (changed(visual__trunk__norm__weight=np.zeros(2)), "timm"),
        (changed(logit_bias=np.zeros(2)), "logit_bias of shape [2] is not one finite number"),
        (changed(logit_bias=np.full((), np.nan)), "logit_bias of shape [] is not one finite number"),
        (changed(text_decoder__ln_final__weight=np.zeros(2)), "CoCa"),
        (changed(visual__blocks__0__norm1__weight=np.zeros(2)), "EVA"),
        (changed(visual__blocks__0__PCM__0__weight=np.zeros(2)), "ViTAE"),
        (changed(visual__blocks__0__attn__sampling_offsets__2__bias=np.zeros(2)), "RVSA"),
        (changed(text__transformer__encoder__layer__0__output__dense__bias=np.zeros(2)), "text tower of Hugging Face"),
    ],
)
def test_another_model_is_one_line(tmp_path, tensors, message):
    path = written(tmp_path, tensors)
    line = refused(path)
    assert message in line and path in line
