"""The rules as a stage: records with boxes, classes or a label get the texts that they lack."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.corpus.rules.long import long
from lrsclip_jax.corpus.rules.scene import sort
from lrsclip_jax.corpus.rules.short import negatives, short
from lrsclip_jax.data.draws import stream
from lrsclip_jax.errors import InputError, MissingPackage
from lrsclip_jax.sources.item import Thing

STAGE = "captions"


@dataclass(frozen=True)
class Description:
    """Five short captions, and a long one of several sentences; "" where there are no boxes to speak of.

    `negative` has for each short caption a hard negative: the same with a number or a place changed, so that it is
    false; "" where it says none.
    """

    short: tuple[str, ...]
    long: str
    negative: tuple[str, ...]


def describe(
    things: Sequence[Thing],
    width: int | None,
    height: int | None,
    *,
    key: tuple,
    label: str | None = None,
    max_tokens: int = 240,
) -> Description:
    """Describes an image by its annotation alone: every statement follows from boxes, outlines, classes and label.

    Captions 1 to 5 are RemoteCLIP's (arXiv 2306.11029): the objects in the centre, those elsewhere, and three of
    counts, with vague words beyond ten. The sentences are our own. Classes without boxes are named, not counted.

    Args:
      things: of the image; names such as "background" are passed over.
      width, height: of the image in pixels; may be None where no thing has a box.
      key: decides the draws of words; the same key and things give the same texts everywhere.
      label: class of the whole scene.
      max_tokens: CLIP tokens of the long caption at most, start and end included.

    Raises:
      InputError: there is neither a thing nor a label, a box lies outside the image, or a name has no letters.
    """
    if (width is None or height is None) and any(thing.box for thing in things):
        raise InputError("there are boxes, but no width and height of the image to place them in")
    scene = sort(things, width or 0, height or 0, label)
    if not (scene.groups or scene.present or scene.label):
        raise InputError("there are no things, and no label to describe it by")
    digest = hashlib.sha256(repr(key).encode()).digest()
    numbers = functools.partial(stream, int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big"))
    rng = numbers()
    texts = short(scene, rng)
    return Description(texts, long(scene, rng, max_tokens), negatives(scene, texts, numbers, numbers(purpose=1)))


def caption_by_rules(records: Iterable[CorpusRecord], seed: int = 0) -> Iterator[CorpusRecord | SetAside]:
    """Yields each record with short and long texts where it had none; texts that it has are kept.

    Short texts that it gets bring their hard negatives.

    A record that ends without any text is set aside with the reason. Memory is that of one record.
    """
    for record in records:
        if record.short and record.long:
            yield record
            continue
        try:
            found = describe(record.things, record.width, record.height, key=(seed, record.id), label=record.label)
        except MissingPackage:
            raise
        except InputError as error:
            yield record if record.short or record.long else SetAside(record.id, STAGE, str(error))
            continue
        negative = record.negative if record.short or not any(found.negative) else found.negative
        filled: dict[str, Any] = {
            "short": record.short or found.short,
            "long": record.long or ((found.long,) if found.long else ()),
        }
        added = [name for name, texts in filled.items() if texts != getattr(record, name)]
        steps = (Step(STAGE, "rules", ", ".join(added)),) if added else ()
        yield dataclasses.replace(record, **filled, negative=negative, provenance=record.provenance + steps)
