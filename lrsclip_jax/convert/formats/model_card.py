"""The README.md of an exported folder: what the model is, how it is used, where it comes from, what it scores.

`model_card.md` is its template. huggingface_hub writes the metadata at its head, which the Hub reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2

from eval.file_names import writable
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.zoo import text_kind

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TEMPLATE = Path(__file__).with_suffix(".md")
_SCORE = re.compile(r"eval/(?P<set>[^/]+)/(?P<row>[^/]+)/(?P<metric>.+)")
_DIRECTIONS = ("text_to_image", "image_to_text")
_TOKENIZERS = {
    "transformer": "CLIP's byte pairs",
    "bert": "BERT's word pieces, lower case",
    "siglip": "those of tokenizer.json",
}
_DATASET = re.compile(r"[\w.-]+(/[\w.-]+)?")  # what the Hub takes for the name of a data set


@dataclass(frozen=True)
class ModelFacts:
    """Facts for a model card that the parameters do not tell.

    Attributes:
      base_models: names on the Hub of the models that training started from.
      data: names of the data sets that it was trained on.
      scores: of the exported checkpoint, named as in metrics.jsonl: "eval/SET/long/text_to_image/R@1".
      licence: of the model, by its identifier on the Hub, such as "apache-2.0"; "" where nobody has stated it.
      repository: where the folder is to be published, "owner/name"; "" for nowhere.
      native: whether the model took images of any shape, which become squares in the folder.
    """

    base_models: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    licence: str = ""
    repository: str = ""
    native: bool = False


class _Row(NamedTuple):
    name: str
    values: list[float]


class _Table(NamedTuple):
    name: str
    ks: list[str]
    rows: list[_Row]
    accuracy: float | None


def model_card(
    model: CLIP,
    preprocessing: Preprocessing,
    *,
    name: str,
    architecture: str,
    source: str,
    library: str = "transformers",
    facts: ModelFacts | None = None,
) -> str:
    """Returns the text of a model card.

    Args:
      model: that was exported.
      preprocessing: of its images.
      name: of the folder.
      architecture: the classes of the library.
      source: where the model came from; of a path only the end is told.
      library: that loads the folder, "transformers" or "open_clip".
      facts: that the model does not tell.
    """
    from huggingface_hub import ModelCardData  # takes a while to import

    facts = facts or ModelFacts()
    name = facts.repository.partition("/")[2] or name
    tables = list(_tables(facts.scores))
    trained_on = (data for data in facts.data if not data.startswith("scenes:"))  # those are drawn
    kind = text_kind(model)
    results = [result for table in tables for result in _results(table)]
    metadata = ModelCardData(
        language="en",
        license=facts.licence or None,
        library_name=library,
        pipeline_tag="zero-shot-image-classification",
        tags=["remote-sensing", "clip", "image-text-retrieval", "lrsclip_jax"],
        base_model=list(facts.base_models) or None,
        datasets=[*dict.fromkeys(filter(_DATASET.fullmatch, (data.partition(":")[0] for data in trained_on)))] or None,
        metrics=["recall", *["accuracy"][: any(table.accuracy is not None for table in tables)]] if tables else None,
        model_name=name,
        eval_results=results or None,
    )
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["plain"] = _plain
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=metadata.to_yaml(),
        name=name,
        architecture=architecture,
        image=model.image,
        text=model.text,
        preprocessing=preprocessing,
        tokenizer=_TOKENIZERS[kind],
        kind=kind,
        library=library,
        origin=_origin(source),
        licence=facts.licence,
        repository=facts.repository,
        native=facts.native,
        base_models=facts.base_models,
        data=facts.data,
        tables=tables,
    )


def _tables(scores: Mapping[str, float]) -> Iterator[_Table]:
    """The retrieval of each set: a row for each kind of text, its recalls in both directions and their mean."""
    of_set: dict[str, dict[str, dict[str, float]]] = {}
    for name, value in scores.items():
        if found := _SCORE.fullmatch(name):
            of_set.setdefault(found["set"], {}).setdefault(found["row"], {})[found["metric"]] = value
    for name, rows in of_set.items():
        accuracy = rows.pop("zeroshot", {}).get("accuracy")
        ks = [metric.partition("/")[2] for metric in next(iter(rows.values()), {}) if metric.startswith(_DIRECTIONS[0])]
        columns = [*(f"{direction}/{k}" for direction in _DIRECTIONS for k in ks), "mean_recall"]
        whole = {row: metrics for row, metrics in rows.items() if metrics.keys() >= {*columns}}
        recalls = [_Row(row, [metrics[column] for column in columns]) for row, metrics in whole.items()]
        yield _Table(name, ks, recalls, accuracy)


def _results(table: _Table) -> Iterator[EvalResult]:
    """A table as the Hub's own results."""
    from huggingface_hub import EvalResult

    def result(task: str, row: str | None, metric: str, name: str, value: float) -> EvalResult:
        return EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^\w.-]+", "-", table.name).strip("-") or "own",
            dataset_name=table.name,
            dataset_config=row,
            metric_type=metric,
            metric_name=name,
            metric_value=round(value, 2),
        )

    headings = [*(f"{way.replace('_', ' ')} {k}" for way in _DIRECTIONS for k in table.ks), "mean recall"]
    for row in table.rows:
        for heading, value in zip(headings, row.values, strict=True):
            yield result("image-text-retrieval", row.name, "recall", heading, value)
    if table.accuracy is not None:
        yield result("zero-shot-image-classification", None, "accuracy", "accuracy", table.accuracy)


def _plain(text: str) -> str:
    """A name as Markdown shows it, in one line: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(writable(text).split()))


def _origin(source: str) -> str:
    if source.startswith("hf:"):
        return source
    path = Path(source)
    return f"{path.parents[1].name}, step {path.name}" if path.parent.name == "checkpoints" else path.name
