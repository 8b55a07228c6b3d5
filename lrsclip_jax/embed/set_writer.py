"""Writes an embedding set. A call that was stopped is continued by the same call."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.embeddings import EDITED, finish_set, write_lines
from eval.lock import alone
from eval.sentences import joined, sentences, shuffled
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.data.tokenizer import Tokenizer, cut, fit
from lrsclip_jax.embed import parts
from lrsclip_jax.embed.about_model import about_encoder
from lrsclip_jax.embed.material import Material, Row
from lrsclip_jax.embed.views import turned
from lrsclip_jax.encoders import static_length
from lrsclip_jax.errors import InputError
from lrsclip_jax.pretrained import Pretrained

PART = 512  # rows, about: what a kill may cost
PICTURES, LONGEST_SIDE = "pictures", 512  # pixels


def make_set(
    out: Path,
    material: Material,
    model: Pretrained,
    about: Mapping[str, Any],
    *,
    pictures: bool = False,
    max_bad: int = 0,
) -> tuple[int, int]:
    """Writes the embedding set of `material` into `out`.

    Args:
      out: a new or empty folder, or one where the same call was stopped.
      material: images and texts; a side that the model does not embed must be empty.
      model: embeds them, `model.batch_size` at a time.
      about: for meta.json; dimension and scenes are added.
      pictures: keep a small copy of every image in the set.
      max_bad: unusable rows and images to bear; they and their texts are left out, and listed in skipped.jsonl.

    Returns:
      How many rows and images were left out, and how many texts were cut to the context length.

    Raises:
      InputError: `out` holds something else, more than `max_bad` can't be used, or a row has no direction.
    """
    _check_count([f"{fault.where}: {fault.reason}" for fault in material.faults], max_bad)
    max_bad -= len(material.faults)
    size = math.ceil(PART / model.batch_size) * model.batch_size
    if pictures:
        named = [{**row, "file": f"{PICTURES}/{number:07d}.jpg"} for number, row in enumerate(material.images)]
        material = replace(material, images=named)
    with alone(out, "lrsclip embed"):
        parts.claim(out, {**about, "batch size": model.batch_size, "images and texts": _digest(material)})

        images = parts.plan_parts(out, "images", len(material.images), size)
        _embed_images(images, out, material, model, max_bad, pictures)
        unusable = {material.images[row]["id"]: reason for row, reason in _unusable(images)}
        kept = [text for text in material.texts if text.get("image") not in unusable]
        texts = parts.plan_parts(out, "texts", len(kept), size)
        _embed_texts(texts, kept, model)

        sides = {"images": (images, material.images), "texts": (texts, kept)}
        dims = [parts.join(out, side, list(files), rows) for side, (files, rows) in sides.items() if files]
        shortened = sum(int((parts.load(path)["length"] > model.context_length).sum()) for path in texts)
        skipped = [{"id": fault.id, "reason": fault.reason, "where": fault.where} for fault in material.faults]
        skipped += [{"id": name, "reason": reason} for name, reason in unusable.items()]
        if skipped:
            write_lines(out / "skipped.jsonl", skipped)
        longest = max((int(parts.load(path)["length"].max()) for path in texts), default=0)
        encoder = {"encoder": about_encoder(model, longest)} if model.features == "encoder" else {}
        scenes = {"scenes": material.scenes} if material.scenes else {}
        finish_set(out, {**about, "dim": dims[0], **encoder, **scenes})
        shutil.rmtree(out / parts.FOLDER)
        return len(skipped), shortened


def sweep(texts: Sequence[Row], lengths: Sequence[int], context_length: int) -> list[Row]:
    """Returns the long texts (the short ones where there are none) once for each of `lengths`, to be cut to it.

    Raises InputError for a length that leaves no room for a word, or that the tower can't read.
    """
    for length in lengths:
        if not 3 <= length <= context_length:
            raise InputError(f"--text-lengths: {length} is not between 3 and {context_length}, the context length")
    kind = _swept_kind(texts, "--text-lengths")
    return [{**text, "tokens": length} for length in sorted(set(lengths)) for text in texts if text["kind"] == kind]


def sentence_sweep(texts: Sequence[Row], most: int) -> list[Row]:
    """Returns what the long texts (the short ones where there are none) become by sentences, see `eval.text_sentences`.

    That is, of each text of several sentences, the first 1, 2, … of them, up to `most`; all of them shuffled, in an
    order that depends on the text alone; and all but the first. Raises InputError where no text has two sentences.
    """
    kind = _swept_kind(texts, "--sentences")
    found: list[Row] = []
    for text in texts:
        parts_of = sentences(text["text"]) if text["kind"] == kind else []
        if len(parts_of) < 2:
            continue
        row = {**text, "kind": EDITED, "of": kind, "whole": text["text"]}
        for count in range(1, min(len(parts_of), most) + 1):
            found.append({**row, "text": joined(parts_of[:count]), "edit": "first", "sentences": count})
        found.append({**row, "text": shuffled(text["text"]), "edit": "shuffled"})
        found.append({**row, "text": joined(parts_of[1:]), "edit": "without_first"})
    if not found:
        raise InputError(f"--sentences: no {kind} text has two sentences")
    return found


def _swept_kind(texts: Sequence[Row], option: str) -> str:
    kinds = {text["kind"] for text in texts}
    for kind in ("long", "short"):
        if kind in kinds:
            return kind
    raise InputError(f"{option}: there are no long or short texts to cut")


def check_directions(rows: np.ndarray, names: Sequence[str], source: str) -> None:
    """Raises InputError for rows that have no direction, naming the first and the model's source."""
    lengths = np.linalg.norm(rows, axis=-1)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise InputError(f"{source} gives {names[wrong[0]]!r:.80} a row that is zero or not finite: damaged weights?")


def _embed_images(
    files: Mapping[Path, range],
    out: Path,
    material: Material,
    model: Pretrained,
    max_bad: int,
    pictures: bool,
) -> None:
    """Writes the parts that are missing: `rows`, `kept`, and the `reasons` why the others are `unusable`."""
    if pictures:
        (out / PICTURES).mkdir(exist_ok=True)

    def decoded(row: int) -> np.ndarray | str:
        try:
            image = material.read(row)
        except InputError as error:
            return str(error)
        if pictures:
            assert isinstance(image, Image.Image), "images of bands are no pictures, as main says"
            _keep(image, out / material.images[row]["file"])
        return turned(model.preprocess(image), material.images[row].get("turn", 0))

    missing = {
        path: span
        for path, span in files.items()
        if not (parts.is_done(path, span) and (not pictures or parts.files_are_whole(path, out)))
    }
    bad = _unusable(path for path in files if path not in missing)
    stream = in_threads(decoded, itertools.chain.from_iterable(missing.values()))
    with _progress("images", files, missing) as bar:
        for path, span in missing.items():
            kept: list[int] = []
            known = len(bad)

            def usable(span: range = span, kept: list[int] = kept) -> Iterator[np.ndarray]:
                for row, pixels in zip(span, stream, strict=False):
                    bar.update()
                    if isinstance(pixels, str):
                        bad.append((row, pixels))
                        _check_count([reason for _, reason in bad], max_bad)
                    else:
                        kept.append(row)
                        yield pixels

            rows = model.encode("image", usable())
            check_directions(rows, [material.images[row]["id"] for row in kept], model.source)
            if pictures:
                parts.save_checksums(path, out, [material.images[row]["file"] for row in kept])
            unusable, reasons = [row for row, _ in bad[known:]], [reason for _, reason in bad[known:]]
            parts.save(path, rows=rows, kept=kept, unusable=unusable, reasons=np.array(reasons, np.str_))


def _embed_texts(files: Mapping[Path, range], texts: Sequence[Row], model: Pretrained) -> None:
    """Writes the parts that are missing: `rows`, `kept`, and `length`, each text's own number of tokens."""
    missing = {path: span for path, span in files.items() if not parts.is_done(path, span)}
    with _progress("texts", files, missing) as bar:
        for path, span in missing.items():
            ids = model.tokenizer.encode([texts[row]["text"] for row in span])
            limits = [texts[row].get("tokens", model.context_length) for row in span]
            # One length for many texts: padding changes no row, and every length is a program of its own.
            padded = np.array(
                [static_length(min(len(row), n), model.context_length) for row, n in zip(ids, limits, strict=True)]
            )
            found: dict[int, np.ndarray] = {}
            for length in np.unique(padded):
                chosen = np.flatnonzero(padded == length).tolist()
                fitted = (_fitted(ids[n], limits[n], int(length), model.tokenizer) for n in chosen)
                rows = model.encode("text", fitted)
                found |= dict(zip(chosen, rows, strict=True))
                bar.update(len(chosen))
            rows = np.stack([found[n] for n in range(len(span))])
            check_directions(rows, [texts[row]["text"] for row in span], model.source)
            parts.save(path, rows=rows, kept=np.array(span), length=[len(row) for row in ids])


def _fitted(ids: Sequence[int], limit: int, length: int, tokenizer: Tokenizer) -> np.ndarray:
    shorter = cut(ids, min(limit, len(ids)), tokenizer.end)
    return fit(shorter, length, tokenizer.end, tokenizer.pad)


def _check_count(reasons: Sequence[str], max_bad: int) -> None:
    if len(reasons) > max_bad:
        count = f"{len(reasons)} rows or images can't be used, the last: " if len(reasons) > 1 else ""
        raise InputError(f"{count}{reasons[-1]}; mend it and start again, or leave out up to N with --max-bad=N")


def _unusable(files: Iterable[Path]) -> list[tuple[int, str]]:
    """The rows of unusable images in parts that are there, and why."""
    found = map(parts.load, files)
    return [pair for part in found for pair in zip(part["unusable"].tolist(), part["reasons"].tolist(), strict=True)]


def _keep(image: Image.Image, path: Path) -> None:
    picture = image.copy()
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BICUBIC)
    picture.save(path, "JPEG", quality=88)


def _progress(what: str, files: Mapping[Path, range], missing: Mapping[Path, range]) -> tqdm:
    total, left = (sum(map(len, group.values())) for group in (files, missing))
    return tqdm(desc=what, total=total, initial=total - left, unit=f" {what}", disable=None if left else True)


def _digest(material: Material) -> str:
    rows = json.dumps([material.images, material.texts, material.scenes], sort_keys=True)
    return hashlib.blake2b(rows.encode(), digest_size=8).hexdigest()
