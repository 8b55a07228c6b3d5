"""What a study would take: commands, pairs, and hours."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lrsclip_jax import chips
from lrsclip_jax.chips import Chip
from lrsclip_jax.config import ConfigDict
from lrsclip_jax.config.facts import total_steps
from lrsclip_jax.errors import InputError
from lrsclip_jax.studies import running
from lrsclip_jax.studies.trainings import Cell, PlannedStudy, Training, embed_command


class Cost(NamedTuple):
    """Pairs that a training passes, and hours; None where they are not known."""

    pairs: int | None
    hours: float | None


def lines(plan: PlannedStudy, cells: Sequence[Cell], workdir: Path, chip_name: str | None) -> list[str]:
    """Returns the commands that are left, each training with its pairs and hours, and the sums.

    Hours are the least time by `lrsclip plan` where a chip is named. Otherwise they are at the speed of the trainings
    in this workdir that are finished.

    Raises:
      InputError: no chip of that name, or a config that training would refuse.
    """
    chip = chips.named(chip_name) if chip_name else None
    needed = _trainings(cells)
    left = {key: each for key, each in needed.items() if not running.is_trained(each[0], workdir)}
    speed = None if chip else _measured_speed(needed, workdir)
    of_config: dict[tuple[str, ...], Cost] = {}
    costs, out = [], []
    for training, what in left.values():
        told = tuple(each for each in training.overrides if not each.startswith("seed="))
        if told not in of_config:
            of_config[told] = _cost(training.config, plan.study.setting.records, chip, speed)
        costs.append(of_config[told])
        out += [f"# {what}: {_told(costs[-1])}", shlex.join(training.command(workdir))]
    for cell in cells:
        for measured in running.missing(plan, cell.training, workdir):
            out.append(shlex.join(embed_command(cell.training, measured, workdir)))
    pairs, hours = (
        (None if None in column else sum(filter(None, column)) for column in zip(*costs, strict=True))
        if costs
        else (0, 0.0)
    )
    where = f", at least, on one {chip.name}" if chip else ", at the speed of the finished trainings"
    how = where if hours is not None else "; --chip=NAME counts them for one chip"
    done = len(needed) - len(left)
    out.append(
        f"# {len(needed)} trainings, {done} of them finished; left: {_told(Cost(pairs, hours))}{how if left else ''}"
    )
    return out


def _trainings(cells: Sequence[Cell]) -> dict[str, tuple[Training, str]]:
    found: dict[str, tuple[Training, str]] = {}
    for cell in cells:
        if start := cell.training.start:
            found.setdefault(start.key, (start, f"weights from which {cell.variant.name} starts"))
        found.setdefault(cell.training.key, (cell.training, str(cell)))
    return found


def _told(cost: Cost) -> str:
    pairs = "pairs unknown, as data.sources are not here" if cost.pairs is None else f"{cost.pairs:,} pairs"
    return f"{pairs}, {'hours unknown' if cost.hours is None else f'{cost.hours:.3g} h'}"


def _measured_speed(needed: dict[str, tuple[Training, str]], workdir: Path) -> float | None:
    """Pairs per second of the finished trainings."""
    accounts = [each for training, _ in needed.values() if (each := running.account(training, workdir))]
    seconds = sum(each["seconds"] for each in accounts)
    return sum(each["pairs"] for each in accounts) / seconds if seconds else None


def _cost(config: ConfigDict, records: int | None, chip: Chip | None, speed: float | None) -> Cost:
    # JAX takes seconds to import: not for --help.
    from lrsclip_jax.data.batches import mixture

    try:
        records = sum(len(source) for source, _ in mixture.open_sources(config))
    except InputError:  # they are elsewhere: the study says how many, and `plan` takes texts as long as LRS2M's
        config = config.copy_and_resolve_references()
        with config.unlocked():
            config.data.sources = ()
    pairs = total_steps(config, records) * config.batch_size if records else None
    rate = _ceiling(config, chip) if chip else speed
    return Cost(pairs, pairs / rate / 3600 if pairs and rate else None)


def _ceiling(config: ConfigDict, chip: Chip) -> float:
    """Pairs per second of one chip, at most."""
    import jax

    from lrsclip_jax.plan import ahead, roofline

    planned = ahead.plan_step(config, jax.devices()[:1], "accelerator")
    return roofline.estimate(ahead.job(planned), chip, None).pairs_per_second
