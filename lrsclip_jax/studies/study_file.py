"""A study file: found by name or path, called with its argument, and checked."""

from __future__ import annotations

from lrsclip_jax.config import recipes
from lrsclip_jax.errors import InputError
from lrsclip_jax.studies.study import Study, check
from lrsclip_jax.studies.trainings import RUNS


def load(spec: str) -> tuple[str, Study]:
    """Returns the name and the study of a study file, NAME, FILE.py or either with ":DATA".

    Raises InputError as `recipes.call_function` and `study.check` do.
    """
    folders = [folder / "studies" for folder in recipes.shipped()]
    file, _ = recipes.find(spec, folders, "study")
    study = recipes.call_function(spec, folders, "get_study", Study)
    check(study, spec)
    if file.stem == RUNS:
        raise InputError(f"{spec}: a study can't be called {RUNS}: rename {file}")
    return file.stem, study
