"""The command `lrsclip train`, also `python -m lrsclip_jax.main`: a recipe in, a run's folder out."""

from __future__ import annotations

import time
from collections.abc import Sequence

from eval.command import command_line, expanded
from lrsclip_jax import config as configs
from lrsclip_jax.config.keys import describe_keys
from lrsclip_jax.errors import InputError, cli

_EPILOG = """\
examples:
  lrsclip train --config=quickstart --workdir=runs/quickstart
      trains on procedural scenes, nothing to download; ends with runs/quickstart/report.html
  lrsclip train --config=aid_rsicd:DATA --workdir=runs/aid
      a recipe may take an argument after a colon; here the folder of the data
  lrsclip train --config=my_recipe.py --workdir=runs/mine --config.seed=1
      a recipe of your own, in a file
  lrsclip train --config=vitb16 --workdir=runs/b16 \\
      --config.model.init=WEIGHTS --config.data.sources=LRS2M --config.batch_size=512
      any key of the config can be set; --keys lists them all

Starting the same command again continues the run exactly where it stopped.
"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.main") -> None:
    """Parses the command line, loads the config, checks what can be checked at once, and trains."""
    parser = command_line(
        prog,
        "Trains a long-text CLIP, evaluates it on held-out data and writes report.html.",
        _EPILOG,
        usage="--config=RECIPE --workdir=DIR [--config.KEY=VALUE …] [options]",
    )
    parser.add_argument("--config", required=True, metavar="RECIPE", type=expanded, help="NAME[:ARG] or FILE.py[:ARG]")
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        type=expanded,
        help="the run's folder, local or gs://…: config, metrics, checkpoints, report.html",
    )
    parser.add_argument(
        "--branch",
        metavar="NEWDIR",
        type=expanded,
        help="start in NEWDIR from the newest checkpoint of --workdir, with a changed config",
    )
    parser.add_argument("--keys", action="version", version="\n".join(describe_keys()), help="list every key, and exit")
    options, rest = parser.parse_known_args(arguments)
    config = configs.load(options.config, configs.overrides_of(rest))
    require_init_and_sources(config, options.config)

    from lrsclip_jax.run import trackers, workdir  # and NumPy with them: --help does without

    trackers.check(config.log)
    workdir.check_out(options.branch or options.workdir, "--branch" if options.branch else "--workdir")
    # JAX takes seconds to import: only once the command is known to make sense.
    begun = time.perf_counter()
    from lrsclip_jax.hosts import distributed
    from lrsclip_jax.run.startup import Laps
    from lrsclip_jax.train import train_and_evaluate

    laps = Laps(begun)
    laps.end("imports")
    with distributed.joined(config):
        train_and_evaluate(config, options.workdir, branch=options.branch, laps=laps)


_SUPPLY = """Weights, data, and the run with both:
  hf download openai/clip-vit-base-patch16 --local-dir=WEIGHTS      (of the recipe's size; or init=random;
      or a source for each tower, --config.model.image_init=WEIGHTS --config.model.text_init=WEIGHTS)
  lrsclip prepare captions.jsonl --image-root=IMAGES --out=PREPARED
  lrsclip train --config={recipe} --workdir=DIR --config.model.init=WEIGHTS \\
      --config.data.sources=PREPARED"""


def require_init_and_sources(config: configs.ConfigDict, recipe: str) -> None:
    """Raises InputError, with a note on what to give, where a config names no weights or no data."""
    weights = config.model.init or (config.model.image_init and config.model.text_init)
    missing = [key for key, value in (("model.init", weights), ("data.sources", config.data.sources)) if not value]
    if missing:
        error = InputError(f"{recipe} leaves {' and '.join(missing)} to you")
        error.add_note(_SUPPLY.format(recipe=recipe))
        raise error


if __name__ == "__main__":
    cli(main)
