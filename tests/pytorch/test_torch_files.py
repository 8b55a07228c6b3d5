import argparse
import functools
import os
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.tensors import open_tensors

torch = pytest.importorskip("torch")

STATE = {
    "visual.proj": torch.arange(6.0).reshape(2, 3).t(),  # not contiguous
    "ln.weight": torch.tensor([1, 0.1], dtype=torch.float16),
    "logit_scale": torch.nn.Parameter(torch.tensor(4.6)),
    "ids": torch.arange(3),
}


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    """Writes an object as torch.save does, now or before PyTorch 1.6."""

    def write(content, name: str = "model.pt") -> Path:
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=request.param == "zip")
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "args": {"lr": 0.1}},
        lambda state: {"model_state_dict": state, "loss": torch.ones(())},
        lambda state: {"epoch": 3, "name": "run", "state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"ema": {"module": state, "updates": 5}, "epoch": 3},
        lambda state: {"net": state, "ema": {"decay": 0.999}},
        lambda state: state | {"epoch": 3, "history": [torch.ones(2)], 5: torch.ones(2)},
    ],
    ids=[
        "bare",
        "state_dict",
        "model",
        "model_state_dict",
        "open_clip",
        "twice",
        "average",
        "settings",
        "among others",
    ],
)
def test_the_state_dict_in_its_wrappers(save, wrap):
    tensors = open_tensors(save(wrap(STATE)))
    assert tensors.kind == "pt" and tensors.keys() == STATE.keys()
    for key, expected in STATE.items():
        expected = expected.detach().numpy()
        assert tensors.shape(key) == expected.shape and tensors[key].dtype == expected.dtype
        np.testing.assert_array_equal(tensors[key], expected)


def test_the_last_weights_and_their_average_are_two_models(save):
    with pytest.raises(InputError, match=r"the last weights under 'model' and their average under 'model_ema': save"):
        open_tensors(save({"model": STATE, "model_ema": STATE}))


def test_bfloat16_comes_as_float32(save):
    weight = torch.linspace(-3, 3, 50).bfloat16()
    found = open_tensors(save({"w": weight}, "w.bin"))["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, weight.float().numpy())


def test_an_array_does_not_change_with_its_file(save):
    path = save({"w": torch.ones(1000)})
    found = open_tensors(path)["w"]
    path.write_bytes(b"\xff" * path.stat().st_size)
    np.testing.assert_array_equal(found, np.ones(1000))


class Command:
    def __init__(self, text: str):
        self.text = text

    def __reduce__(self):
        return os.system, (self.text,)


def test_arguments_and_numbers_next_to_the_weights_are_left_out(save):
    other = {
        "args": argparse.Namespace(lr=1, deep=argparse.Namespace(path=Path("a")), shape=np.ones(3)),
        "best": np.float64(0.7),
        "seen": np.array(["a", None], object),
        "history": defaultdict(list, {"loss": [np.float32(1)]}),
        "counts": defaultdict(int, {"w": 3}),
    }
    tensors = open_tensors(save({"model": defaultdict(int, STATE)} | other))
    assert tensors.keys() == STATE.keys()
    np.testing.assert_array_equal(tensors["ids"], [0, 1, 2])
    with pytest.raises(InputError, match="holds no tensors of a model, only 'args', 'best'"):
        open_tensors(save(other))


def test_nothing_of_a_foreign_object_is_made(save, monkeypatch):
    path = save({"model": STATE, "args": Called(argparse.Namespace)})
    monkeypatch.setattr(argparse.Namespace, "__init__", lambda *_: pytest.fail("made"))
    open_tensors(path)


HOSTILE = {
    "a command": lambda ran: Command(f"touch {ran}"),
    "in a namespace": lambda ran: argparse.Namespace(a=[argparse.Namespace(b={"c": Command(f"touch {ran}")})]),
    "in an array": lambda ran: np.array([Command(f"touch {ran}")], object),
    "eval": lambda ran: Called(eval, f"open({str(ran)!r}, 'w')"),
    "getattr": lambda ran: Called(getattr, "a", "upper"),
    "a partial": lambda ran: functools.partial(os.system, f"touch {ran}"),
    "a huge array of bytes": lambda ran: Called(bytearray, 10**11),
}


class Called:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_pickle_that_wants_more_is_refused_by_name(save, tmp_path, hostile):
    ran = tmp_path / "ran"
    path = save({"model": STATE, "more": hostile(ran)})
    with pytest.raises(InputError, match=r"model.pt is refused: it wants [\w.]+, which is no tensor") as error:
        open_tensors(path)
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)
    assert not ran.exists()


def test_a_pickled_module_is_refused_by_name(save):
    with pytest.raises(InputError, match=r"is refused: it wants torch.nn.modules.linear.Linear"):
        open_tensors(save(torch.nn.Linear(2, 2)))


def zipped(path: Path, pickle: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle)
        archive.writestr("a/version", b"3\n")
    return path


@pytest.mark.parametrize(
    "pickle",
    [
        b"\x80\x02" + b"(" * 10**5 + b"t" * 10**5 + b".",  # tuples, one in the other
        b"\x80\x02" + b"]" + b"]a" * 5 + b"(" * 10**5 + b"l" * 10**5 + b".",
        b"\x80\x02cos\x1b[31m\nsystem\n.",
        b"\x80\x02c\xff\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # a name from the stack
        b"\x80\x02(S'touch ran'\nios\nsystem\n.",
        b"\x80\x02X\xff\xff\xff\x7fa.",
    ],
    ids=["tuples", "lists", "escape", "no UTF-8", "stack", "instance", "string"],
)
def test_pickles_that_no_torch_wrote_are_one_line(tmp_path, pickle):
    path = zipped(tmp_path / "a.pt", pickle)
    with pytest.raises(InputError) as error:
        open_tensors(path)
    line = str(error.value)
    assert line.startswith(f"{path} ") and line.isprintable()


def test_a_pickle_that_unpacks_to_more_than_any_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lrsclip_jax.pytorch.files.pickles._LARGEST", 1 << 20)
    path = zipped(tmp_path / "a.pt", bytes(1 << 20) + b".")
    with pytest.raises(InputError, match=r"a/data.pkl has 1,048,577 bytes, at most 1,048,576 are read"):
        open_tensors(path)


def test_files_without_a_model(save):
    with pytest.raises(InputError, match="model.pt holds no tensors of a model, only 'epoch', 'optimizer'"):
        open_tensors(save({"epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}}))
    with pytest.raises(InputError, match="model.pt holds no tensors of a model, only an empty dict"):
        open_tensors(save({"state_dict": {}}))
    with pytest.raises(InputError, match="model.pt holds a list, not a state dict"):
        open_tensors(save([torch.ones(2)]))


def test_tensors_that_numpy_has_not(save):
    tensors = open_tensors(save({"a": torch.ones(2), "s": torch.eye(3).to_sparse(), "m": torch.ones(2, device="meta")}))
    np.testing.assert_array_equal(tensors["a"], np.ones(2))
    with pytest.raises(InputError, match="model.pt: s is stored as float32 sparse_coo on cpu"):
        tensors["s"]
    with pytest.raises(InputError, match="model.pt: m is stored as float32 strided on meta"):
        tensors["m"]


@pytest.mark.parametrize("size", [0.02, 0.5, 0.99])
def test_a_torn_file(save, size):
    path = save({"w": torch.ones(100, 100)})
    path.write_bytes(path.read_bytes()[: int(size * path.stat().st_size)])
    with pytest.raises(InputError, match=r"model\.pt .*cut short") as error:
        open_tensors(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_foreign_file(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pth can't be read as a file of torch.save"):
        open_tensors(tmp_path / "w.pth")
