"""The trainings of a study: their configs, their keys by which studies share them, and their commands."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.suite.result_files import safe_name
from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError
from lrsclip_jax.main import require_init_and_sources
from lrsclip_jax.studies.study import Measured, Study, Variant

RUNS = "runs"  # of a workdir: a folder for each training


@dataclass(frozen=True)
class Training:
    """A training, which one or more studies may need.

    Attributes:
      key: equal for trainings of equal curves, in any study and workdir.
      recipe: as `lrsclip train --config` takes it.
      overrides: "KEY=VALUE" of its config, but for `model.init` where `start` gives it.
      config: with `model.init` "run:KEY" where `start` gives it.
      start: the training from whose weights it starts, or None.
    """

    key: str
    recipe: str
    overrides: tuple[str, ...]
    config: configs.ConfigDict
    start: Training | None = None

    def folder(self, workdir: Path) -> Path:
        """Returns the folder of everything that belongs to this training."""
        return workdir / RUNS / self.key

    def run(self, workdir: Path) -> Path:
        """Returns its run folder, the --workdir of `lrsclip train`."""
        return self.folder(workdir) / "run"

    def command(self, workdir: Path) -> list[str]:
        """Returns the command that trains it."""
        start = [f"--config.model.init={self.start.run(workdir)}"] if self.start else []
        flags = [f"--config.{override}" for override in self.overrides]
        return [
            *_program("lrsclip_jax.main"),
            f"--config={self.recipe}",
            f"--workdir={self.run(workdir)}",
            *flags,
            *start,
        ]


@dataclass(frozen=True)
class Cell:
    """A training of a study: which of its variants, and the seed."""

    variant: Variant
    seed: int
    training: Training

    def __str__(self) -> str:
        return f"{self.variant.name}, seed {self.seed}"


@dataclass(frozen=True)
class PlannedStudy:
    """A study with its trainings.

    Attributes:
      name: of the study's file.
      study: with the base recipe and the measured sets in use.
      config: of the base recipe.
      cells: a training for each variant and seed, seed by seed.
    """

    name: str
    study: Study
    config: configs.ConfigDict
    cells: tuple[Cell, ...]

    @property
    def measured(self) -> tuple[Measured, ...]:
        """The sets that every training is measured on."""
        return self.study.setting.measured or tuple(map(Measured, self.config.eval.sources))


def planned(
    name: str, study: Study, where: str, overrides: Sequence[str] = (), seeds: int | None = None
) -> PlannedStudy:
    """Returns a study with its trainings.

    Args:
      name: of the study's file.
      study: checked by `study.check`.
      where: begins errors about it.
      overrides: "KEY=VALUE" for the base recipe; the variants' own go before them.
      seeds: how many seeds, the study's own number for None.

    Raises:
      InputError: a key or value that is not allowed, no weights, no data, or nothing to measure.
    """
    setting = study.setting
    of_base = (*_overrides(setting.changes), *overrides)
    config = _loaded(setting.recipe, of_base, where)
    plan = PlannedStudy(name, study, config, ())
    if not plan.measured:
        raise InputError(f"{where}: nothing to measure: set --config.eval.sources, or name sets in the study")
    cells = []
    for seed in range(study.seeds if seeds is None else seeds):
        for variant in study.variants:
            said = f"{where}, variant {variant.name}"
            cells.append(Cell(variant, seed, _training(setting.recipe, of_base, variant, seed, said)))
    return PlannedStudy(name, study, config, tuple(cells))


def set_name(measured: Measured) -> str:
    """Returns the folder of a measured set below a training's."""
    return safe_name(" ".join((measured.source, *measured.options)))


def embed_command(training: Training, measured: Measured, workdir: Path) -> list[str]:
    """Returns the command that embeds a set with a training."""
    out = training.folder(workdir) / "sets" / set_name(measured)
    run = f"--checkpoint={training.run(workdir)}"
    return [*_program("lrsclip_jax.embed"), measured.source, run, f"--out={out}", "--batch-size=256", *measured.options]


def _training(recipe: str, of_base: Sequence[str], variant: Variant, seed: int, where: str) -> Training:
    start = None
    if variant.start is not None:
        first = (*of_base, *_overrides(variant.start), "seed=0")
        start = _made(recipe, first, None, where)
    return _made(recipe, (*of_base, *_overrides(variant.changes), f"seed={seed}"), start, where)


def _made(recipe: str, overrides: tuple[str, ...], start: Training | None, where: str) -> Training:
    init = (f"model.init=run:{start.key}",) if start else ()
    config = _loaded(recipe, (*overrides, *init), where)
    require_init_and_sources(config, recipe)
    return Training(_key(config), recipe, overrides, config, start)


def _key(config: configs.ConfigDict) -> str:
    """The hash of what determines the curve, as the difference to the defaults: keys that come later change none."""
    told = "\n".join(configs.curve_differences(configs.defaults().to_dict(), config))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _loaded(recipe: str, overrides: Sequence[str], where: str) -> configs.ConfigDict:
    try:
        return configs.load(recipe, overrides, option="")
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('--config.')}") from None


def _overrides(changes: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={value if isinstance(value, str) else repr(value)}" for key, value in changes.items())


def _program(module: str) -> list[str]:
    return [sys.executable, "-m", module]
