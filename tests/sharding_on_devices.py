"""Cases of test_sharding.py that need eight devices: prints one JSON line of what it found."""

import functools
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from lrsclip_jax import config as configs
from lrsclip_jax import host_memory, sharding
from lrsclip_jax.config.facts import offloads
from lrsclip_jax.data.batches.batch import BatchShape, packed, text_lengths
from lrsclip_jax.data.native import cut
from lrsclip_jax.data.prepared.records import KINDS
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models import adapt_rules, native, zoo
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.optimizer import create
from lrsclip_jax.step import batch_layout, initial_state, make_train_step, state_shapes, step_options

PAIRS = 16
TOWER = {"width": 32, "layers": 2, "heads": 2, "embed_dim": 16}
KEYS = {
    "batch_size": PAIRS,
    "data.packed": False,
    "data.row_length": 16,
    "data.long_length": 12,
    "data.short_length": 5,
    "model.image.size": 16,
    "optimizer.learning_rate": 0.5,
    "loss.chunk": 3,
}
TEXTS = {"clip": {"kind": "transformer", "end_token": 59}, "bert": {"kind": "bert"}}
# Adapters of every kind in the towers next to BERT, and in BERT
ADAPT = adapt_rules.resolved(
    (("image/.*", "unipelt", 3, 8, 2), (".*", "lora", 2, 4.0, 0.3), (".*", "adapter", 8), (".*", "prefix", 3))
)
HALF = {"model.image.patch_dropout": 0.5}
host_memory._LEAST = 20_000  # of arrays this small some wait in host memory
OFFLOADED = {"train.microbatches": 2, "train.offload": "images"}
PACKED = {"loss.form": "gather", "train.microbatches": 2, "data.packed": True}
PATCHES = {"loss.patches": 0.5}
# mesh (data, fsdp, tensor), text tower and overrides; the first with a text tower and with or without the patch term is
# what the others must equal
CASES = [
    ((1, 1, 1), "clip", {"loss.form": "full"}),
    ((8, 1, 1), "clip", {"loss.form": "ring", "data.packed": True}),
    ((2, 2, 2), "clip", {"loss.form": "gather", "model.image.remat": "full"} | OFFLOADED),
    ((2, 2, 2), "clip", PACKED | {"train.offload": "optimizer"}),
    ((1, 8, 1), "clip", {"loss.form": "ring", "train.microbatches": 2, "model.text.remat": "names:qkv,attention"}),
    ((1, 1, 1), "bert", {"loss.form": "full"} | HALF),
    ((2, 2, 2), "bert", {"loss.form": "ring", "data.packed": True} | OFFLOADED | HALF),
    ((2, 2, 2), "clip", {"loss.form": "ring", "train.microbatches": 2, "model.image.resolution": "native"}),
    ((2, 2, 2), "clip", PACKED),
    ((1, 1, 1), "clip", {"loss.form": "full"} | PATCHES),
    ((2, 2, 2), "clip", {"loss.form": "ring", "data.packed": True} | OFFLOADED | PATCHES),
]


def batch(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def texts(length):
        ids = rng.integers(1, 58, (PAIRS, length), dtype=np.int32)
        ids[:, 0], ids[np.arange(PAIRS), rng.integers(2, length, PAIRS)] = 58, 59
        return ids

    return {
        "image": rng.integers(0, 256, (PAIRS, 16, 16, 3), np.uint8),
        "long": texts(12),
        "short": texts(5),
        "has_long": rng.random(PAIRS) < 0.8,
        "has_short": rng.random(PAIRS) < 0.8,
    }


def packed_rows(padded: dict[str, np.ndarray], shape: BatchShape, lengths: dict[str, np.ndarray]) -> dict:
    """The same batch with its texts in rows that they share."""
    lengths = {kind: np.where(padded[f"has_{kind}"], lengths[kind], 0) for kind in KINDS}
    texts = {
        kind: [row[:length] if length else None for row, length in zip(padded[kind], lengths[kind], strict=True)]
        for kind in KINDS
    }
    return {"image": padded["image"]} | packed(texts, shape, np.arange(PAIRS), text_lengths(texts))


def shared_rows(batch: dict[str, np.ndarray], model: CLIP, groups: int) -> dict[str, np.ndarray]:
    """The same batch with its images in rows, as if they were of any shape."""
    lay = native.image_rows(model.image)
    images = [cut(image, lay.patch) for image in batch.pop("image")]
    return lay.shared(images, np.full((PAIRS, 2), model.image.size // lay.patch), groups) | batch


def create_model(text: str, image_remat: str = "none", text_remat: str = "none", patch_dropout: float = 0.0) -> CLIP:
    adapt = ADAPT if text == "bert" else {"image": (), "text": ()}
    return zoo.create(
        "tiny",
        image={"adapt": adapt["image"]} | TOWER | {"size": 16, "remat": image_remat, "patch_dropout": patch_dropout},
        text={"adapt": adapt["text"]}
        | TOWER
        | {"vocab_size": 60, "context_length": 12, "remat": text_remat}
        | TEXTS[text],
    )


@functools.cache
def start(text: str) -> Any:
    """The parameters before the first update, the same for every mesh."""
    return jax.jit(lambda: init_params(create_model(text), jax.random.key(0)))()


def train(mesh_shape: tuple[int, int, int], text: str, overrides: dict) -> tuple[list[float], list[np.ndarray], dict]:
    """Two updates; returns their losses, the parameters, and how some arrays lie on the devices."""
    keys = KEYS | overrides | dict(zip(("mesh.data", "mesh.fsdp", "mesh.tensor"), mesh_shape, strict=True))
    config = configs.load("configs/vitb16.py", [f"{key}={value}" for key, value in keys.items()])
    mesh = sharding.make_mesh(config.mesh, jax.devices()[: int(np.prod(mesh_shape))])
    image = config.model.image
    model = create_model(text, image.remat, config.model.text.remat, image.get("patch_dropout", 0.0))
    optimizer = create(config.optimizer, start(text), total_steps=9, steps_per_epoch=9)
    offload = offloads(config, "optimizer")
    shapes = state_shapes(start(text), optimizer, mesh, config.mesh.rules, offload=offload)
    state = initial_state(start(text), optimizer, shapes)
    options = step_options(config, total_steps=9)
    step = make_train_step(model, optimizer, Preprocessing(16, (0.5,) * 3, (0.2,) * 3), options, shapes)
    losses = []
    for seed in range(2):
        rows = batch(seed)
        if config.data.packed:
            lengths = {kind: np.asarray(model.text.lengths(rows[kind])) for kind in KINDS}
            rows = packed_rows(rows, batch_layout(config, mesh), lengths)
        if image.resolution == "native":
            rows = shared_rows(rows, model, sharding.batch_shards(mesh) * config.train.microbatches)
        offloaded = batch_layout(config, mesh).offloaded
        state, metrics = step(state, sharding.to_devices(rows, mesh, offloaded=offloaded))
        losses.append(float(metrics["loss"]))
    kernel = state.params["image"]["blocks"]["mlp"]["fc1"]["kernel"]
    momentum = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == kernel.shape]
    assert {leaf.sharding.memory_kind for leaf in momentum} == {sharding.HOST if offload else "device"}
    layout = {
        "kernel": kernel.addressable_shards[0].data.size / kernel.size,
        "momentum": momentum[0].addressable_shards[0].data.size / kernel.size,
    }
    return losses, [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)], layout


def main() -> None:
    found: dict[str, Any] = {"layouts": [], "loss": [], "params": []}
    references = {}
    for mesh_shape, text, overrides in [CASES[int(number)] for number in sys.argv[1:]]:
        losses, params, layout = train(mesh_shape, text, overrides)
        if PACKED.items() <= overrides.items():  # with its optimizer's state in either memory
            twin = references.setdefault("packed", (losses, params))
            found["same_bits"] = losses == twin[0] and all(map(np.array_equal, params, twin[1]))
        expected_losses, expected = references.setdefault((text, "loss.patches" in overrides), (losses, params))
        found["layouts"].append(layout)
        found["loss"].append(max(abs(a - b) / abs(b) for a, b in zip(losses, expected_losses, strict=True)))
        found["params"].append(
            max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(params, expected, strict=True))
        )

    config = configs.defaults()
    config.mesh.fsdp, config.mesh.tensor = 2, 2
    mesh = sharding.make_mesh(config.mesh)
    rows = {"x": np.arange(24).reshape(8, 3)}
    placed = sharding.to_devices(rows, mesh)["x"]
    found["rows"] = bool((np.asarray(placed) == rows["x"]).all()) and placed.sharding.spec == PartitionSpec(
        ("data", "fsdp")
    )
    found["local_rows"] = sharding.local_rows(8, mesh).tolist()
    inside = jax.jit(sharding.on_mesh(mesh, lambda x: sharding.constrain(x + 1, None, "tensor")))
    found["constrained"] = str(inside(jax.device_put(jnp.zeros((4, 4)), sharding.replicated(mesh))).sharding.spec)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
