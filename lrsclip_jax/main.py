"""The command: `python -m lrsclip_jax.main --config=FILE.py --workdir=DIR [--config.KEY=VALUE …]`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from lrsclip_jax import config as configs
from lrsclip_jax.config_keys import describe_keys
from lrsclip_jax.errors import InputError, cli

_EPILOG = """\
examples:
  python -m lrsclip_jax.main --config=configs/quickstart.py --workdir=runs/quickstart
      trains on procedural scenes, nothing to download; ends with runs/quickstart/report.html
  python -m lrsclip_jax.main --config=configs/aid_rsicd.py:DATA --workdir=runs/aid
      a recipe may take an argument after a colon; here the folder of the data
  python -m lrsclip_jax.main --config=configs/vitb16.py --workdir=runs/b16 \\
      --config.model.init=WEIGHTS --config.data.sources=LRS2M --config.batch_size=512
      any key of the config can be set; lrsclip_jax/config.py lists them all

Starting the same command again continues the run exactly where it stopped.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line, loads the config, checks what can be checked at once, and trains."""
    parser = argparse.ArgumentParser(
        prog="python -m lrsclip_jax.main",
        description="Trains a long-text CLIP, evaluates it on held-out data and writes report.html.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE.py[:ARG]", help="the recipe")
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        help="the run's folder, local or gs://…: config, metrics, checkpoints, report.html",
    )
    parser.add_argument(
        "--branch",
        metavar="NEWDIR",
        help="go on in NEWDIR from the newest checkpoint of --workdir, with a changed config",
    )
    parser.add_argument("--keys", action="version", version="\n".join(describe_keys()), help="list every key, and exit")
    options, rest = parser.parse_known_args(arguments)
    config = configs.load(options.config, configs.overrides_of(rest))
    _require_init_and_sources(config, options.config)

    # JAX takes seconds to import: only once the command is known to make sense.
    begun = time.perf_counter()
    from lrsclip_jax.hosts import distributed
    from lrsclip_jax.run.startup import Laps
    from lrsclip_jax.train import train_and_evaluate

    laps = Laps(begun)
    laps.end("imports")
    with distributed.joined(config):
        train_and_evaluate(config, options.workdir, branch=options.branch, laps=laps)


_SUPPLY = """{recipe} leaves {missing} to you. Weights, data, and the run with both:
  hf download openai/clip-vit-base-patch16 --local-dir=WEIGHTS      (of the recipe's size; or init=random;
      or a source for each tower, --config.model.image_init=WEIGHTS --config.model.text_init=WEIGHTS)
  python -m lrsclip_jax.data.prepare captions.jsonl --image-root=IMAGES --out=PREPARED
  python -m lrsclip_jax.main --config={recipe} --workdir=DIR --config.model.init=WEIGHTS \\
      --config.data.sources=PREPARED"""


def _require_init_and_sources(config: configs.ConfigDict, recipe: str) -> None:
    weights = config.model.init or (config.model.image_init and config.model.text_init)
    missing = [key for key, value in (("model.init", weights), ("data.sources", config.data.sources)) if not value]
    if missing:
        raise InputError(_SUPPLY.format(recipe=recipe, missing=" and ".join(missing)))


if __name__ == "__main__":
    cli(main)
