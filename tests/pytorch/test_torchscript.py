import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.tensors import open_tensors

VALUES = np.arange(12, dtype=np.float32)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tuple_of(*items: bytes | int) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", i) if isinstance(i, int) else i for i in items) + b"t"


def wanted(name: str) -> bytes:
    """The opcode that looks up a name."""
    module, _, name = name.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def tensor(offset: int, shape: tuple, strides: tuple, size: int = 12, kind: str = "FloatStorage") -> bytes:
    storage = tuple_of(text("storage"), wanted(f"torch.{kind}"), text("0"), text("cpu"), size) + b"Q"
    hooks = wanted("collections.OrderedDict") + b")R"
    arguments = tuple_of(storage, offset, tuple_of(*shape), tuple_of(*strides), b"\x89", hooks)
    return wanted("torch._utils._rebuild_tensor_v2") + arguments + b"R"


def module(kind: str, **attributes: bytes) -> bytes:
    items = b"".join(text(key) + value for key, value in attributes.items())
    return wanted(kind) + b")\x81}(" + items + b"ub"


def archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("some/data/0", VALUES.tobytes())
        file.writestr("some/data.pkl", b"\x80\x02" + content + b".")
        file.writestr("some/constants.pkl", pickle.dumps(()))
    return path


def test_reads_what_the_pickle_says_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    blocks = module("__torch__.deep.___torch_mangle_0.Blocks", **{"0": module("__torch__.Block", w=tensor(2, (), ()))})
    model = module(
        "__torch__.Model",
        training=b"\x89",
        name=text("a model"),
        ids=wanted("torch.jit._pickle.build_intlist") + tuple_of(b"](J\1\0\0\0e") + b"R",
        whole=tensor(0, (3, 4), (4, 1)),
        turned=tensor(1, (2, 3), (1, 4)),
        blocks=blocks,
    )
    tensors = open_tensors(archive(tmp_path / "m.pt", model))
    assert tensors.kind == "torchscript" and set(tensors) == {"whole", "turned", "blocks.0.w"}
    np.testing.assert_array_equal(tensors["whole"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(tensors["turned"], VALUES[1:].reshape(-1)[[[0, 4, 8], [1, 5, 9]]])
    assert tensors.shape("blocks.0.w") == () and tensors["blocks.0.w"] == 2


@pytest.mark.parametrize("program", ["os.system", "builtins.eval"])
@pytest.mark.parametrize("where", ["attribute", "whole", "state"])
def test_a_pickle_that_wants_more_is_refused_and_nothing_runs(tmp_path, program, where):
    ran = tmp_path / "ran"
    line = f"touch {ran}" if program == "os.system" else f"open({str(ran)!r}, 'w').close()"
    evil = wanted(program) + tuple_of(text(line)) + b"R"
    # What is refused here does run elsewhere.
    pickle.loads(b"\x80\x02" + evil + b".")
    assert ran.exists()
    ran.unlink()
    content = {
        "attribute": module("__torch__.Model", w=tensor(0, (12,), (1,)), x=evil),
        "whole": evil,
        "state": module("__torch__.Model", __setstate__=wanted(program)) + tuple_of(text(line)) + b"b",
    }[where]
    with pytest.raises(InputError, match=rf"m\.pt is refused: it wants {program}, which is no tensor") as error:
        open_tensors(archive(tmp_path / "m.pt", content))
    assert "\n" not in str(error.value) and not ran.exists()


@pytest.mark.parametrize(
    "name", ["torch.load", "torch.hub.load", "torch._utils._rebuild_qtensor", "__torch__x.Model", "collections.Counter"]
)
def test_names_near_the_known_ones_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=f"it wants {name}, "):
        open_tensors(archive(tmp_path / "m.pt", module("__torch__.Model", x=wanted(name))))


@pytest.mark.parametrize(
    "fault",
    [
        tensor(11, (2,), (1,)),
        tensor(0, (3, 4), (4, 2)),
        tensor(3, (2,), (-1,)),
        tensor(-1, (2,), (1,)),
        tensor(0, (2,), (1, 1)),
        tensor(0, (2,), (1,), size=1000),
        tensor(0, (2,), (1,), kind="DoubleStorage"),
        b"K\x01Q",
        b"}",
        b"",
    ],
    ids=["offset", "stride", "backwards", "before", "axes", "size", "dtype", "storage", "no module", "empty"],
)
def test_a_tensor_stays_in_its_storage(tmp_path, fault):
    content = module("__torch__.Model", w=fault) if fault not in (b"}", b"") else fault
    with pytest.raises(InputError, match=r"m\.pt can't be read as a TorchScript archive \(\w+: ") as error:
        open_tensors(archive(tmp_path / "m.pt", content))
    assert "\n" not in str(error.value)


def test_an_empty_tensor_and_one_that_repeats(tmp_path):
    model = module("__torch__.Model", none=tensor(12, (0, 4), (4, 1)), same=tensor(5, (3,), (0,)))
    tensors = open_tensors(archive(tmp_path / "m.pt", model))
    assert tensors["none"].shape == (0, 4)
    np.testing.assert_array_equal(tensors["same"], [5, 5, 5])


def test_damaged_archives(tmp_path):
    path = archive(tmp_path / "m.pt", module("__torch__.Model", w=tensor(0, (12,), (1,))))
    whole = path.read_bytes()
    assert whole.count(VALUES.tobytes()) == 1
    path.write_bytes(whole.replace(VALUES.tobytes(), (VALUES + 1).tobytes()))
    with pytest.raises(InputError, match=r"m\.pt is damaged: .*some/data/0"):
        open_tensors(path)["w"]
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match=r"m\.pt is cut short"):
        open_tensors(path)
    with pytest.raises(InputError, match=r"m\.pt holds no tensors"):
        open_tensors(archive(path, module("__torch__.Model", training=b"\x88")))


def scripted(torch, kind: str, path: Path):
    """A small model with all that OpenAI's have, and its archive."""

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1 = torch.nn.LayerNorm(8)
            self.attn = torch.nn.MultiheadAttention(8, 2)
            self.mlp = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 8))

        def forward(self, x):
            y = self.ln_1(x)
            return x + self.mlp(self.attn(y, y, y, need_weights=False)[0])

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.Sequential(Block(), Block())
            self.proj = torch.nn.Parameter(torch.randn(3, 8).t())  # not contiguous
            self.row = torch.nn.Parameter(torch.randn(5, 8)[2])  # amid a storage
            self.scale = torch.nn.Parameter(torch.tensor(2.0))
            self.tied = self.blocks[0].ln_1.weight
            self.register_buffer("context_length", torch.tensor(77))
            self.register_buffer("mask", torch.ones(2, 2, dtype=torch.bool))
            self.context = 77

        def forward(self, x):
            # Every tensor is used, or a trace would leave it out.
            rest = self.tied.sum() + self.context_length + self.mask.sum() + self.row.sum() + self.context
            return self.blocks(x) @ self.proj * self.scale + rest

    torch.manual_seed(0)
    model = Model().eval()
    made = torch.jit.script(model) if kind == "script" else torch.jit.trace(model, torch.randn(3, 2, 8))
    for name, parameter in made.named_parameters():
        if "mlp" in name or "attn" in name:
            parameter.data = parameter.data.half()
        if name == "row":
            parameter.data = parameter.data.bfloat16()
    made.save(str(path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated, and its checkpoints stay
@pytest.mark.parametrize("kind", ["script", "trace"])
def test_reads_what_torch_reads(tmp_path, monkeypatch, kind):
    torch = pytest.importorskip("torch")
    scripted(torch, kind, tmp_path / "m.pt")
    expected = torch.jit.load(tmp_path / "m.pt").state_dict()
    assert {t.dtype for t in expected.values()} == {
        torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool,
    }  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", None)
    tensors = open_tensors(tmp_path / "m.pt")
    assert tensors.kind == "torchscript" and tensors.keys() == expected.keys()
    for key, value in expected.items():
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        assert tensors.shape(key) == value.shape and tensors[key].dtype == value.dtype
        np.testing.assert_array_equal(tensors[key], value)
