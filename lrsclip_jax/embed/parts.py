"""The parts of an unfinished embedding set: files that are whole or absent, joined at the end."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eval.checksums import Checksum, as_json, checksums, defects
from eval.embeddings import META, SIDES, write_lines
from eval.file_names import all_spelled
from eval.output import check_folder
from eval.reading import read_arrays
from eval.seals import read_sealed, seal
from eval.whole import whole, write_text
from lrsclip_jax.errors import InputError

FOLDER, PLAN, COPY = "parts", "plan.json", "plan-copy.json"
# The arrays of a part by its side, see `join`: (dtype, axes).
_ARRAYS = {
    "images": {"rows": ("f4", 2), "kept": ("i8", 1), "unusable": ("i8", 1), "reasons": ("U", 1)},
    "texts": {"rows": ("f4", 2), "kept": ("i8", 1), "length": ("i8", 1)},
}


def check_out(out: Path) -> None:
    """Raises InputError where `out` can't become a set, or holds something else than the beginning of one."""
    if (out / META).is_file():
        raise InputError(f"{out} holds a finished embedding set: choose another --out, or delete it")
    check_folder(out, lambda folder: (folder / FOLDER / PLAN).exists(), begun=[FOLDER])


def claim(out: Path, plan: Mapping[str, Any]) -> None:
    """Begins a set in a new or empty folder, or continues one that a command of the same plan has begun.

    Raises InputError for anything else in `out`, naming what differs.
    """
    if (out / META).exists():  # a kill between its end and this left the parts behind
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    check_out(out)
    folder, text = out / FOLDER, json.dumps(all_spelled(dict(plan)), indent=1, sort_keys=True)
    if (folder / PLAN).exists():
        begun, asked = _plan(folder), json.loads(text)
        differ = sorted(name for name in begun | asked if begun.get(name) != asked.get(name))
        if differ:
            raise InputError(f"{out} was begun with other {', '.join(differ)}: choose another --out, or delete it")
        return
    for name in (COPY, PLAN):
        write_text(folder / name, seal(text) + "\n")


def plan_parts(out: Path, side: str, count: int, size: int) -> dict[Path, range]:
    """Returns the files of one side's parts and the rows of each, `size` of them but in the last."""
    spans = (range(start, min(start + size, count)) for start in range(0, count, size))
    return {out / FOLDER / f"{side}-{span.start:09d}.npz": span for span in spans}


def save(path: Path, **arrays: Any) -> None:
    """Writes a part, whole or not at all; the arrays are those of its side in `_ARRAYS`."""
    schema = _ARRAYS[path.name.partition("-")[0]]
    typed = {name: np.asarray(arrays[name], None if kind == "U" else kind) for name, (kind, _) in schema.items()}
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, **typed)  # type: ignore[arg-type]  # allow_pickle is none of the names


def load(path: Path) -> dict[str, np.ndarray]:
    """Returns what `save` wrote; InputError for a file that is damaged or holds something else."""
    return read_arrays(path, _ARRAYS[path.name.partition("-")[0]])


def is_done(path: Path, span: range) -> bool:
    """Whether a part is there and sound. One that was damaged is made again; a line on stderr says so."""
    if not os.path.lexists(path):
        return False
    try:
        part = load(path)
        numbers = [*part["kept"].tolist(), *part.get("unusable", np.zeros(0, np.int64)).tolist()]
        counts = {len(part[name]) for name in ("rows", "kept", "length") if name in part}
        if sorted(numbers) != list(span) or len(counts) > 1 or len(part.get("reasons", ())) + min(counts) != len(span):
            raise InputError(f"{path}: holds other rows than {span.start} to {span.stop - 1}")
        return True
    except InputError as error:
        print(f"note: {error}; it is made again", file=sys.stderr)
        return False


def save_checksums(path: Path, out: Path, names: Sequence[str]) -> None:
    """Keeps, next to a part that is about to be saved, the checksums of files in `out` that belong to it."""
    found = checksums([out / name for name in names])
    write_text(path.with_suffix(".json"), as_json(dict(zip(names, found, strict=True))))


def files_are_whole(path: Path, out: Path) -> bool:
    """Whether the files that belong to a part are what was written; a line on stderr names one that is not."""
    kept = path.with_suffix(".json")
    if not kept.exists():  # of an older version
        return True
    try:
        expected: dict[str, Checksum] = read_sealed(kept, dict[str, Checksum])
        what = next((f"{out}/{what}" for _, what in defects(out, expected)), None)
    except InputError as error:
        what = str(error)
    if what:
        print(f"note: {what}; it is made again", file=sys.stderr)
    return what is None


def _plan(folder: Path) -> dict[str, Any]:
    """What was begun; a damaged plan is mended from its copy, for the parts may be hours of work."""
    try:
        found: dict[str, Any] = read_sealed(folder / PLAN, dict[str, Any])
        return found
    except InputError as error:
        try:
            found = read_sealed(folder / COPY, dict[str, Any])
        except InputError:
            raise InputError(f"{error}; delete {folder}, and the set is begun again") from None
        print(f"note: {error}; its copy is taken", file=sys.stderr)
        write_text(folder / PLAN, (folder / COPY).read_text())
        return found


def join(out: Path, side: str, parts: Sequence[Path], rows: Sequence[Mapping[str, Any]]) -> int:
    """Writes one side of the set, "images" or "texts", out of its parts; returns its dimension.

    Args:
      out: the set's folder.
      side: which side.
      parts: files with `rows`, float32 [n, D] before normalisation, and `kept`, int64 [n], the number of each in
        `rows`; `length`, int64 [n], goes into its line where there is one.
      rows: lines of the side's .jsonl, of those that were kept and of others.

    Raises:
      InputError: not one row was kept.
    """
    count = sum(len(load(path)["kept"]) for path in parts)
    if not count:
        raise InputError(f"{out}: none of {len(rows)} {side} can be used")
    dim = next(part["rows"].shape[1] for part in map(load, parts) if len(part["kept"]))
    lines = []
    # Written one after the other and not memory-mapped: a full disk is then an error, and no crash.
    with (
        whole(out / f"{side}.npy") as rows_path,
        whole(out / f"{SIDES[side]}_norms.npy") as norms_path,
        rows_path.open("wb") as matrix,
        norms_path.open("wb") as norms,
    ):
        _header(matrix, (count, dim))
        _header(norms, (count,))
        for part in map(load, parts):
            raw = part["rows"].astype(np.float64)
            lengths = np.sqrt(np.einsum("nd,nd->n", raw, raw))
            if len(raw):
                matrix.write((raw / lengths[:, None]).astype(np.float32).tobytes())
                norms.write(lengths.astype(np.float32).tobytes())
            lines += [dict(rows[row]) for row in part["kept"]]
            if "length" in part:
                for line, length in zip(lines[-len(part["kept"]) :], part["length"].tolist(), strict=True):
                    line["length"] = length
    write_lines(out / f"{side}.jsonl", lines)
    return dim


def _header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
