"""The suite's report: one self-contained page of all results, beside what the papers published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.embeddings import EmbeddingSet, open_set
from eval.html import elements
from eval.papers.tables import paper_tables
from eval.suite.run import Outcome
from eval.suite.sections import class_section, length_section, overview, retrieval_section, selo_section
from eval.suite.sections.grouping import Result, data_of, model_of


def compose(outcome: Outcome) -> elements.Html:
    """Returns the report as one HTML document. Pictures are read from where the sets say they are."""
    results = outcome.results
    sets = {path: open_set(path) for path in dict.fromkeys(result["set"] for result in results)}
    sections = [
        *_failures(outcome),
        *overview.section(results),
        *retrieval_section.section(results, sets),
        *length_section.section(results),
        *class_section.zeroshot(results),
        *class_section.probes(results),
        *selo_section.section(results, sets),
        *paper_tables(results),
        ("The embedding sets", _sets(results, sets)),
    ]
    return elements.page(_title(results), sections, _summary(results))


def _title(results: Sequence[Result]) -> str:
    models = list(dict.fromkeys(result["model"] for result in results))
    return f"Evaluation of {models[0]}" if len(models) == 1 else f"Evaluation of {len(models)} models"


def _summary(results: Sequence[Result]) -> str:
    models, data = (list(dict.fromkeys(name(result) for result in results)) for name in (model_of, data_of))
    return (
        f"{', '.join(models)}, on {', '.join(data)}: {len(results)} result{'s' if len(results) > 1 else ''}. All rows "
        "are measured here, from saved embeddings, but those marked as published."
    )


def _failures(outcome: Outcome) -> list[tuple[str, elements.Html]]:
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
    return elements.join(elements.table(rows, columns), elements.paragraph(f"Made with {versions}."))
