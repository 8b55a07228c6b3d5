import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.tensors import open_tensors, weights_file

TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.half": np.array([0.5, -2], np.float16),
    "a.double": np.array([1 / 3]),
    "ids": np.arange(4).reshape(1, 4),
    "logit_scale": np.array(2.5, np.float32),
}


@pytest.fixture
def file(tmp_path) -> Path:
    save_file(TENSORS, tmp_path / "some.safetensors")
    return tmp_path / "some.safetensors"


def raw(path, dtype, shape, content: bytes) -> Path:
    """A safetensors file of one tensor in a dtype that numpy has not."""
    header = json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(content)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)
    return path


def sharded(folder) -> Path:
    for shard, key in (("a", "ids"), ("b", "a.weight"), ("b", "a.half")):
        save_file({k: v for k, v in TENSORS.items() if k == key or shard == "b"}, folder / f"{shard}.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"ids": "a.safetensors", "a.weight": "b.safetensors", "a.half": "b.safetensors"}})
    )
    return index


def test_reads_every_tensor_in_its_dtype(file):
    tensors = open_tensors(file)
    assert (tensors.name, tensors.kind) == (str(file), "safetensors")
    assert tensors.keys() == TENSORS.keys() and len(tensors) == 5 and "b" not in tensors
    for key, expected in TENSORS.items():
        assert tensors.shape(key) == expected.shape
        assert tensors[key].dtype == expected.dtype
        np.testing.assert_array_equal(tensors[key], expected)


def test_bfloat16_comes_as_float32(tmp_path):
    # Its bits are the upper half of float32's: 1, -2.5 and the smallest above 1.
    path = raw(tmp_path / "b.safetensors", "BF16", [3], struct.pack("<3H", 0x3F80, 0xC020, 0x3F81))
    found = open_tensors(path)["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([1, -2.5, 1.0078125], np.float32))


def test_refuses_a_dtype_that_numpy_has_not(tmp_path):
    path = raw(tmp_path / "f8.safetensors", "F8_E4M3", [2], b"\0\0")
    with pytest.raises(InputError, match="f8.safetensors: w is stored as F8_E4M3"):
        open_tensors(path)


def test_reads_no_data_before_it_is_asked_to(file):
    tensors = open_tensors(file)
    file.unlink()
    assert tensors.shape("a.weight") == (2, 3) and "a.weight" in tensors
    with pytest.raises(InputError, match="some.safetensors can't be read any more"):
        tensors["a.weight"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_reading_takes_no_second_copy_in_memory(tmp_path):
    save_file({f"w{i}": np.ones((4, 2**18), np.float32) for i in range(24)}, tmp_path / "big.safetensors")  # 96 MiB
    program = """
import re, sys
from lrsclip_jax.pytorch.files.tensors import open_tensors
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
tensors = open_tensors(sys.argv[1])
read = [tensors[key] for key in tensors]
print((peak() - before) / 1024)
"""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "big.safetensors"], cwd=root, check=True, capture_output=True
    )
    assert 96 <= float(run.stdout) < 1.3 * 96


def test_renamed(file):
    names = {"a.weight": "weight", "a.half": "half"}
    renamed = open_tensors(file).renamed(names.get)
    assert set(renamed) == {"weight", "half"} and renamed.name == str(file)
    assert renamed.shape("weight") == (2, 3)
    np.testing.assert_array_equal(renamed["half"], TENSORS["a.half"])
    with pytest.raises(InputError, match=r"has both a\.\w+ and a\.\w+, which are names of one"):
        open_tensors(file).renamed(lambda key: key.split(".")[0])


def test_leaves_out_the_prefix_of_data_parallel_training(tmp_path):
    save_file({f"module.{key}": value for key, value in TENSORS.items()}, tmp_path / "ddp.safetensors")
    assert open_tensors(tmp_path / "ddp.safetensors").keys() == TENSORS.keys()
    save_file(TENSORS | {"module.a": TENSORS["ids"]}, tmp_path / "own.safetensors")
    assert "module.a" in open_tensors(tmp_path / "own.safetensors")  # a name, where not all have it


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_a_torn_file(file, size):
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(
        InputError, match=r"some.safetensors can't be read as safetensors, or is cut short: .+"
    ) as error:
        open_tensors(file)
    assert "\n" not in str(error.value)


def test_files_of_no_known_kind(tmp_path):
    with pytest.raises(InputError, match="none.safetensors is not a file"):
        open_tensors(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=f"{tmp_path} is not a file"):
        open_tensors(tmp_path)
    (tmp_path / "w.h5").touch()
    with pytest.raises(InputError, match="w.h5: weights are read from .safetensors, "):
        open_tensors(tmp_path / "w.h5")
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(InputError, match="empty.safetensors holds no tensors"):
        open_tensors(tmp_path / "empty.safetensors")


def test_shards(tmp_path):
    tensors = open_tensors(sharded(tmp_path))
    assert set(tensors) == {"ids", "a.weight", "a.half"} and tensors.kind == "safetensors"
    for key in tensors:
        np.testing.assert_array_equal(tensors[key], TENSORS[key])


def test_missing_and_wrong_shards(tmp_path):
    index = sharded(tmp_path)
    (tmp_path / "a.safetensors").rename(tmp_path / "c.safetensors")
    with pytest.raises(
        InputError, match=r"'a\.safetensors', a shard that model.safetensors.index.json names, is missing"
    ):
        open_tensors(index)
    save_file({"other": TENSORS["ids"]}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\.safetensors lacks 'ids'"):
        open_tensors(index)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not JSON .*; an index of shards has a weight_map"),
        ("[1]", "expected an object, got a list; an index of shards"),
        ('{"weight_map": {"a": 3, "b": "x"}}', "expected text, got a whole number"),
        (
            '{"weight_map": {"a": "../x.safetensors"}}',
            "names the shard '../x.safetensors', which would not lie next to it",
        ),
        ('{"weight_map": {}}', "holds no tensors"),
    ],
)
def test_a_bad_index(tmp_path, content, message):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(InputError, match=message):
        open_tensors(index)


def test_needs_torch_for_pickled_files_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pt").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(InputError, match=r"w\.pt is read with PyTorch: pip install 'lrsclip_jax\[torch\]'"):
        open_tensors(tmp_path / "w.pt")


def test_which_file_of_a_folder(tmp_path):
    def add(name: str) -> None:
        (tmp_path / name).touch()

    with pytest.raises(InputError, match="holds no weights"):
        weights_file(tmp_path)
    for name in ("config.json", "b.pt"):
        add(name)
    assert weights_file(tmp_path) == tmp_path / "b.pt"
    add("a.safetensors")
    with pytest.raises(
        InputError, match=r"holds several weights \(a.safetensors, b.pt\): name one, as .*a.safetensors"
    ):
        weights_file(tmp_path)
    # Each is better than those before it.
    for name in (
        "open_clip_pytorch_model.bin",
        "pytorch_model.bin",
        "open_clip_model.safetensors",
        "model.safetensors.index.json",
        "model.safetensors",
    ):
        add(name)
        assert weights_file(tmp_path) == tmp_path / name
    with pytest.raises(InputError, match=f"none can't be read: {os.strerror(2)}"):
        weights_file(tmp_path / "none")
