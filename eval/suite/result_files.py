"""Results on disk: where each lies, and whether it still holds."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from eval.embeddings import META, EmbeddingSet
from eval.errors import InputError

LONGEST_NAME = 80  # characters; what is cut off is told apart by a hash


def result_path(out: Path, embedding_set: EmbeddingSet, task: str) -> Path:
    """Returns where a result lies: results/MODEL/DATASET[@SPLIT]/TASK[@encoder].json below `out`."""
    features = "" if embedding_set.features == "projected" else f"@{embedding_set.features}"
    return out / "results" / safe_name(embedding_set.model) / data_name(embedding_set) / f"{task}{features}.json"


def data_name(embedding_set: EmbeddingSet) -> str:
    """Returns DATASET[@SPLIT] as a file name."""
    return "@".join(safe_name(part) for part in (embedding_set.dataset, embedding_set.split) if part)


def safe_name(name: str) -> str:
    """Returns a name as one that any file system takes; different names stay different."""
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".")[:LONGEST_NAME]
    return name if safe == name != "" else f"{safe}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def fingerprint(path: Path, task: str, seed: int | None) -> str:
    """Returns what a result depends on, as a hash: meta.json, sizes and times of the set's files, task, any seed."""
    files = sorted(file for file in path.iterdir() if file.suffix in (".npy", ".jsonl"))
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    of = json.dumps([(path / META).read_text(encoding="utf-8"), stats, task, seed])
    return hashlib.sha256(of.encode()).hexdigest()


def read_result(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Returns the result at `path` if it is there and has this fingerprint."""
    try:
        result = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("fingerprint") == fingerprint else None


def make_folder(path: Path) -> None:
    """Makes a folder that can be written into, unless it is there; InputError where that can't be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't write into {path}: {error.strerror or error}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"can't write into {path}: permission denied")
