"""Zero-shot classification and probes in the report: accuracies, few-shot curves, confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.html import elements, plots
from eval.html.confusion import confusion_matrix, most_confused
from eval.suite.sections.cleaned_section import spread_at_random
from eval.suite.sections.result_groups import Result, by_data, model_of, told_once, with_cleaned

AVERAGES = {"normalised": "unit rows averaged", "raw": "raw rows averaged"}
PROBES = {"linear_probe": "linear probe", "knn": "k-NN", "few_shot": "few-shot"}


def zeroshot(results: Sequence[Result]) -> list[tuple[str, elements.Html]]:
    """Returns a table of accuracies for each data set, and a confusion matrix for each model."""
    sections = []
    for data, rows in by_data(results, "zeroshot").items():
        classes = len(rows[0]["classes"])
        cells = [
            [name, row["accuracy"], row["mean_per_class_recall"], _prompt(row), row["images"]]
            for of_row in rows
            for name, row in with_cleaned([of_row]).items()
        ]
        cells.append(["chance", 100 / classes, 100 / classes, None, None])
        columns = ["", "Accuracy", "Mean per-class recall", "Prompt", "Images"]
        kinds = [*[""] * (len(cells) - 1), "aside"]
        table = elements.table(cells, columns, f"Per cent; {classes} classes.", kinds=kinds)
        shown = [row for row in rows if row["average"] == "normalised"]
        warned = told_once((model_of(row), row["warning"]) for row in rows if "warning" in row)
        alone = told_once((model_of(row), _alone(row["per_template"])) for row in shown if "per_template" in row)
        sections.append(
            (
                f"Zero-shot classification: {data}",
                elements.join(table, spread_at_random(rows, "accuracy"), warned, alone, _matrices(shown, opened=True)),
            )
        )
    return sections


def probes(results: Sequence[Result]) -> list[tuple[str, elements.Html]]:
    """Returns the accuracies of linear probe and k-NN for each data set, few-shot curves, and confusion matrices."""
    linear, knn, few = (by_data(results, task) for task in ("linear_probe", "knn", "few_shot"))
    sections = []
    for data in dict.fromkeys([*linear, *knn, *few]):
        parts = [
            _probe_table(linear.get(data, []), knn.get(data, [])),
            *_few_shot(few.get(data, [])),
            told_once(
                (f"{_probe_of(row)}, {PROBES[row['task']]}", row["note"])
                for row in (*linear.get(data, []), *few.get(data, []))
                if "note" in row
            ),
            _matrices(linear.get(data, [])),
        ]
        sections.append((f"Probes of the image tower: {data}", elements.join(*parts)))
    return sections


def _prompt(row: Result) -> str | None:
    if "templates" not in row:  # of random images: the model's own row tells it
        return None
    if len(row["templates"]) == 1:
        return f"“{row['templates'][0]}”"
    return f"{len(row['templates'])} templates, {AVERAGES[row['average']]}"


def _alone(of_template: Mapping[str, float]) -> str:
    worst, best = (pick(of_template, key=of_template.__getitem__) for pick in (min, max))
    return (
        f"one template alone gives {of_template[worst]:.2f} (“{worst}”) to {of_template[best]:.2f} per cent (“{best}”)"
    )


def _probe_table(linear: Sequence[Result], knn: Sequence[Result]) -> elements.Html:
    if not linear and not knn:
        return elements.Html("")
    by_model: dict[str, dict[str, Result]] = {}
    for row in (*linear, *knn):
        by_model.setdefault(_probe_of(row), {})[row["task"]] = row
    cells = [_probe_row(model, found) for model, found in by_model.items()]
    columns: list[str | tuple[str, str]] = [
        "",
        *(("Linear probe", heading) for heading in ("Accuracy", "Per-class recall", "C")),
        *(("k-NN", heading) for heading in ("Majority", "Weighted", "k")),
        *(("Images", heading) for heading in ("Train", "Validation", "Test")),
    ]
    caption = (
        "Accuracy in per cent on the test part; C, the inverse strength of regularisation, is chosen on the validation "
        "part. The parts are in the folder splits."
    )
    itra = (
        "By ITRA: the last fifth of each class's files is tested; the linear layer is trained by SGD on all others and "
        "taken at its best epoch on the test images, which flatters. RemoteCLIP's k-NN accuracy is the weighted one."
    )
    said = elements.remark(itra) if any(row.get("protocol") for row in (*linear, *knn)) else elements.Html("")
    return elements.join(elements.table(cells, columns, caption), said)


def _probe_row(model: str, found: Mapping[str, Result]) -> list:
    linear, knn = found.get("linear_probe", {}), found.get("knn", {})
    either = linear or knn
    return [
        model,
        *(linear.get(key) for key in ("accuracy", "mean_per_class_recall")),
        f"{linear['C']:g}" if "C" in linear else None,
        *(knn.get(key) for key in ("accuracy", "accuracy_weighted", "k")),
        *(either["parts"][part] for part in ("train", "validation", "test")),
    ]


def _probe_of(row: Result) -> str:
    return f"{model_of(row)}, by ITRA" if row.get("protocol") == "itra" else model_of(row)


def _few_shot(rows: Sequence[Result]) -> list[elements.Html]:
    if not rows:
        return []
    shots = sorted({int(shot) for row in rows for shot in row["shots"]})
    curves, cells = {}, []
    for row in rows:
        of_model = {int(shot): told for shot, told in row["shots"].items()}
        spread = [of_model[shot]["std"] for shot in sorted(of_model)]
        curves[model_of(row)] = (sorted(of_model), [of_model[shot]["mean"] for shot in sorted(of_model)], spread)
        told = (of_model.get(shot) for shot in shots)
        cells.append([model_of(row), *(each and _mean(each) for each in told)])
    caption = f"Accuracy in per cent, mean and standard deviation of {rows[0]['draws']} draws."
    return [
        plots.side_by_side([plots.line_plot(curves, "images of each class", "", "Few-shot accuracy, %", shots)]),
        elements.table(cells, ["", *(("Images of each class", f"{shot}") for shot in shots)], caption),
    ]


def _mean(draws: Mapping[str, float]) -> elements.Told:
    mean, spread = draws["mean"], draws["std"]
    return elements.Told(f"{mean:.2f} ± {spread:.2f}", f"{mean:.8g} ± {spread:.8g}")


def _matrices(rows: Sequence[Result], opened: bool = False) -> elements.Html:
    """The confusion matrix of each model, to be opened; that of the best one may be open."""
    best = max(rows, key=lambda row: row["accuracy"], default=None)
    return elements.join(
        *(
            elements.fold(
                f"Confusion matrix: {_probe_of(row)}",
                elements.join(
                    elements.paragraph(most_confused(row["confusion"], row["classes"])),
                    confusion_matrix(row["confusion"], row["classes"]),
                    elements.remark("Rows: true classes; columns: predicted ones; per cent of the row."),
                ),
                opened and row is best,
            )
            for row in rows
        )
    )
