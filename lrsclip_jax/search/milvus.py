"""The engine for archives that outgrow one machine: a Milvus cluster by its URI, or a Milvus Lite file.

The vectors lie in a collection whose name tells the index's content, so that an index that has changed is put in again,
and two indexes do not mix. Milvus finds candidates, the float32 rows of the index are scored exactly, so scores are
those of the exact engine; which rows are found depends on Milvus' index, and `recall` says how many are right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.reading import read_json
from eval.scores import spans
from eval.whole import write_text
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.codes import CACHE
from lrsclip_jax.search.engine import Engine, ExactEngine, Found, best_of, exact_scores

_BATCH = 2000  # rows of one insertion: 4 MB of 512 dimensions
_MOST = 16_384  # what one search of Milvus may return
_FEW = 10_000  # rows that are scored here, all of them, sooner than Milvus looks for them
_PREFIX = "lrsclip_"
ASKED, AMONG = 100, 50  # queries that recall is measured on, and rows of each


class MilvusEngine:
    """Rows of an index in Milvus; the first use puts them in. Threads may share one.

    Args:
      uri: "http://host:19530", with a token as "http://user:password@host:19530", or a Milvus Lite file, "archive.db".
      rows: unit rows, float32 [N, D], memory-mapped.
      images: the file that they are of.

    Raises:
      InputError: pymilvus is missing, or there is no Milvus at the URI.
    """

    def __init__(self, uri: str, rows: np.ndarray, images: Path):
        self._rows = rows
        self._client = _client(uri)
        self._lock = threading.Lock()
        state = images.stat()
        content = repr((str(images.resolve()), state.st_size, state.st_mtime_ns, rows.shape))
        self.collection = _PREFIX + hashlib.blake2b(content.encode(), digest_size=10).hexdigest()
        self._fill()
        self.notes: Sequence[str] = [self._recall(images)]

    def top(self, query: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Found:
        """See `engine.Engine`; candidates that Milvus misses are missing here."""
        count = len(self._rows) if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, count)
        if not k:
            return Found(np.zeros(0, np.int64), np.zeros(0))
        if allowed is None:
            rows = self._search(query, min(2 * k, _MOST))
        else:
            rows = self._among(query, k, allowed) if count > _FEW else np.zeros(0, np.int64)
            rows = rows if len(rows) >= k else np.flatnonzero(allowed)
        rows = np.sort(rows)
        return best_of(exact_scores(self._rows, query, rows), rows, k)

    def _among(self, query: np.ndarray, k: int, allowed: np.ndarray) -> np.ndarray:
        """Candidates, of more and more, until k of them are allowed or Milvus returns no more."""
        most = min(_MOST, len(self._rows))
        wanted = min(int(2 * k / allowed.mean()) + 1, most)
        while True:
            rows = self._search(query, wanted)
            rows = rows[allowed[rows]]
            if len(rows) >= k or wanted == most:
                return rows
            wanted = min(4 * wanted, most)

    def _search(self, query: np.ndarray, count: int) -> np.ndarray:
        with self._lock, _named(self.collection):
            found = self._client.search(
                self.collection,
                [query.astype(np.float32).tolist()],
                limit=count,
                anns_field="vector",
                output_fields=["row"],
                search_params={"metric_type": "IP", "params": {"ef": max(2 * count, 64)}},
            )
        return np.array([hit["row"] for hit in found[0]], np.int64)

    def _recall(self, images: Path) -> str:
        """How much of what the exact engine finds is found here, as it was measured when the rows were put in."""
        kept = images.parent / CACHE / f"{self.collection}.json"
        with contextlib.suppress(InputError):
            return read_json(kept, str)
        rng = np.random.default_rng(0)
        some = np.asarray(self._rows[np.sort(rng.choice(len(self._rows), min(ASKED, len(self._rows)), replace=False))])
        some[::2] -= some.mean(axis=0)
        lengths = np.linalg.norm(some, axis=1, keepdims=True)
        found = recall(self, ExactEngine(self._rows, images), some / np.maximum(lengths, 1e-9), AMONG)
        said = f"Milvus finds {100 * found:.2f} % of what the exact engine finds, {AMONG} tiles for {len(some)} queries"
        with contextlib.suppress(OSError, InputError):
            write_text(kept, json.dumps(said))
        return said

    def _fill(self) -> None:
        """Puts the rows in if they are not there."""
        with _named(self.collection):
            if self._client.has_collection(self.collection):
                if int(self._client.get_collection_stats(self.collection)["row_count"]) == len(self._rows):
                    self._client.load_collection(self.collection)
                    return
                self._client.drop_collection(self.collection)  # of a process that was stopped
            self._create()
            for span in tqdm(list(spans(len(self._rows), _BATCH)), "filling Milvus", unit=" batches", disable=None):
                vectors = np.asarray(self._rows[span])
                rows = [{"row": span.start + place, "vector": vector} for place, vector in enumerate(vectors.tolist())]
                self._client.insert(self.collection, rows)
            self._client.flush(self.collection)
            self._client.load_collection(self.collection)

    def _create(self) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self._rows.shape[1])
        params = self._client.prepare_index_params()
        params.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
        self._client.create_collection(self.collection, schema=schema, index_params=params)


def recall(engine: Engine, exact: ExactEngine, queries: np.ndarray, k: int) -> float:
    """Returns the share of the exact engine's k best rows that an engine finds, over queries, float32 [Q, D]."""
    right = total = 0
    for query in queries:
        best = exact.top(query, k).rows
        right += len(np.intersect1d(best, engine.top(query, k).rows))
        total += len(best)
    return right / max(total, 1)


def _client(uri: str) -> Any:
    try:
        from pymilvus import MilvusClient
    except ImportError:
        raise InputError("the engine milvus needs pymilvus: pip install 'lrsclip_jax[milvus]'") from None
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs every error with its traceback, too
    if not uri:
        raise InputError("--engine=milvus:URI lacks its URI: http://host:19530, or a Milvus Lite file, archive.db")
    with _named(uri.rpartition("@")[2]):  # never the password
        if "://" not in uri:
            return MilvusClient(str(Path(uri).absolute()))
        scheme, _, rest = uri.partition("://")
        token, _, host = rest.rpartition("@")
        return MilvusClient(f"{scheme}://{host}", token=token, timeout=30)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns Milvus' errors into InputErrors of one line."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        said = " ".join(str(getattr(error, "message", error)).split())
        raise InputError(f"Milvus, {name}: {said:.200}") from None
