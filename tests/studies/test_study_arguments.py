"""The command `lrsclip study` before it trains: wrong studies, wrong arguments, and what would be trained."""

import re
from pathlib import Path

import pytest
import tiny_study

from lrsclip_jax import cli
from lrsclip_jax.errors import InputError
from lrsclip_jax.studies import running

STUDY = str(Path(tiny_study.__file__))


def test_weights_that_variants_start_from_are_trained_once(tmp_path, monkeypatch, capsys):
    called = []

    def trains(command, log):
        called.append(" ".join(command))
        if command[2] == "lrsclip_jax.embed":
            raise running.Failed("enough")
        Path(next(word for word in command if word.startswith("--workdir="))[10:], "checkpoints", "4").mkdir(
            parents=True
        )

    monkeypatch.setattr(running, "call", trains)
    start = '}, {"data.sources": ("scenes:32:5",)})'
    study = tmp_path / "starts.py"
    text = Path(STUDY).read_text().replace("0.8})", f"0.8{start}").replace("0.1})", f"0.1{start}")
    study.write_text(text)
    assert cli.main(["study", str(study), f"--workdir={tmp_path / 'w'}", "--seeds=1"]) == 2
    first, *others = [command for command in called if "lrsclip_jax.main" in command]
    assert len(others) == 2 and "scenes:32:5" in first and "--config.seed=0" in first
    folder = re.search("--workdir=(.*?/run) ", first)[1]
    assert all(f"--config.model.init={folder}" in command and "scenes:32:5" not in command for command in others)


BAD = {
    "two names": (('{"ratio": "1:9"}', '{"ratio": "8:2"}'), "two variants have the name '8:2'"),
    "key": (
        ('"loss.long_weight": 0.1', '"loss.long_wieght": 0.1'),
        "variant 1:9: loss.long_wieght: unknown key, did you mean 'loss.long_weight'",
    ),
    "value": (('"loss.long_weight": 0.1', '"loss.long_weight": 7'), "variant 1:9: loss.long_weight=7: expected"),
    "head": (('{"ratio": "1:9"}', '{"ration": "1:9"}'), "variant 2, heads are ratio, not 'ratio'"),
    "base": (('base="8:2"', 'base="2:8"'), "base is '2:8' (there are 8:2, 1:9)"),
    "table": (("lrsclip:fig10", "lrsclip:II"), "table='lrsclip:II' is no table of an ablation"),
    "claim": (('"8:2", ("1:9",)', '"8:2", ("1:8",)'), "variant is '1:8', did you mean '1:9'"),
    "score": (('"ZCRL"', '"ZCRM"'), "score is 'ZCRM', did you mean 'ZCR"),
    "seeds": (("seeds=2", "seeds=0"), "seeds=0, a whole number from 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_study_is_one_line_that_names_it(name, tmp_path):
    (old, new), message = BAD[name]
    study = tmp_path / "mine.py"
    text = Path(STUDY).read_text()
    assert old in text
    study.write_text(text.replace(old, new))
    with pytest.raises(InputError) as error:
        cli.main(["study", str(study), f"--workdir={tmp_path / 'w'}"])
    assert message in str(error.value) and str(study) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard=3/2"], "--shard=3/2: expected I/N with 1 ≤ I ≤ N"),
        (["--shard=0/2"], "--shard=0/2: expected I/N"),
        (["--only=8:2,2:8"], "--only=2:8: no variant (there are 8:2, 1:9)"),
        (["--seeds=0"], "--seeds=0: expected a whole number from 1"),
        (["--", "--config.sed=1"], "sed: unknown key, did you mean 'seed'"),
        (["--", "--epochs=1"], "unknown argument --epochs=1"),
        (["--sed=1"], "unknown argument --sed=1"),
        (["--dry-run", "--chip=H101"], "H101"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_one_line(words, message, tmp_path):
    with pytest.raises(InputError) as error:
        cli.main(["study", STUDY, f"--workdir={tmp_path / 'w'}", *words])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_papers_size_is_accounted_for_without_its_data(tmp_path, capsys):
    words = ["study", "subset_size:/nowhere", f"--workdir={tmp_path / 'w'}", "--dry-run", "--seeds=1"]
    assert cli.main(words) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    assert said[0] == "# 0.5 M, seed 0: 505,856 pairs, hours unknown"  # 988 steps of 512
    assert said[-1].startswith("# 4 trainings, 0 of them finished; left: 5,058,560 pairs, hours unknown; --chip=NAME")
    assert not (tmp_path / "w").exists()
