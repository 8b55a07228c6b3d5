"""The embedded data set: procedural scenes as records, drawn when first asked for and kept in memory."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lrsclip_jax.data.prepared.records import Record, Records, encoded, token_ids
from lrsclip_jax.data.prepared.text_lengths import TextLengths
from lrsclip_jax.data.scenes import scene
from lrsclip_jax.data.tokenizer import Tokenizer, clip_tokenizer
from lrsclip_jax.errors import InputError

SIZE = 64  # pixels, as the zoo's `tiny` reads them


class SceneRecords(Records):
    """A read-only sequence of `count` records of procedural scenes; `seed` names the set."""

    def __init__(self, count: int, seed: int = 0, size: int = SIZE):
        self._count, self._seed, self._size = count, seed, size
        self._drawn: dict[int, Record] = {}

    @classmethod
    def parse(cls, source: str) -> SceneRecords:
        """Opens "scenes:COUNT" or "scenes:COUNT:SEED"."""
        try:
            count, seed = [*map(int, source.split(":")[1:]), 0][:2]
        except ValueError:
            raise InputError(f"{source}: write scenes:COUNT or scenes:COUNT:SEED with whole numbers") from None
        if count <= 0:
            raise InputError(f"{source}: COUNT must be positive")
        return cls(count, seed)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]  # no slices
        if not 0 <= index < self._count:
            raise IndexError(index)
        if index not in self._drawn:
            self._drawn[index] = self._draw(index)
        return self._drawn[index]

    def text_counts(self) -> np.ndarray:
        """Returns int32 [records]: how many texts each record has, the same number for all."""
        return np.full(self._count, len(self[0].long) + len(self[0].short), np.int32)

    def text_lengths(self, tokenizer: Tokenizer) -> TextLengths:
        """Returns how many tokens each text has; all scenes are drawn for it."""
        ids = [token_ids(record, tokenizer) for record in self]
        counts = np.asarray([(len(each["long"]), len(each["short"])) for each in ids], np.int32)
        return TextLengths(counts, np.asarray([len(text) for each in ids for text in (*each["long"], *each["short"])]))

    def _draw(self, index: int) -> Record:
        drawn = scene(self._seed, index, self._size)
        file = io.BytesIO()
        Image.fromarray(drawn.image).save(file, "JPEG", quality=92)
        tokenizer = clip_tokenizer()
        return Record(
            id=f"scene-{self._seed}-{index}",
            source="scenes",
            image=file.getvalue(),
            long=(drawn.long,),
            short=drawn.short,
            label=drawn.label,
            licence="Apache-2.0",
            tokens={tokenizer.hash: encoded(tokenizer, [drawn.long], drawn.short, drawn.negative)},
            negative=drawn.negative,
        )
