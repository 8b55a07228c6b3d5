"""Balance: limits the records of each class, source or length; those that stay are drawn with a seed."""

from __future__ import annotations

import bisect
import hashlib
import heapq
import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError

Group = Callable[[CorpusRecord], Hashable | None]


def by_label(record: CorpusRecord) -> str | None:
    """Groups by the class of the scene."""
    return record.label


def by_source(record: CorpusRecord) -> str:
    """Groups by the subset."""
    return record.source


def by_length(edges: Sequence[int]) -> Group:
    """Groups by the CLIP tokens, start and end token counted, of a record's longest text: bins [edge, next edge)."""
    edges = tuple(edges)
    if list(edges) != sorted(set(edges)):
        raise InputError(f"edges of the bins of lengths are {', '.join(map(str, edges))}: expected ascending ones")

    def group(record: CorpusRecord) -> int | None:
        ids = clip_tokenizer().encode((*record.short, *record.long))
        return bisect.bisect(edges, max(map(len, ids))) if ids else None

    return group


def balance(
    records: Iterable[CorpusRecord], group: Group, limit: int, seed: int = 0
) -> Iterator[CorpusRecord | SetAside]:
    """Keeps at most `limit` records of a group, drawn at random; records of group None all stay.

    Each record's lot is drawn by (seed, id), so neither the order of the records nor what else is in the corpus changes
    it, and a larger limit keeps all that a smaller one does. They are read twice: a copy lies in a folder for temporary
    files meanwhile. Holds `limit` lots a group.
    """
    if limit < 1:
        raise InputError(f"at most {limit} records of a group: choose at least 1")
    with tempfile.TemporaryDirectory(prefix="lrsclip_jax_balance_") as folder:
        # The lowest lots of each group, negated: heapq keeps the smallest in front.
        lots: dict[Hashable, list[int]] = defaultdict(list)
        with store.Writer(folder) as writer:
            for record in records:
                writer.write(record)
                name = group(record)
                if name is None:
                    continue
                push = heapq.heappush if len(lots[name]) < limit else heapq.heappushpop
                push(lots[name], -_lot(record, seed))
        last = {name: -lowest[0] for name, lowest in lots.items()}
        for record in store.read(folder) if store.parts(folder) else ():
            name = group(record)
            if name is not None and _lot(record, seed) > last[name]:
                yield SetAside(record.id, "balance", f"group {name!r} has more than {limit} records")
            else:
                yield record


def _lot(record: CorpusRecord, seed: int) -> int:
    """64 uniform bits, the same on every machine."""
    key = f"{seed} {record.id}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
