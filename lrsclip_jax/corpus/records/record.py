"""The record of a captioned image on its way into a corpus, which every stage reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eval.file_names import named
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing


@dataclass(frozen=True)
class Step:
    """A step in the making of a record: the stage, who did it (a generator's name, or "rules"), and details."""

    stage: str
    by: str = ""
    detail: str = ""


@dataclass(frozen=True)
class CorpusRecord:
    """An image with its texts and labels.

    Attributes:
      id: of the record, one in a corpus.
      image: path of the image, absolute, as `eval.file_names` spells it.
      source: the subset, such as "DIOR"; a row of the corpus's table.
      short, long: texts.
      things: annotated objects.
      label: class of the whole scene.
      width, height: of the image in pixels, where known.
      split: of the source, where it has several.
      licence: of image and texts, as SPDX or in words; None where it is unknown.
      provenance: the stages behind it, first to last.
      negative: as many as `short`, the hard negative of each: that text with one fact changed, so that it is false of
        the image, or "" where there is none; () where no text has one.
    """

    id: str
    image: str
    source: str
    short: tuple[str, ...] = ()
    long: tuple[str, ...] = ()
    things: tuple[Thing, ...] = ()
    label: str | None = None
    width: int | None = None
    height: int | None = None
    split: str | None = None
    licence: str | None = None
    provenance: tuple[Step, ...] = ()
    negative: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The path by which the image is opened."""
        return Path(named(self.image))

    @property
    def negative_of(self) -> dict[str, str]:
        """The hard negative of each short text."""
        return dict(zip(self.short, self.negative, strict=True)) if self.negative else {}

    def __post_init__(self) -> None:
        if not self.id or not self.image or not self.source:
            raise InputError(
                f"record {self.id!r}: id, image and source are needed, got {self.image!r}, {self.source!r}"
            )
        if self.negative and len(self.negative) != len(self.short):
            raise InputError(
                f"record {self.id!r}: {len(self.negative)} negative texts for {len(self.short)} short ones: one for "
                "each is expected"
            )


@dataclass(frozen=True)
class SetAside:
    """A record, or a row that was to become one, that a stage can't use: its id, the stage, and the reason."""

    id: str
    stage: str
    reason: str
