"""Facts for a model card: what the run behind a source of weights started from, was trained on, and scored."""

from __future__ import annotations

from typing import Any

from lrsclip_jax.convert.formats.model_card import ModelFacts
from lrsclip_jax.data.batches.mixture import weighted
from lrsclip_jax.run import checkpoint_reader
from lrsclip_jax.run.metrics import read_metrics

_LONGEST = 8  # runs that began from each other's weights


def facts_of(source: str, licence: str = "", repository: str = "") -> ModelFacts:
    """Returns what is known of a source of weights, besides what its parameters tell.

    Runs of lrsclip_jax are followed to where they began, as far as these runs are still there.

    Args:
      source: as `lrsclip_jax.weights.read` takes it.
      licence, repository: as in `ModelFacts`.

    Raises:
      InputError: a run is damaged.
    """
    bases, data = _behind(source, _LONGEST)
    folder = checkpoint_reader.find(source)
    rows = read_metrics(folder.parent.parent) if folder else ()
    step = int(folder.name) if folder else 0
    scores = {name: value for row in rows if row["step"] == step for name, value in row.items()}
    evaluated = {name: float(value) for name, value in scores.items() if name.startswith("eval/")}
    return ModelFacts(tuple(dict.fromkeys(bases)), tuple(dict.fromkeys(data)), evaluated, licence, repository)


def _behind(source: str, most: int) -> tuple[list[str], list[str]]:
    """The models of the Hub that a source began from, and the data sets that it has seen, the latest last."""
    if source.startswith("hf:"):
        return ["/".join(source.removeprefix("hf:").partition("@")[0].split("/")[:2])], []
    folder = checkpoint_reader.find(source) if most else None
    if folder is None:
        return [], []
    config: dict[str, Any] = checkpoint_reader.read_metadata(folder)["config"]
    bases: list[str] = []
    data: list[str] = []
    for key in ("init", "image_init", "text_init"):
        began = config["model"].get(key)
        if began and began != "random":
            more, seen = _behind(began, most - 1)
            bases, data = bases + more, data + seen
    own = [name.rstrip("/").rsplit("/", 1)[-1] for name, _ in weighted(config["data"].get("sources") or ())]
    return bases, data + own
