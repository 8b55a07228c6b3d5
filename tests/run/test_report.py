"""Reports: one file that fetches nothing, holds what it was given, and shows text from data as text."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from documents import EVIL, Document, assert_fetches_nothing, model_outputs, picture

from eval.html import elements
from eval.html.frame import page
from eval.html.galleries import OWN
from eval.html.retrieval_table import best_five
from eval.retrieval import bootstrap_interval, chance, ranks_to_metrics, retrieval_ranks
from lrsclip_jax.errors import InputError
from lrsclip_jax.heldout import HeldOutReport, comparison
from lrsclip_jax.run.forgetting import scores_before
from lrsclip_jax.run.report import Facts, compose, write_report


def test_page_escapes_text_and_keeps_markup():
    markup = page(EVIL, [(EVIL, elements.paragraph(EVIL)), ("plain", EVIL)], summary=EVIL)
    document = Document(markup)
    assert not document.all("script")
    assert "".join(document.text("h1")) == EVIL
    assert [text for tag, text in document.texts].count(EVIL) == 6
    assert_fetches_nothing(markup)


def test_table_cells_and_grouped_heads():
    columns = ["", ("To image", "R@1"), ("To image", "R@5"), ("To text", "R@1"), "Texts"]
    rows = [["ours", 12.345, np.float32(5), float("nan"), 12345], [EVIL, None, 0.0, -1.5, np.int64(7)]]
    document = Document(elements.table(rows, columns, caption=EVIL, digits=1))
    assert document.text("td") == ["12.3", "5.0", "–", "12,345", "–", "0.0", "-1.5", "7"]
    assert document.text("th") == ["To image", "To text", "Texts", "R@1", "R@5", "R@1", "ours", EVIL]
    assert [head["colspan"] for head in document.all("th") if "colspan" in head] == ["2", "1"]
    assert document.text("figcaption") == [EVIL]
    assert not Document(elements.table(rows, list("abcde"))).all("figcaption")
    with pytest.raises(ValueError, match="row 'ours' has 2 cells for 3 columns"):
        elements.table([["ours", 1.0]], ["", "a", "b"])


def test_folds_and_fragments_below_each_other():
    inner = elements.join(elements.subheading(EVIL), elements.Html(""), elements.remark(EVIL))
    document = Document(elements.fold(EVIL, inner, opened=True))
    assert document.texts == [("summary", EVIL), ("h3", EVIL), ("p", EVIL)]
    assert document.all("details") == [{"open": None}]
    assert Document(elements.fold(EVIL, EVIL)).all("details") == [{}]


RUN = Facts("quickstart", "tiny, AdamW", "6,000 scenes", batch_size=64, seconds=185.0, machine="1 × cpu")


def metric_rows(steps=40):
    rows = []
    for step in range(1, steps + 1):
        losses = {"loss": 4 / step, "loss_long": 3 / step}
        rows.append({"step": step, **losses, "learning_rate": 1e-3, "pairs_per_second": 100.0 + step})
    return rows + [{"step": step, "eval/scenes:30:1/long/mean_recall": 50 + step} for step in (20, 40)]


def test_report_of_a_run(tmp_path):
    images, texts, image_of_text = model_outputs()
    ranks = retrieval_ranks(images, texts, image_of_text)
    results = {"chance": chance(30, image_of_text), "long": ranks_to_metrics(ranks)}
    said = [f"text {row} {EVIL}" for row in range(30)]
    queries = best_five(said, texts, images, image_of_text, picture, lambda row: None, count=4)
    held = HeldOutReport("scenes:30:1", results, ["a remark"], queries)
    path = write_report(tmp_path, RUN, metric_rows(), [held])
    assert [child.name for child in tmp_path.iterdir()] == ["report.html"]
    markup = path.read_bytes().decode()
    assert markup == compose(RUN, metric_rows(), [held])
    assert_fetches_nothing(markup)

    document = Document(markup)
    assert document.text("p")[0] == (
        "tiny, AdamW; trained on 6,000 scenes: 40 steps of 64 pairs in 3 min 05 s, 120 pairs/s, on 1 × cpu."
    )
    assert document.text("figcaption")[:4] == [
        "Loss",
        "Held-out mean recall, %",
        "Learning rate",
        "Throughput, pairs/s",
    ]
    assert document.text("li") == ["total", "long text", "long", "chance"]  # legends
    row = results["long"]
    values = [*row["text_to_image"].values(), *row["image_to_text"].values(), row["mean_recall"]]
    assert document.text("td")[:8] == [*(f"{value:.2f}" for value in values), "30"]
    assert document.text("figcaption")[-1].endswith("over random order.")  # no ties, nothing to say of them
    assert "a remark" in document.text("p")
    assert len(document.all("article")) == 4
    assert len(document.all("img")) == 20


def test_comparison_says_both_recalls_and_the_ratio():
    images, texts, image_of_text = model_outputs()
    good, poor = (retrieval_ranks(images, rows, image_of_text) for rows in (images, texts))
    interval = bootstrap_interval(operator.truediv, good, poor)
    poor_recall = ranks_to_metrics(poor)["mean_recall"]
    assert comparison("long", good, "first 20 tokens", poor).replace("\xa0", " ") == (
        f"Mean recall: long 100.00 %; first 20 tokens {poor_recall:.2f} %; ratio {100 / poor_recall:.2f} "
        f"(95 % bootstrap interval {interval.low:.2f} to {interval.high:.2f})."
    )


def test_two_sets_have_their_own_curves_tables_and_galleries():
    _, _, image_of_text = model_outputs()
    results = {"long": chance(30, image_of_text)}
    metrics = [{"step": 1, f"eval/{name}/long/mean_recall": 5.0} for name in ("a+b", "c")]
    sets = [HeldOutReport(name, results, queries=[("q", [(picture(), "", OWN)])]) for name in ("a+b", "c")]
    document = Document(compose(RUN, metrics, sets))
    assert document.text("figcaption")[:2] == [f"Held-out mean recall on {name}, %" for name in ("a+b", "c")]
    assert document.text("h2")[1:] == [
        "Retrieval on a+b",
        "Queries and their five best images, a+b",
        "Retrieval on c",
        "Queries and their five best images, c",
    ]


def test_a_long_run_makes_no_large_page():
    noise = np.random.default_rng(0).random(20_000)
    assert len(compose(RUN, [{"step": step, "loss": loss} for step, loss in enumerate(noise)], [])) < 50_000


def test_a_run_without_metrics_has_a_page():
    document = Document(compose(RUN, [], []))
    assert document.text("h2") == []
    assert "0 steps of 64 pairs" in document.text("p")[0]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"can't write .*report\.html: Not a directory") as error:
        write_report(tmp_path / "file", RUN, [], [])
    assert "\n" not in str(error.value)


def test_where_the_time_went_is_the_mean_of_all_steps():
    speed = {"tflops_useful": 20.0, "tflops_executed": 30.0, "padding": 0.125}
    metrics = [
        {"step": 10, "ms/host": 1.0, "ms/device": 98.0, "ms/compile": 1000.0, "mfu": 0.5, **speed},
        {"step": 10, "eval/a/long/mean_recall": 5.0},
        {"step": 40, "ms/host": 3.0, "ms/device": 94.0, "mfu": 0.25, **speed},
    ]
    document = Document(compose(RUN, metrics, []))
    assert document.text("h2") == ["Where the time went"]
    assert document.text("td") == ["2.50", "0.72", "95.00", "27.34", "250.00", "71.94"]
    assert document.text("th")[-3:] == ["dispatching steps, Python", "waiting for the devices", "compiling"]
    assert document.text("p")[-1] == (
        "In the median a device did 30 TFLOP/s, of which 20 were useful (MFU 37.5%); "
        "12.5% of the text tower's slots were padding."
    )
    assert "MFU" not in compose(RUN, [{key: row[key] for key in row if key != "mfu"} for row in metrics], [])


def test_scores_before_the_first_step_begin_the_curve_and_are_no_level():
    rows = [
        {"step": 0, "eval/set/long/mean_recall": 7.0},
        *metric_rows()[:3],
        {"step": 3, "eval/set/long/mean_recall": 9},
    ]
    result = {"text_to_image": {"R@1": 1.0}, "image_to_text": {"R@1": 2.0}, "mean_recall": 7.0, "texts": 3, "images": 3}
    assert scores_before(rows) == {"eval/set/long/mean_recall": 7.0}
    assert scores_before(rows[1:]) == {}
    names = ("long, before training", "long", "chance")
    document = Document(compose(RUN, rows, [HeldOutReport("set", dict.fromkeys(names, result))]))
    assert document.text("li") == ["total", "long text", "long", "chance"]
    assert [head for head in document.text("th") if head in names] == list(names)
