"""The comparison with PyTorch: both sides do the same work, on texts as long as LRS2M's, and it is counted right."""

import numpy as np
import pytest
from scipy.stats import lognorm

from benchmarks import epoch, step
from benchmarks.lengths import texts
from benchmarks.programs import Job, Prepared, batch_of
from lrsclip_jax import config as configs
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING
from lrsclip_jax.plan.lrs2m_lengths import drawn_lengths, subsets
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.families import huggingface
from lrsclip_jax.sharding import to_devices
from lrsclip_jax.weights import build_model

PAIRS, END = 6, 59


def test_lengths_are_log_normal_with_the_means_of_the_table():
    """The share of texts up to each length, beside SciPy's mixture of the eleven distributions."""
    drawn = drawn_lengths(50_000, seed=0)
    shares = np.array([part.pairs for part in subsets()]) / sum(part.pairs for part in subsets())
    at = np.arange(8, 248)
    for lengths, kind, variation in ((drawn.long, "long", 0.25), (drawn.short, "short", 0.35)):
        means = np.array([getattr(part, kind) for part in subsets()])[:, None]
        sigma = np.sqrt(np.log1p(variation**2))
        mixture = shares @ lognorm.cdf(at + 0.5, sigma, scale=means / np.sqrt(1 + variation**2))
        np.testing.assert_allclose((lengths[:, None] <= at).mean(axis=0), mixture, atol=0.01)
        assert 8 <= lengths.min() and lengths.max() <= 248
    # Both texts of a pair are of one subset: where long ones are longer, so are short ones.
    assert np.corrcoef(drawn)[0, 1] > 0.3
    again, other = drawn_lengths(9, 1), drawn_lengths(9, 2)
    assert np.array_equal(again, drawn_lengths(9, 1)) and not np.array_equal(again, other)


@pytest.mark.exhaustive
def test_both_sides_train_alike():
    """Three updates of one small model, our texts packed, theirs padded: the losses stay equal, so do the gradients."""
    torch = pytest.importorskip("torch")
    from benchmarks import jax_step, torch_step

    tower = ("width=32", "layers=2", "heads=2", "embed_dim=16")
    fields = [f"model.{side}.{field}" for side in ("image", "text") for field in tower]
    fields += ["model.image.size=16", "model.image.patch=8", "model.text.vocab_size=60", f"model.text.end_token={END}"]
    lengths = ("model.text.context_length=24", "data.long_length=24", "data.short_length=24")
    keys = (*lengths, "model.text.frozen_positions=0", "data.packed=True", "data.row_length=32")
    recipe = ("model.name=custom", f"batch_size={PAIRS}", "optimizer.learning_rate=0.05", "optimizer.weight_decay=0.01")
    config = configs.load("configs/vitb16.py", [*recipe, *fields, *keys])
    model = build_model(config)
    theirs = torch_step.TorchCLIP(model)
    with torch.no_grad():  # the first weights are so small that all losses would be ln 6
        for value in theirs.parameters():
            value += 0.2 * torch.randn_like(value)
    state = {key: value.detach().numpy().copy() for key, value in theirs.state_dict().items()}
    ours = jax_step.build(config, layout.to_ours(huggingface.table(), layout.shapes(model), state), CLIP_PREPROCESSING)

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (PAIRS, 16, 16, 3), np.uint8)
    long, short = (texts(rng.integers(low, 25, PAIRS), END, rng) for low in (16, 4))
    batch = to_devices(batch_of(config, images, long, short), ours.mesh)
    rows = {kind: np.zeros((PAIRS, 24), int) for kind in ("long", "short")}
    for kind, found in (("long", long), ("short", short)):
        for row, ids in zip(rows[kind], found, strict=True):
            row[: len(ids)] = ids
    rows = {key: torch.from_numpy(value) for key, value in (rows | {"image": images}).items()}
    update, state, losses = torch_step.make_train_step(theirs, config), ours.first_state(), []
    for _ in range(3):
        state, metrics = ours.step(state, batch)
        losses.append((float(metrics["loss"]), update(rows).item()))
    found, expected = np.array(losses).T
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert np.abs(np.diff(expected)).min() > 1e-3 and abs(expected[0] - np.log(PAIRS)) > 0.1


def test_the_model_in_pytorch_is_that_of_transformers():
    """Rows of both towers with CLIPModel's own random weights, texts that end early among them."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from benchmarks.torch_clip import TorchCLIP

    model = build_model(configs.load("configs/vitb16.py", ["model.name=tiny", "model.image.size=64"]), "cpu")
    dims = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
    end = model.text.end_token
    text = dims | {"max_position_embeddings": 248, "bos_token_id": end - 1, "eos_token_id": end}
    vision = dims | {"image_size": 64, "patch_size": 8}
    theirs = transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=64, attn_implementation="sdpa")
    ).eval()
    ours = TorchCLIP(model)
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.normal(size=(3, 3, 64, 64)).astype(np.float32))
    ids = torch.zeros(3, 20, dtype=torch.int64)
    for row, found in zip(ids, texts(np.array([9, 20, 2]), end, rng), strict=True):
        row[: len(found)] = torch.from_numpy(found)
    with torch.no_grad():
        for mine, other in (
            (ours.images(pixels), theirs.get_image_features(pixels)),
            (ours.texts(ids), theirs.get_text_features(ids)),
        ):
            torch.testing.assert_close(mine, other.pooler_output, rtol=1e-5, atol=1e-6)


def test_useful_work_is_that_of_the_tokens_there():
    """Against the sums written out: 24·width² a token and layer, attention as far as a causal mask lets see."""
    job = Job("vitb16", 5)
    lengths = job.lengths(3)
    tokens = np.concatenate([lengths.long, lengths.short.clip(max=77)])
    text = 12 * (24 * 512**2 * tokens + 4 * 512 * tokens * (tokens + 1) / 2) + 2 * 512 * 512
    image = 12 * (24 * 768**2 * 197 + 4 * 768 * 197**2) + 2 * 196 * 768 * 768 + 2 * 768 * 512
    logits = 2 * 2 * 5 * 5 * 512
    assert step.useful(job, 3, 77) == pytest.approx(3 * (text.sum() + 5 * image + logits), rel=1e-9)


def test_the_table_holds_ratios_of_the_same_round():
    seconds = {"packed": [1.0, 4.0, 2.0], "PyTorch": [3.0, 4.0, 8.0]}
    job = Job("tiny", 4)
    told = [step.told(job, name, Prepared(1.0, None, None), seconds, ("PyTorch",), None) for name in seconds]
    assert told[0]["times_faster"] == {"PyTorch": [3.0, 1.0, 4.0]} and told[0]["pairs_per_second"] == 2.0
    result = {"model": "tiny", "batch": 4, "device": "cpu", "cores": 2, "rounds": 3, "steps": 1, "programs": told}
    assert "| packed | 2 | 2 (1 to 4) | 3.00 (1.00 to 4.00) |" in step.table(result)
    with pytest.raises(RuntimeError, match="do not compute the same"):
        step.check_losses({"packed": Prepared(1.0, None, None), "PyTorch": Prepared(1.1, None, None)}, 1e-2)


def test_an_epoch_is_extrapolated_from_the_rows_after_the_first():
    rows = [
        {"step": at, "pairs_per_second": rate, "data_wait": 0.01} for at, rate in ((10, 1.0), (60, 90.0), (100, 110.0))
    ]
    page = epoch.table([*rows, {"step": 100, "eval/x": 1.0}], configs.load("configs/vitb16.py"), "1 × cpu")
    assert f"| 1 × cpu, measured | 100 | {2_023_688 / 100 / 3600:.3g} | 1.0% |" in page
