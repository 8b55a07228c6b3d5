"""Checkpoints whose files hold anything: one line that names file and field, no traceback, no memory."""

import itertools
import json
import pickle
import resource
import shutil
import struct
import zipfile

import numpy as np
import pytest
import tiny_clip
from bad_files import borne, refused, spoiled, unreadable
from safetensors.numpy import load_file, save_file

from lrsclip_jax import weights
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import bert, mae, open_clip_config, openai, preprocessor
from lrsclip_jax.pytorch.files.tensors import open_tensors
from lrsclip_jax.pytorch.files.torchscript import scripted_tensors
from lrsclip_jax.pytorch.layout import to_theirs
from lrsclip_jax.pytorch.read import read

HINTS = Hints(activation="gelu", image_heads=1, text_heads=1)
OURS = {"vision_config", "text_config", "model_type", "hidden_act", "layer_norm_eps", "num_attention_heads"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "clip"
    tiny_clip.clip_folder(folder)
    return folder


@pytest.fixture(scope="module")
def params():
    return tiny_clip.parameters(tiny_clip.model())


@pytest.fixture
def copy(clip, tmp_path):
    return shutil.copytree(clip, tmp_path / "copy")


def fast(monkeypatch):
    """Leaves the tensors and their shapes out, which the checks of configs do without."""
    for name in ("shapes", "check", "to_ours"):
        monkeypatch.setattr(f"lrsclip_jax.pytorch.layout.{name}", lambda *_: {})


def test_every_setting_of_a_tower_may_be_anything(copy, monkeypatch):
    fast(monkeypatch)
    config = json.loads((copy / "config.json").read_text())
    read_keys = {key: value for key, value in config.items() if key in OURS}
    for tower in ("vision_config", "text_config"):
        wanted = OURS | {"eos_token_id"}
        read_keys[tower] = {key: value for key, value in config[tower].items() if key in wanted}
    refusals = 0
    for what, text in spoiled(read_keys):
        (copy / "config.json").write_text(text)
        try:
            refusals += not borne(lambda: read(str(copy)), str(copy))
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
    assert refusals > 150


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_config_that_is_no_json_is_named(copy, monkeypatch, file):
    fast(monkeypatch)
    for _ in unreadable(copy / file):
        refused(lambda: read(str(copy)), f"{copy / file}")


def test_every_setting_of_a_preprocessor_may_be_anything(clip, tmp_path):
    settings = json.loads((clip / "preprocessor_config.json").read_text())
    path = tmp_path / "preprocessor_config.json"
    for what, text in spoiled(settings):
        path.write_text(text)
        try:
            borne(lambda: preprocessor.preprocessing(tmp_path, 32, tiny_clip.PREPROCESSING), str(path))
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
    for std in ([0, 0, 0], [0.5, 0.5, -1]):
        path.write_text(json.dumps(settings | {"image_std": std}))
        refused(lambda: preprocessor.preprocessing(tmp_path, 32, tiny_clip.PREPROCESSING), f"{path}: image_std[")


OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "head_width": 64, "mlp_ratio": 4.0}
        | {"norm_kwargs": {"eps": 1e-5}, "pool_type": "tok", "no_ln_pre": False, "final_ln_after_pool": False},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1, "mlp_ratio": 4.0}
        | {"norm_kwargs": None},
    },
    "preprocess_cfg": {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "mode": "RGB"},
}


def test_every_setting_of_open_clip_may_be_anything(monkeypatch, tmp_path, params):
    fast(monkeypatch)
    save_file(openai.open_clip_tensors(params, tiny_clip.model()), tmp_path / "open_clip_model.safetensors")
    path = tmp_path / openai.CONFIG
    path.write_text(json.dumps(OPEN_CLIP))
    read(str(tmp_path))
    refusals = 0
    for what, text in spoiled(OPEN_CLIP):
        path.write_text(text)
        try:
            refusals += not borne(lambda: read(str(tmp_path)), str(tmp_path))
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
    assert refusals > 350
    assert open_clip_config.towers(OPEN_CLIP, "here")[2]["size"] == 32


def test_every_setting_of_timm_may_be_anything(tmp_path, monkeypatch):
    fast(monkeypatch)
    tiny_clip.mae_file(tmp_path)
    for what, text in spoiled({"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}}):
        (tmp_path / "config.json").write_text(text)
        try:
            borne(lambda: read(str(tmp_path / "mae.safetensors"), HINTS), str(tmp_path))
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
    assert mae.FAMILY == "MAE"


def test_a_vocabulary_may_be_anything(tmp_path):
    path = tmp_path / "tokenizer.json"
    for _, text in itertools.islice(spoiled({"model": {"vocab": {"a": 0, "b": 1}}}), 0, None, 7):
        path.write_text(text)
        refused(lambda: bert.check_vocabulary(tmp_path), str(path))
    for _ in unreadable(path):
        refused(lambda: bert.check_vocabulary(tmp_path), str(path))
    path.unlink()
    (tmp_path / "vocab.txt").write_bytes(b"\xff\n")
    refused(lambda: bert.check_vocabulary(tmp_path), "vocab.txt: not UTF-8 (byte 1)")


def test_an_index_of_shards_may_be_anything(tmp_path):
    save_file({"a": np.ones(3, np.float32)}, tmp_path / "a.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    for _, text in spoiled({"weight_map": {"a": "a.safetensors"}}):
        path.write_text(text)
        refused(lambda: open_tensors(path), str(tmp_path))
    for name in ("..", "/etc/passwd", "x" * 300, "a\0b", "a\nb"):
        path.write_text(json.dumps({"weight_map": {"a": name}}))
        refused(lambda: open_tensors(path), str(path.name))
    for _ in unreadable(path):
        refused(lambda: open_tensors(path), str(path))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "clip_model.", "a.b.c."])
def test_prefixes_that_all_names_share_are_taken_off(tmp_path, prefix, params):
    tensors = openai.open_clip_tensors(params, tiny_clip.model())
    save_file({prefix + key: value for key, value in tensors.items()}, tmp_path / "a.safetensors")
    found = read(str(tmp_path / "a.safetensors"), HINTS)
    np.testing.assert_array_equal(found.params["image"]["projection"]["kernel"], tensors["visual.proj"])
    assert found.family == openai.OPEN_CLIP and found.unused == ()


def test_names_that_wrappers_put_inside_are_taken_off(tmp_path, params):
    tensors = openai.open_clip_tensors(params, tiny_clip.model())
    inside = itertools.cycle(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
    wrapped = {key.replace("resblocks.0.", f"resblocks.0.{next(inside)}."): value for key, value in tensors.items()}
    save_file({f"module.{key}": value for key, value in wrapped.items()}, tmp_path / "a.safetensors")
    assert read(str(tmp_path / "a.safetensors"), HINTS).family == openai.OPEN_CLIP
    save_file({"a": np.ones(1), "_orig_mod.a": np.ones(1)}, tmp_path / "b.safetensors")
    refused(lambda: open_tensors(tmp_path / "b.safetensors"), "names of one tensor")


def test_a_model_among_the_parts_of_a_training_program(tmp_path, params):
    tensors = openai.open_clip_tensors(params, tiny_clip.model())
    path = tmp_path / "a.safetensors"
    model = {f"lit.model._orig_mod.{key}": value for key, value in tensors.items()}
    save_file(model | {"lit.criterion.weight": np.ones(3), "lit.best": np.ones(1)}, path)
    found = read(str(path), HINTS)
    assert (found.family, found.unused) == (openai.OPEN_CLIP, ("best", "criterion.weight"))
    np.testing.assert_array_equal(found.params["image"]["projection"]["kernel"], tensors["visual.proj"])
    both = {f"{part}.{key}": value for key, value in tensors.items() for part in ("student", "teacher")}
    save_file(both, path)
    refused(lambda: read(str(path), HINTS), f"{path} holds several models, under student. and teacher.: save")


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "\u202eb", "x" * 5000, ""])
def test_names_that_no_line_can_hold_are_refused(tmp_path, name):
    save_file({name: np.ones(3, np.float32), "b": np.ones(3, np.float32)}, tmp_path / "a.safetensors")
    if name:
        refused(lambda: open_tensors(tmp_path / "a.safetensors"), "can't be the name of a tensor")
    else:
        borne(lambda: read(str(tmp_path / "a.safetensors")), "a.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(copy, value):
    tensors = load_file(copy / "model.safetensors")
    for key in ("visual_projection.weight", "text_model.encoder.layers.0.self_attn.v_proj.bias", "logit_scale"):
        damaged = tensors[key].copy()
        damaged[(-1,) * damaged.ndim] = value
        save_file(tensors | {key: damaged}, copy / "model.safetensors", metadata={"format": "pt"})
        refused(lambda: weights.read(str(copy)), f"{copy}/model.safetensors: {key} holds NaN or infinite numbers")
    double = np.array(1e300)
    save_file(tensors | {"logit_scale": double}, copy / "model.safetensors")
    refused(lambda: weights.read(str(copy)), "logit_scale holds NaN or infinite")
    for scale in (1e30, -1e30, 90):
        save_file(tensors | {"logit_scale": np.array(scale, np.float32)}, copy / "model.safetensors")
        refused(lambda: weights.read(str(copy)), "logit_scale is", "no float holds")


def test_large_numbers_that_are_finite_are_read(copy):
    tensors = load_file(copy / "model.safetensors")
    big = np.full_like(tensors["visual_projection.weight"], 3e38)  # their sum is no float32
    save_file(tensors | {"visual_projection.weight": big}, copy / "model.safetensors")
    assert weights.read(str(copy)).params["image"]["projection"]["kernel"].max() == np.float32(3e38)


def safetensors_file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [10**10, 512], "data_offsets": [0, 20_480_000_000_000]}},
        {"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 16]}},
        {"a": {"dtype": 5, "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"a": []},
        [],
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"\\ud800": 1}',
        b"\xff\xfe",
        b"",
        b"9" * 5000,
    ],
)
def test_a_header_of_safetensors_may_be_anything(tmp_path, header):
    path = safetensors_file(tmp_path / "a.safetensors", header, bytes(16))
    refused(lambda: open_tensors(path), str(path))


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    for length in (2**63, 2**64 - 1, 10**9, 100):
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
        refused(lambda: open_tensors(tmp_path / "a.safetensors"), "a.safetensors")


# TorchScript archives, without torch: what their pickles build.
MODULE = b"c__torch__\nM\n"


def archive(path, data, storages=(), method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", data)
        file.writestr("a/constants.pkl", b"\x80\x02).")
        for key, content in enumerate(storages):
            file.writestr(f"a/data/{key}", content, method)
    return path


def pickled(state):
    """A pickle of one module with this state, which the opcodes in `state` make."""
    return b"\x80\x02" + MODULE + b")\x81" + state + b"b."


def tensor(shape, strides, size=4, offset=0):
    def ints(values):
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuI%d\ntQ" % size
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"I%d\n" % offset
        + ints(shape)
        + ints(strides)
        + b"I00\nNtR"
    )


def named(name, value):
    return b"}X" + struct.pack("<I", len(name)) + name.encode() + value + b"s"


def test_a_scripted_tensor_is_read(tmp_path):
    path = archive(tmp_path / "a.pt", pickled(named("w", tensor([2, 2], [2, 1]))), [np.arange(4, dtype="f4").tobytes()])
    found = open_tensors(path)
    assert found.kind == "torchscript"
    np.testing.assert_array_equal(found["w"], [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("shape", "strides", "size", "offset"),
    [
        ([10**10, 512], [0, 0], 4, 0),  # one number that stands for many
        ([2, 4], [0, 1], 4, 0),
        ([5], [1], 4, 0),
        ([2], [1], 4, 3),
        ([2], [1], 4, -1),
        ([-2], [1], 4, 0),
        ([4], [1], 10**12, 0),
        ([4, 1], [1], 4, 0),
    ],
)
def test_a_scripted_tensor_that_claims_more_than_its_storage_is_refused(tmp_path, shape, strides, size, offset):
    path = archive(tmp_path / "a.pt", pickled(named("w", tensor(shape, strides, size, offset))), [bytes(16)])
    refused(lambda: open_tensors(path), str(path))


def test_compressed_storage_is_refused(tmp_path):
    data = pickled(named("w", tensor([10**7], [1], 10**7)))
    path = archive(tmp_path / "a.pt", data, [bytes(4 * 10**7)], zipfile.ZIP_DEFLATED)
    refused(lambda: open_tensors(path), "a/data/0 is compressed")


def test_modules_that_hold_each_other_have_an_end(tmp_path):
    itself = b"\x80\x02" + MODULE + b")\x81q\x00" + named("m", b"h\x00") + b"b."
    refused(lambda: scripted_tensors(archive(tmp_path / "a.pt", itself)), "modules hold each other")
    # Thirty modules, each of which holds the next one twice: two to the thirtieth names.
    doubled = b"\x80\x02" + MODULE + b")\x81q\x00"
    for number in range(30):
        doubled += MODULE + b")\x81}(X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cub" % (number, number)
        doubled += b"q%c" % (number + 1)
    refused(lambda: scripted_tensors(archive(tmp_path / "b.pt", doubled + b".")), "there is no end of them")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80\x02N.",
        b"\x80\x02]q\x00h\x00a.",
        b"\x80\x02r\xff\xff\xff\x7fN.",
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # the two billionth object to be remembered
        b"\x80\x04\x95" + b"\xff" * 8,
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
        b"I" + b"9" * 5000 + b"\n.",
        b"(" * 10**5 + b".",
        pickle.dumps({"a": [1, 2, {"b": 3}]}),
        pickled(b"]"),
        pickled(named("w", b"ctorch\nFloatStorage\n")),
        b"cposix\nsystem\n(X\x01\x00\x00\x00atR.",
        b"cposix\rand\x0b\nsystem\x1c\n.",
        b"c" + b"posix" * 1000 + b"\nsystem\n.",
    ],
)
def test_a_pickle_of_an_archive_may_be_anything(tmp_path, data):
    path = archive(tmp_path / "a.pt", data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    borne(lambda: open_tensors(path), str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_what_torch_saves_may_claim_anything(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(1).expand(10**10, 512)}, path)
    refused(lambda: open_tensors(path), "'w' has the shape [10000000000, 512] and fewer numbers")
    loop = {"state_dict": {}}
    loop["state_dict"]["state_dict"] = loop["state_dict"]
    torch.save(loop, path)
    refused(lambda: open_tensors(path), "holds no tensors")
    torch.save({"module": {"w": torch.ones(3), "position_ids": torch.arange(5).expand(1, -1)}}, path)
    assert sorted(open_tensors(path)) == ["position_ids", "w"]
    torch.save({"a\nb": torch.ones(3)}, path)
    refused(lambda: open_tensors(path), "can't be the name")
    torch.save({"\n" * 5: 3, 4: 5}, path)
    refused(lambda: open_tensors(path), "holds no tensors of a model")
    torch.save({"visual.proj": torch.ones(3, dtype=torch.complex64)}, path)
    refused(lambda: read(str(path), HINTS), str(path))


def test_a_zip_file_of_several_disks_is_refused(tmp_path):
    path = archive(tmp_path / "a.pt", b".")
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    path.write_bytes(content[:end] + b"PK\x06\x07" + bytes(12) + struct.pack("<I", 2) + content[end:])
    refused(lambda: open_tensors(path), f"{path} is damaged (zipfiles that span multiple disks")


@pytest.mark.slow
def test_misshapen_tensors_are_one_line(tmp_path, params):
    text = tiny_clip.model(text={"kind": "bert", "context_length": 100})
    families = {
        "openai": openai.open_clip_tensors(params, tiny_clip.model()),
        "bert": to_theirs(bert.table(), tiny_clip.parameters(text, seed=1)),
    }
    rng = np.random.default_rng(0)
    path = tmp_path / "a.safetensors"
    for tensors in families.values():
        for key in rng.permutation(sorted(tensors))[:4].tolist():
            value = tensors[key]
            for other in (value[None, None], value.ravel()[:0], None):
                changed = {name: one for name, one in tensors.items() if name != key}
                if other is not None:
                    changed[key] = np.ascontiguousarray(other)
                save_file(changed, path)
                refused(lambda: read(str(path), HINTS), str(path))


def test_bytes_of_archives_and_safetensors_may_be_anything(tmp_path):
    """Flipped bits, other bytes, cuts and repeats."""
    rng = np.random.default_rng(0)
    script = archive(tmp_path / "s.pt", pickled(named("w", tensor([2, 2], [2, 1]))), [bytes(16)]).read_bytes()
    small = safetensors_file(
        tmp_path / "a.safetensors", {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)
    ).read_bytes()
    for content, name in ((script, "s.pt"), (small, "a.safetensors")):
        for _ in range(300):
            damaged = mutated(content, rng)
            (tmp_path / name).write_bytes(damaged)

            def everything(path=tmp_path / name):
                found = open_tensors(path)
                for key in found:
                    found[key]

            borne(everything, name)


def mutated(content, rng):
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(data))) if data else 0
        match int(rng.integers(4)):
            case 0 if data:
                data[at] ^= 1 << int(rng.integers(8))
            case 1 if data:
                data[at] = int(rng.integers(256))
            case 2:
                del data[at : at + int(rng.integers(1, 20))]
            case _:
                data[at:at] = data[at : at + int(rng.integers(1, 20))]
    return bytes(data)
