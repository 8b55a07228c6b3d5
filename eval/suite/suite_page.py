"""The suite's report: one self-contained page of all results, next to those that the papers published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.embeddings import EmbeddingSet, open_set
from eval.html import elements
from eval.html.frame import page, provenance
from eval.papers.measured import cleaned_of
from eval.papers.paper_tables import paper_tables
from eval.suite.result_files import TABLE, result_path, task_of, variant_of
from eval.suite.sections import (
    class_section,
    cleaned_section,
    length_section,
    negative_section,
    retrieval_section,
    selo_section,
    sentence_section,
)
from eval.suite.sections.result_groups import Result, data_of, model_of
from eval.suite.task_runs import SuiteOutcome

# (task, variant) → what its column group is called, and the score in it.
SCORES = {
    ("retrieval", "long"): ("Retrieval, long text", "mean_recall"),
    ("retrieval", "short"): ("Retrieval, short text", "mean_recall"),
    ("zeroshot", "normalised"): ("Zero-shot", "accuracy"),
    ("linear_probe", None): ("Linear probe", "accuracy"),
    ("knn", None): ("k-NN", "accuracy"),
    ("linear_probe", "itra"): ("Linear probe, ITRA's", "accuracy"),
    ("knn", "itra"): ("k-NN, ITRA's", "accuracy_weighted"),
    ("selo", "v1"): ("Semantic localisation", "R_mi"),
    ("selo", "v2"): ("SeLo v2", "R_mi"),
}


def compose(outcome: SuiteOutcome) -> elements.Html:
    """Returns the report as one HTML document. Pictures are read from where the sets say they are."""
    results = outcome.results
    sets = {path: open_set(path) for path in dict.fromkeys(result["set"] for result in results)}
    sections = [
        *_failures(outcome),
        *overview(results),
        *cleaned_section.section(results),
        *retrieval_section.section(results, sets),
        *length_section.section(results),
        *sentence_section.section(results),
        *negative_section.section(results),
        *class_section.zeroshot(results),
        *class_section.probes(results),
        *selo_section.section(results, sets),
        *paper_tables(results),
        ("The embedding sets", _sets(results, sets)),
    ]
    return page(_title(results), sections, _summary(results), provenance(_origin(sets)), [TABLE])


def _title(results: Sequence[Result]) -> str:
    models = list(dict.fromkeys(result["model"] for result in results))
    return f"Evaluation of {models[0]}" if len(models) == 1 else f"Evaluation of {len(models)} models"


def _summary(results: Sequence[Result]) -> str:
    models, data = (list(dict.fromkeys(name(result) for result in results)) for name in (model_of, data_of))
    return (
        f"{', '.join(models)}, on {', '.join(data)}: {len(results)} result{'s' if len(results) > 1 else ''}. All rows "
        "are measured here, from saved embeddings, but those marked as published."
    )


def _failures(outcome: SuiteOutcome) -> list[tuple[str, elements.Html]]:
    if not outcome.failures:
        return []
    return [("Not measured", elements.join(*map(elements.paragraph, outcome.failures)))]


def _sets(results: Sequence[Result], sets: Mapping[str, EmbeddingSet]) -> elements.Html:
    rows = []
    for path, embedding_set in sets.items():
        step = embedding_set.meta.get("step")
        made_of = [embedding_set.model, embedding_set.dataset, embedding_set.split or "", embedding_set.features]
        sizes = [len(embedding_set.images), len(embedding_set.texts), embedding_set.images.shape[1]]
        rows.append([Path(path).name, *made_of, str(step) if step is not None else "", *sizes])
    columns = ["", "Model", "Data set", "Split", "Features", "Step", "Images", "Texts", "Dimensions"]
    versions = ", ".join(f"{name} {version}" for name, version in results[-1]["made_by"].items())
    files = [[model_of(result), data_of(result), _file(result, sets[result["set"]])] for result in results]
    return elements.join(
        elements.table(rows, columns),
        elements.paragraph(f"Made with {versions}."),
        elements.fold("Each result as JSON", elements.table(files, ["", "Data set", "File"])),
    )


def _file(result: Result, embedding_set: EmbeddingSet) -> elements.Html:
    task = task_of(result)
    return elements.link(result_path(Path(), embedding_set, task).as_posix(), f"{task}.json")


def _origin(sets: Mapping[str, EmbeddingSet]) -> dict[str, str]:
    weights = dict.fromkeys(filter(None, (_weights(embedding_set.meta) for embedding_set in sets.values())))
    return {"Checkpoint": ", ".join(weights), "Embedding sets": ", ".join(sets)}


def _weights(meta: Mapping[str, Any]) -> str:
    source, step, told = (meta.get(key) for key in ("checkpoint", "step", "weights"))
    of_step = f" at step {step}" if step is not None else ""
    return f"{source}{of_step}{f' (weights {told[:12]})' if told else ''}" if source else ""


def overview(results: Sequence[Result]) -> list[tuple[str, elements.Html]]:
    """Returns the overview, or nothing where no result has a main score."""
    columns = main_scores(results)
    if not columns:
        return []
    models = list(dict.fromkeys(model for of_models in columns.values() for model in of_models))
    rows = [[model, *(of_models.get(model) for of_models in columns.values())] for model in models]
    caption = (
        "Retrieval: mean recall; zero-shot, linear probe, k-NN: accuracy, all in per cent; localisation: R_mi, "
        "between 0 and 1. Higher is better."
    )
    if any(map(cleaned_of, results)):
        caption += " Cleaned sets are smaller: the tables below have as many images at random, to compare with."
    return [("Overview", elements.table(rows, ["", *columns], caption))]


def score_lines(results: Sequence[Result]) -> list[str]:
    """Returns the main scores as lines of text."""
    table = [
        (heading, data, model, score)
        for (heading, data), of_models in main_scores(results).items()
        for model, score in of_models.items()
    ]
    widths = [max((len(row[place]) for row in table), default=0) for place in range(4)]
    return [f"{a:{widths[0]}}  {b:{widths[1]}}  {c:{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in table]


def main_scores(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, str]]:
    """Returns the main scores as text: (heading, data) → {model: score}."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for kind, (heading, key) in SCORES.items():
        for result in results:
            if (result["task"], variant_of(result)) != kind:
                continue
            score = f"{result[key]:.{4 if key == 'R_mi' else 2}f}"
            found.setdefault((heading, data_of(result)), {})[model_of(result)] = score
            if cleaned := cleaned_of(result):
                at = found.setdefault((heading, f"{data_of(result)}, cleaned"), {})
                at[model_of(result)] = f"{cleaned[key]:.2f}"
    return found
