"""The two sizes of every study: the paper's, and a miniature for two CPU cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrsclip_jax.studies.study import Measured, Setting

# Of Table IV, whose mean accuracy is ZIC.
CLASSIFIED = ("RESISC45", "EuroSAT", "PatternNet", "WHU-RS19", "OPTIMAL-31", "RS_C11")
RECORDS = 2_023_688  # of LRS2M, as its parts in Table I add up

# The quickstart's model on procedural scenes: about two minutes a run on two cores.
_MINIATURE = {
    "epochs": 4.0,
    "eval.sources": ("scenes:1000:1",),
    "eval.every_steps": 0,
    "eval.truncations": (),
    "checkpoint.every_steps": 1000,
    "log.tensorboard": False,
}


def setting(data: str = "", recipe: str = "vitb16", miniature: Mapping[str, Any] | None = None) -> Setting:
    """Returns what the variants of a study share: the paper's with its data, or the miniature without.

    Args:
      data: a folder with `clip` (OpenAI's ViT-B/16), `lrs2m` (prepared), and the evaluation sets `rsitmd_l` and
        `rsitmd` (prepared, test split), `AIR-SLT`, and the class folders `RESISC45`, `EuroSAT`, `PatternNet`,
        `WHU-RS19`, `OPTIMAL-31`, `RS_C11`; "" for the miniature, which trains the quickstart's model on procedural
        scenes, and has no scenes for SeLo.
      recipe: of the paper's size.
      miniature: further changes of the miniature.
    """
    if not data:
        return Setting("quickstart", _MINIATURE | dict(miniature or {}))
    return Setting(
        recipe,
        {
            "model.init": f"{data}/clip",
            "data.sources": (f"{data}/lrs2m",),
            "eval.sources": (),
        },
        (
            Measured(f"{data}/rsitmd_l:test", ("ZCRL",)),
            Measured(f"{data}/rsitmd:test", ("ZCRS",)),
            *(Measured(f"{data}/{name}", ("ZIC",), ("--templates=a satellite photo of {}",)) for name in CLASSIFIED),
            Measured(f"air-slt:{data}/AIR-SLT", ("SeLo",)),
        ),
        RECORDS,
    )
