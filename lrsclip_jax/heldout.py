"""Held-out sets, during training and after it: embeds a set and scores retrieval and classification with `eval`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from eval import retrieval, zeroshot
from eval.class_texts import class_texts
from eval.html.galleries import Query
from eval.html.retrieval_table import best_five
from lrsclip_jax.data import band_image
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.data.prepared.opening import check_bands, open_records
from lrsclip_jax.data.prepared.records import Record, token_ids
from lrsclip_jax.data.preprocessing import Preprocessing, preprocess
from lrsclip_jax.data.tokenizer import Tokenizer, fit
from lrsclip_jax.encoders import Encoders, embed
from lrsclip_jax.errors import InputError, nearest

BEFORE = "before training"


@dataclass(frozen=True)
class Texts:
    """All texts of one kind in a set: untruncated ids, and for each the row of its image."""

    ids: list[list[int]]
    image: np.ndarray
    text: list[str]


@dataclass(frozen=True)
class Classes:
    """The classes of a set: ids and label of each class text, and the label of each image."""

    ids: list[list[int]]
    label_of_text: list[str]
    label_of_image: list[str]


@dataclass(frozen=True)
class HeldOut:
    """A held-out set: its records, its long and short texts (without a kind that no record has), its classes."""

    name: str
    records: Sequence[Record]
    texts: dict[str, Texts]
    classes: Classes | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table: a name such as "long" or "long, first 20 tokens", text embeddings, ranks and metrics.

    `cut` counts the texts that were longer than the row's length.
    """

    name: str
    texts: Texts
    cut: int
    embeddings: np.ndarray
    ranks: retrieval.Retrieval
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The scores of one set: its records, their image embeddings (float32 [I, E]), and a row for each kind of text.

    `zeroshot` is the result of `eval.zeroshot` where the set has classes.
    """

    heldout: HeldOut
    images: np.ndarray
    rows: list[Row]
    zeroshot: dict[str, Any] | None = None


@dataclass(frozen=True)
class HeldOutReport:
    """A held-out set for the report: rows of its table (name → result of `eval.retrieval`), remarks, queries to show.

    `name` is that of the metrics "eval/NAME/ROW/mean_recall". A row that the metrics lack, such as chance, is
    drawn among the curves as a level.
    """

    name: str
    results: Mapping[str, Mapping]
    remarks: Sequence[str] = ()
    queries: Sequence[Query] = ()


def load(source: str, tokenizer: Tokenizer, templates: Sequence[str] = (), bands: Sequence[str] = ()) -> HeldOut:
    """Opens a held-out set (as `data.sources` names it) and reads its texts, see `of_records`.

    Raises InputError where its images lack one of `bands`; () are red, green and blue.
    """
    records = open_records(source)
    check_bands(source, records, bands)
    return of_records(source.rsplit("/", 1)[-1], records, tokenizer, templates)


def of_records(name: str, records: Sequence[Record], tokenizer: Tokenizer, templates: Sequence[str] = ()) -> HeldOut:
    """Returns records as a held-out set, with all their texts; images are read when needed.

    With `templates`, as `eval.facts.classes.templates` knows them, a set whose records all have labels, of at least two
    classes, is classified as well. Raises InputError where there is no text.
    """
    texts, labels = {}, [records[row].label for row in range(len(records))] if templates else []
    for kind in ("long", "short"):
        ids, image, raw = [], [], []
        for row in range(len(records)):
            record = records[row]
            found = token_ids(record, tokenizer)[kind]
            ids += found
            image += [row] * len(found)
            raw += getattr(record, kind)
        if ids:
            texts[kind] = Texts(ids, np.asarray(image), raw)
    if not texts:
        raise InputError(f"{name} has no text at all")
    classes = None
    given = [label for label in labels if label is not None]
    if len(given) == len(labels) and len(set(given)) > 1:
        prompts = class_texts(given, templates)
        ids = tokenizer.encode([prompt["text"] for prompt in prompts])
        classes = Classes(ids, [prompt["label"] for prompt in prompts], given)
    return HeldOut(name, records, texts, classes)


def score(
    heldout: HeldOut,
    encoders: Encoders,
    params: Any,
    tokenizer: Tokenizer,
    preprocessing: Preprocessing,
    *,
    lengths: dict[str, int],
    truncations: Sequence[int] = (),
    batch_size: int,
) -> Table:
    """Embeds a set and scores retrieval for each kind of text; long texts also cut to each of `truncations` tokens.

    All processes of a run call it together. Each reads the whole set; the embedding is shared, the scoring is not.

    Args:
      lengths: static length in tokens of each kind, "long" and "short".
      truncations: numbers of tokens, start and end token included (the end token takes the last place).
    """

    def embedded(encode: Callable, rows: Iterable[np.ndarray], count: int, what: str) -> np.ndarray:
        shown = tqdm(rows, f"{heldout.name}: {what}", count, leave=False, disable=None)
        return embed(encode, params, shown, batch_size)

    def row(name: str, texts: Texts, length: int) -> Row:
        ids = (fit(text, length, tokenizer.end, tokenizer.pad) for text in texts.ids)
        embeddings = embedded(encoders.texts, ids, len(texts.ids), name)
        ranks = retrieval.retrieval_ranks(images, embeddings, texts.image)
        cut = sum(len(text) > length for text in texts.ids)
        return Row(name, texts, cut, embeddings, ranks, retrieval.ranks_to_metrics(ranks))

    def classify(classes: Classes) -> dict[str, Any]:
        names = sorted(set(classes.label_of_image))
        ids = (fit(text, lengths["short"], tokenizer.end, tokenizer.pad) for text in classes.ids)
        prompts = embedded(encoders.texts, ids, len(classes.ids), "classes")
        vectors = zeroshot.class_vectors(prompts, None, classes.label_of_text, names)
        return zeroshot.zeroshot_metrics(images, vectors, classes.label_of_image, names)

    images = embedded(encoders.images, pixels(heldout.records, preprocessing), len(heldout.records), "images")
    rows = [row(kind, texts, lengths[kind]) for kind, texts in heldout.texts.items()]
    if "long" in heldout.texts:
        rows += [row(f"long, first {n} tokens", heldout.texts["long"], n) for n in truncations]
    return Table(heldout, images, rows, classify(heldout.classes) if heldout.classes else None)


def scorer(
    held_out: Sequence[HeldOut],
    encoders: Encoders,
    tokenizer: Tokenizer,
    preprocessing: Preprocessing,
    lengths: dict[str, int],
    config: ConfigDict,
) -> Callable[[Any], list[Table]]:
    """Returns the function from parameters to the table of each set; `config` is `config.eval`, the rest as `score`."""

    def tables(params: Any) -> list[Table]:
        return [
            score(
                held,
                encoders,
                params,
                tokenizer,
                preprocessing,
                lengths=lengths,
                truncations=config.truncations,
                batch_size=config.batch_size,
            )
            for held in held_out
        ]

    return tables


def pixels(records: Sequence[Record], preprocessing: Preprocessing) -> Iterator[np.ndarray]:
    """Yields every record's image in order, [S, S, C], preprocessed for the model by a thread per core."""

    def decode(row: int) -> np.ndarray:
        return preprocess(band_image.seen(records[row].image, preprocessing), preprocessing)

    yield from in_threads(decode, range(len(records)))


def flat(tables: Sequence[Table]) -> dict[str, float]:
    """Returns the scores as one row of metrics.jsonl: "eval/SET/long/text_to_image/R@1": …"""
    rows = [(f"eval/{table.heldout.name}/{row.name}", row.metrics) for table in tables for row in table.rows]
    accuracies = {_accuracy(table.heldout): table.zeroshot["accuracy"] for table in tables if table.zeroshot}
    return {name: value for prefix, metrics in rows for name, value in _named(prefix, metrics)} | accuracies


def check_score(key: str, metric: str | None, held_out: Sequence[HeldOut], truncations: Sequence[int]) -> None:
    """Raises InputError unless the value of a key is None or the name of a score, before anything is trained."""
    names = [_accuracy(held) for held in held_out if held.classes]
    for held in held_out:
        for kind, texts in held.texts.items():
            cut = [f"long, first {n} tokens" for n in truncations] if kind == "long" else []
            metrics = retrieval.chance(len(held.records), texts.image)  # named as every row's
            names += [name for row in (kind, *cut) for name, _ in _named(f"eval/{held.name}/{row}", metrics)]
    if metric is not None and metric not in names:
        known = nearest(metric, names) or f", such as {names[0]}" if names else ": eval.sources is empty"
        raise InputError(f"{key}={metric} is no score of this run{known}")


def _accuracy(held: HeldOut) -> str:
    return f"eval/{held.name}/zeroshot/accuracy"


def _named(prefix: str, metrics: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield f"{prefix}/mean_recall", metrics["mean_recall"]
    for direction in ("text_to_image", "image_to_text"):
        for name, value in metrics[direction].items():
            yield f"{prefix}/{direction}/{name}", value


def lines(table: Table, before: Mapping[str, float] | None = None) -> list[str]:
    """Returns the table as lines of text, recalls in per cent, followed by the `remarks`.

    `before` are the `flat` scores before the first step, as far as they are known: each has a row above its own.
    """
    ks = list(table.rows[0].metrics["text_to_image"])
    results = _results(table, before or {})
    width = max(len(name) for name in results)
    out = [
        f"{table.heldout.name}, {len(table.images):,} images",
        f"{'':{width}}  text to image {'':{8 * len(ks) - 15}} image to text {'':{8 * len(ks) - 15}}    mean",
        f"{'':{width}}  {''.join(f'{k:>8}' for k in ks)} {''.join(f'{k:>8}' for k in ks)}  recall",
    ]
    for name, metrics in results.items():
        recalls = ("".join(f"{metrics[side][k]:8.2f}" for k in ks) for side in ("text_to_image", "image_to_text"))
        out.append(f"{name:{width}}  {' '.join(recalls)}{metrics['mean_recall']:8.2f}")
    kinds = [row for row in table.rows if row.name in table.heldout.texts and row.cut]
    cut = [f"Of {len(row.texts.ids):,} {row.name} texts {row.cut:,} were cut to fit." for row in kinds]
    return out + cut + remarks(table, before)


def remarks(table: Table, before: Mapping[str, float] | None = None) -> list[str]:
    """Returns a sentence on classification, and one that compares the long text with each of its truncations."""
    long = next((row for row in table.rows if row.name == "long"), None)
    cut = [row for row in table.rows if row.name.startswith("long, ")]
    found = []
    if long:
        found = [comparison("long text", long.ranks, row.name.removeprefix("long, "), row.ranks) for row in cut]
    if table.zeroshot:
        accuracy, classes = table.zeroshot["accuracy"], len(table.zeroshot["classes"])
        start = (before or {}).get(_accuracy(table.heldout))
        was = "" if start is None else f"; {start:.2f} % {BEFORE}"
        said = f"Zero-shot: {accuracy:.2f} % of the images are put into the right one of {classes} classes{was}."
        found.insert(0, said)
    return found


def comparison(name: str, ranks: retrieval.Retrieval, other_name: str, other_ranks: retrieval.Retrieval) -> str:
    """Returns a sentence: the mean recalls of two rows over the same images, their ratio and its interval."""
    value, other = (retrieval.ranks_to_metrics(each)["mean_recall"] for each in (ranks, other_ranks))
    ratio = retrieval.bootstrap_interval(operator.truediv, ranks, other_ranks)
    return (
        f"Mean recall: {name} {value:.2f} %; {other_name} {other:.2f} %; ratio {ratio.value:.2f} "
        f"(95 % bootstrap interval {ratio.low:.2f} to {ratio.high:.2f})."
    ).replace(" %", "\N{NO-BREAK SPACE}%")


def for_report(table: Table, before: Mapping[str, float] | None = None) -> HeldOutReport:
    """Returns the table for the run's report, with queries from the first kind of text; `before` as for `lines`."""

    def picture(row: int) -> np.ndarray:
        return np.asarray(band_image.picture(table.heldout.records[row].image))

    def label(row: int) -> str | None:
        return table.heldout.records[row].label

    shown = table.rows[0]
    queries = best_five(shown.texts.text, shown.embeddings, table.images, shown.texts.image, picture, label)
    return HeldOutReport(table.heldout.name, _results(table, before or {}), remarks(table, before), queries)


def _results(table: Table, before: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Returns the rows of the table: chance (of each kind of text, where they differ), then the measured rows."""
    chances = {
        row.name: retrieval.chance(len(table.images), row.texts.image)
        for row in table.rows
        if row.name in table.heldout.texts
    }
    same = len({round(chance["mean_recall"], 2) for chance in chances.values()}) == 1
    first = {"chance": next(iter(chances.values()))} if same else {f"chance, {kind}": c for kind, c in chances.items()}
    measured: dict[str, dict[str, Any]] = {}
    for row in table.rows:
        if start := _before(table.heldout.name, row, before):
            measured[f"{row.name}, {BEFORE}"] = start
        measured[row.name] = row.metrics
    return first | measured


def _before(name: str, row: Row, scores: Mapping[str, float]) -> dict[str, Any] | None:
    """The result of a row before the first step, None where the scores lack some of it."""
    prefix = f"eval/{name}/{row.name}"
    known = {metric for metric, _ in _named(prefix, row.metrics)}
    if not known <= scores.keys():
        return None
    recalls = {
        direction: {k: scores[f"{prefix}/{direction}/{k}"] for k in row.metrics[direction]}
        for direction in ("text_to_image", "image_to_text")
    }
    counts = {count: row.metrics[count] for count in ("texts", "images")}
    return {**recalls, "mean_recall": scores[f"{prefix}/mean_recall"], **counts}
