"""Stages on Ray Data: what `stage.run_stage` makes on one machine, made by many, to the same files.

Ray spreads stages where what becomes of a record depends on it alone. The others stay on the driver, with `run_stage`:
duplicates, merge, balance and uses look at all records; those that ask a model wait for its servers, which are given
by their addresses (vLLM where the GPUs are), and keep one journal so that nothing is asked twice.

The cluster is the one at RAY_ADDRESS, or this machine. lrsclip_jax is installed on every machine of it, and all of them
see the corpus and its images under the same paths.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import re
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.stages.stage import Made, Stage, run_stage, set_aside
from lrsclip_jax.errors import InputError


def run_stage_on_ray(
    folder: Path, sources: Sequence[Path], stage: Stage, settings: Mapping[str, Any], *, workers: int | None = None
) -> dict[str, int]:
    """Does what `run_stage` does with the records of folders: the same files, the same order, the same counts.

    A folder that one engine has begun the other one can finish. A Parquet file is one task; a task whose machine is
    lost is done again. The driver writes. It holds the results of a few tasks and, of a continued stage, all ids in it.

    Args:
      folder: of this stage.
      sources: folders of the stages before, one after the other; the workers read them.
      stage: makes records of records, each by itself; it is pickled, with all that it holds.
      settings: all that the outcome depends on; a folder made under others is refused.
      workers: tasks at a time; None for as many as the cluster has cores.

    Returns:
      {"read", "kept", "set aside"}.

    Raises:
      InputError: Ray is not installed, there is no cluster at RAY_ADDRESS, or what `run_stage` raises.
    """

    def spread(fresh: Iterator[CorpusRecord]) -> Made:
        for outcome in _outcomes(folder, sources, stage, workers):
            next(fresh, None)  # keeps the count of what was read, and the progress bar, in step
            yield outcome
        deque(fresh, maxlen=0)

    def records() -> Iterator[CorpusRecord]:
        return itertools.chain.from_iterable(store.read(source, ["id"]) for source in sources)

    return run_stage(folder, records, spread, settings, total=sum(map(store.count, sources)))


def _outcomes(folder: Path, sources: Sequence[Path], stage: Stage, workers: int | None) -> Made:
    """Yields what becomes of the records of `sources` that are not yet in `folder`, in order."""
    made = store.ids(folder) | {row["id"] for row in set_aside(folder)}
    parts = {}
    for file in itertools.chain.from_iterable(map(store.parts, sources)):
        known = made.intersection(store.ids_of_part(file)) if made else set()
        if len(known) < store.count_part(file):
            parts[str(file.absolute())] = known
    if not parts:
        return
    ray = started()
    known = set().union(*parts.values())
    at_once = workers and min(workers, len(parts))
    with ray.data.DataContext.current(_context(ray)):
        # Not by read_parquet, which makes one task of many small files: their images may be hours of work.
        tasks = ray.data.from_items([{"part": file} for file in parts], override_num_blocks=len(parts))
        done = tasks.map_batches(
            _apply, fn_args=(stage, known), batch_size=1, batch_format="pyarrow", concurrency=at_once
        )
    for block in done.iter_batches(batch_size=None, batch_format="pyarrow"):
        for outcome in itertools.chain.from_iterable(map(pickle.loads, block.column("outcomes").to_pylist())):
            if isinstance(outcome, InputError):
                raise outcome
            yield outcome


def _apply(block: pa.Table, stage: Stage, known: set[str]) -> pa.Table:
    """Runs on a worker: the outcomes of the records of a part, but for those that are `known`, pickled in one row."""
    [file] = block.column("part").to_pylist()
    records = (record for record in store.read_part(Path(file)) if record.id not in known)
    outcomes: list[CorpusRecord | SetAside | InputError] = []
    try:
        for outcome in stage(records):
            outcomes.append(outcome)
    except InputError as error:  # as the last outcome: raised through Ray, it comes as a traceback and without the rest
        outcomes.append(error)
    return pa.table({"outcomes": pa.array([pickle.dumps(outcomes)], pa.large_binary())})


def started() -> ModuleType:
    """Returns Ray, connected to a cluster or started here, and quiet but for a line that says which."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError("--engine=ray needs Ray: pip install 'lrsclip_jax[ray]'") from None
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # the other one writes all of it to the session's folder
            handler.setLevel(logging.CRITICAL)
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        try:
            if address and (at := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)):
                socket.create_connection((at[1], int(at[2])), timeout=10).close()  # Ray itself tries for minutes
            ray.init("auto" if address else None, include_dashboard=False, log_to_driver=False, logging_level="error")
        except (OSError, ValueError) as error:
            raise InputError(f"no Ray cluster at {address or 'this machine'}: {' '.join(str(error).split())}") from None
        print(
            f"Ray {ray.__version__}, machines: {len(ray.nodes())}, cores: {ray.cluster_resources().get('CPU', 0):.0f}"
        )
    return ray


def _context(ray: ModuleType) -> Any:
    """Returns the settings of Ray Data under which rows keep their order and the terminal stays ours."""
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context
