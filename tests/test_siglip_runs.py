"""SigLIP from its folder through an import, a training and an export, with its tokenizer and the bias of its loss."""

import json
import shutil

import numpy as np
import pytest
import tiny_siglip

import lrsclip_jax
from lrsclip_jax import config as configs
from lrsclip_jax.convert.__main__ import main as convert
from lrsclip_jax.errors import InputError
from lrsclip_jax.train import train_and_evaluate

TEXTS = ["A harbour with ships!", "two rivers"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("siglip") / "hf"
    tiny_siglip.siglip_folder(made)
    return made


@pytest.fixture(scope="module")
def imported(folder):
    run = folder.parent / "imported"
    convert(["import", str(folder), f"--workdir={run}"])
    return run


def run_config(folder, init, **values):
    model = tiny_siglip.model(json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"])
    fields = ("layers", "width", "heads", "mlp_width", "embed_dim")
    towers = [(tower, getattr(model, tower)) for tower in ("image", "text")]
    keys = {f"model.{name}.{field}": getattr(tower, field) for name, tower in towers for field in fields}
    keys |= {"model.image.size": 32, "model.image.patch": 8, "model.text.vocab_size": model.text.vocab_size}
    keys |= {"model.text.context_length": 16, "data.long_length": 16, "data.short_length": 16, "model.init": init}
    keys |= {"data.sources": "('scenes:8:0',)", "batch_size": 4, "log.every_steps": 1, "log.tensorboard": False}
    keys |= {"train.compilation_cache": None, "eval.at_start": False} | values
    return configs.load("siglip:siglip_vitb16", [f"{key}={value}" for key, value in keys.items()])


def test_an_import_is_the_same_model_with_its_tokenizer(folder, imported):
    theirs, ours = lrsclip_jax.load(folder), lrsclip_jax.load(imported)
    assert (imported / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    np.testing.assert_array_equal(ours.texts(TEXTS), theirs.texts(TEXTS))
    assert ours.preprocessing == theirs.preprocessing and ours.logit_bias == theirs.logit_bias != 0
    assert json.loads((imported / "config.json").read_text())["loss"]["name"] == "sigmoid"


def test_a_run_folder_without_its_tokenizer_or_with_another_is_one_line(imported, tmp_path):
    run = shutil.copytree(imported, tmp_path / "run")
    (run / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="run has no tokenizer.json, without which"):
        lrsclip_jax.load(run)
    other = tiny_siglip.TEXTS[:2]
    tiny_siglip.write_tokenizer(run, texts=other)
    with pytest.raises(InputError, match="tokenizer.json is another tokenizer than that of the run: restore it"):
        lrsclip_jax.load(run)


def test_a_random_text_tower_has_no_tokenizer(folder, tmp_path):
    with pytest.raises(InputError, match="model.init='random': a SigLIP text tower has the tokenizer of its weights"):
        train_and_evaluate(run_config(folder, "random"), str(tmp_path / "run"))


@pytest.mark.exhaustive
def test_a_run_begins_with_the_weights_and_their_bias_and_its_export_is_transformers_own(folder, tmp_path):
    run = tmp_path / "run"
    train_and_evaluate(run_config(folder, folder), str(run))
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    start, trained = lrsclip_jax.load(folder), lrsclip_jax.load(run)
    assert first["logit_bias"] == pytest.approx(start.logit_bias, abs=1e-4)
    assert trained.logit_bias != start.logit_bias
    assert (run / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert np.abs(trained.texts(TEXTS) - start.texts(TEXTS)).max() > 1e-7
    convert(["export", str(run), "--format=hf", f"--out={tmp_path / 'hf'}"])
    back = lrsclip_jax.load(tmp_path / "hf")
    np.testing.assert_array_equal(back.texts(TEXTS), trained.texts(TEXTS))
    assert back.logit_bias == trained.logit_bias and back.preprocessing == trained.preprocessing
    with pytest.raises(InputError, match="its text tower is SigLIP's; try --format=hf"):
        convert(["export", str(run), "--format=open_clip", f"--out={tmp_path / 'open_clip'}"])
