import subprocess
import sys
import time

import pytest

from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError
from lrsclip_jax.main import main
from lrsclip_jax.train import train_and_evaluate

TINY = [
    "--config=configs/quickstart.py",
    "--config.data.sources=scenes:8",
    "--config.eval.sources=scenes:8:1",
    "--config.batch_size=4",
    "--config.optimizer.warmup_steps=0",
]


def test_a_recipe_without_weights_and_data_says_within_seconds_how_to_get_them(tmp_path):
    begun = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "lrsclip_jax.main", "--config=configs/vitb16.py", f"--workdir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert "leaves model.init and data.sources to you" in found.stderr
    assert sum(word in found.stderr for word in ("hf download", "lrsclip prepare", "lrsclip train")) == 3
    assert time.monotonic() - begun < 20
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.optimizer.learning_rat=1"], "did you mean 'optimizer.learning_rate'"),
        (["--learning_rate=1"], "set with --config.KEY=VALUE"),
        (["--config.model.name=tinny"], "or 'custom', did you mean 'tiny'"),
        (["--config.model.image.sise=64"], "model.image.sise: unknown key, did you mean 'model.image.size'"),
        (["--config.data.sources=nowhere"], "nowhere is not a finished prepared set"),
        (["--config.model.init=nowhere"], "there is no file or folder nowhere"),
        (["--config.batch_size=0"], "batch_size=0: expected a whole number from 1"),
        (["--config.batch_size=16"], "epochs=1.0 over 8 samples of data.sources with batch_size=16 make no batch"),
        (["--config.data.long_length=300"], "data.long_length=300 is more than model.text.context_length=248"),
        (["--config.optimizer.freeze=image/block/.*"], "optimizer.freeze: 'image/block/.*' matches no parameter"),
        (["--config.loss.same_text=ignored"], "did you mean 'ignore'"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message.replace(".*", r"\.\*")) as error:
        main([*TINY, "--config.epochs=1", f"--workdir={tmp_path}", *arguments])
    assert "\n" not in str(error.value)


def test_an_unwritable_workdir_is_one_clear_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="can't write .*file/run: Not a directory"):
        train_and_evaluate(configs.load("configs/quickstart.py"), str(blocked / "run"))


def test_a_damaged_run_folder_is_one_clear_line(tmp_path):
    (tmp_path / "config.json").write_text("{torn")
    with pytest.raises(InputError, match="config.json: not JSON .*restore it"):
        train_and_evaluate(configs.load("configs/quickstart.py"), str(tmp_path))
