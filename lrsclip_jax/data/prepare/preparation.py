"""How a source becomes a prepared data set, and how it continues after any stop.

The source is read twice: first its list alone, to count it and to find the rows that can't be used before hours are
spent, then item by item, in its own order. Worker processes make records of the items; this process alone writes, shard
by shard. A shard takes its name when it is whole, and its counts are kept next to it. Stopped at any moment, the same
command continues at the first unfinished shard, and ends with the same bytes. Shards that were damaged in between are
made again (lrsclip_jax.data.prepare.state).
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from eval.checksums import Checksum, checksums
from eval.lock import alone
from eval.output import check_folder
from eval.whole import write_text
from lrsclip_jax.data.parallel import in_processes
from lrsclip_jax.data.prepare.census import bad_limit, take_census, usable
from lrsclip_jax.data.prepare.counts import BAD_ROW, Statistics
from lrsclip_jax.data.prepare.encode import Options, encode_item
from lrsclip_jax.data.prepare.state import (
    MANIFEST,
    PROGRESS,
    Finished,
    Shard,
    add_shard,
    claim,
    damaged_files,
    files_of,
    finish,
    finished_shards,
)
from lrsclip_jax.data.prepared import band_set
from lrsclip_jax.data.prepared.band_set import write_band_set
from lrsclip_jax.data.prepared.records import RecordWriter
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Fault, Item, Source
from lrsclip_jax.sources.row_values import clean_name

SKIPPED = "skipped.jsonl"
_OTHERS = (SKIPPED, "features.json", "dataset_info.json")  # files that are no shard's; TFDS writes the last two
_CHUNK = 16  # items that travel to a worker together


class Task(NamedTuple):
    """An item, the shard it goes to, and whether it is the last one there."""

    item: Item
    shard: Shard
    last: bool


def prepare(
    source: Source,
    out: str | os.PathLike,
    options: Options,
    split: str = "train",
    shard_size: int = 4096,
    max_bad: int | None = None,
    workers: int = 1,
) -> dict[str, Statistics]:
    """Writes the prepared set `out` and returns what was counted in each split.

    `split` is for items that name none. A shard holds `shard_size` items, less the skipped ones. More than `max_bad`
    rows and images that can't be used (by default the larger of 10 and 1 % of all) stop it. An unfinished set is
    continued; of a finished one what was damaged is named and made again.

    Raises InputError for a source that can't be prepared, and for an `out` that was made from another source or with
    other options, or can't be written; finished shards stay.
    """
    out = check_out(out)
    if shard_size < 1:
        raise InputError(f"shard size {shard_size}: a positive number of records is expected")
    sizes, digest, faults, negatives = take_census(source, split, max_bad)
    total = sum(sizes.values())
    limit = bad_limit(total + len(faults), max_bad) - len(faults)
    settings = {key: value for key, value in asdict(options).items() if value or key not in ("layout", "negatives")}
    options = replace(options, negatives=negatives)
    plan = {"source": digest, "split": split, **settings, "shard_size": shard_size}
    plan["tokenizer"] = clip_tokenizer().hash
    with alone(out, "lrsclip prepare"):
        shards = {
            Shard(name, index, -(-size // shard_size)): min(shard_size, size - index * shard_size)
            for name, size in sizes.items()
            for index in range(-(-size // shard_size))
        }
        try:
            finished = claim(out, plan)
            if finished is None:
                counts, files = finished_shards(out, plan, shards)
                missing = shards.keys() - counts
            else:
                damaged = damaged_files(out, finished.files)
                counts, files = {}, finished.files
                missing = {
                    shard for shard in shards if damaged.intersection(file.name for file in files_of(out, shard))
                }
                if not damaged:
                    shutil.rmtree(out / PROGRESS, ignore_errors=True)
                    return finished.statistics
            tasks = (task for task in _tasks(source, split, sizes, shard_size) if task.shard in missing)
            left = sum(shards[shard] for shard in missing)
            bad = sum(of_shard.bad for of_shard in counts.values())
            with tqdm(total=total, initial=total - left, unit=" records", smoothing=0.05, mininterval=1) as bar:
                workers = min(workers, -(-left // _CHUNK))
                for shard, of_shard in _write_shards(tasks, out, options, workers, limit - bad, bar):
                    files |= add_shard(out, plan, shard, of_shard)
                    counts[shard] = of_shard
            statistics = finished.statistics if finished else _in_all(plan["split"], counts, faults)
            return _finish(out, plan, options, statistics, files)
        except OSError as error:
            raise InputError(f"{error}; finished shards stay, the same command continues") from None


def check_out(out: str | os.PathLike[str]) -> Path:
    """Returns the folder of a set, new or one of prepare; InputError as of `eval.output.check_folder`."""
    return check_folder(Path(out).expanduser(), _is_begun)


def _is_begun(folder: Path) -> bool:
    """Whether a folder is one of prepare, finished or not; what else is in it is told when the plan is claimed."""
    return (folder / MANIFEST).exists() or (folder / PROGRESS).is_dir()


def _tasks(source: Source, split: str, sizes: dict[str, int], shard_size: int) -> Iterator[Task]:
    """Every item with its place: `shard_size` successive items of a split, skipped ones too, are a shard."""
    seen: Counter[str] = Counter()
    for item in usable(source, split):
        if isinstance(item, Fault):
            continue
        name = item.split or split
        index, position = divmod(seen[name], shard_size)
        seen[name] += 1
        last = position == shard_size - 1 or seen[name] == sizes[name]
        yield Task(item, Shard(name, index, -(-sizes[name] // shard_size)), last)


def _write_shards(
    tasks: Iterable[Task], out: Path, options: Options, workers: int, bad_allowed: int, bar: tqdm
) -> Iterator[tuple[Shard, Statistics]]:
    """Yields every shard when it is whole and has its name, with what was counted in it."""
    tasks = iter(tasks)
    chunks = iter(lambda: list(itertools.islice(tasks, _CHUNK)), [])
    encoded = in_processes(functools.partial(_encode, options=options), chunks, workers)
    writers: dict[Shard, tuple[RecordWriter, Statistics]] = {}
    try:
        for chunk, results in encoded:
            for (_, shard, last), (record, counts) in zip(chunk, results, strict=True):
                if shard not in writers:
                    writers[shard] = RecordWriter(out, *shard), Statistics()
                writer, shard_counts = writers[shard]
                shard_counts += counts
                bad_allowed -= counts.bad
                if bad_allowed < 0:
                    raise InputError(
                        f"too many images that can't be used, the last one: {counts.skipped[0]['detail']}; "
                        "finished shards stay, the same command with a higher --max-bad continues"
                    )
                if record is not None:
                    writer.write(record)
                if last:
                    writer.close()
                    del writers[shard]
                    yield shard, shard_counts
                bar.update()
    finally:
        encoded.close()
        for writer, _ in writers.values():
            writer.discard()


def _encode(tasks: list[Task], options: Options) -> list[tuple[bytes | None, Statistics]]:
    return [encode_item(task.item, options) for task in tasks]


def _in_all(unnamed: str, counts: dict[Shard, Statistics], faults: Iterable[Fault]) -> dict[str, Statistics]:
    """What was counted in each split; rows that make no item have no split, and count in the one called `unnamed`."""
    splits: dict[str, Statistics] = {}
    for shard in sorted(counts):
        total = splits.setdefault(shard.split, Statistics())
        total += counts[shard]
    splits.get(unnamed, next(iter(splits.values()))).skipped[:0] = [
        {"id": clean_name(fault.id), "reason": BAD_ROW, "detail": clean_name(f"{fault.where}: {fault.reason}")}
        for fault in faults
    ]
    return splits


def _finish(
    out: Path, plan: dict, options: Options, splits: dict[str, Statistics], shards: dict[str, Checksum]
) -> dict[str, Statistics]:
    """Makes the shards a data set: metadata for TFDS, the list of what was skipped, and last the manifest."""
    skipped = [{"split": split, **skip} for split in splits for skip in splits[split].skipped]
    if not any(split.written for split in splits.values()):
        raise InputError(
            f"not one of {len(skipped)} records could be written, the first: {skipped[0]['reason']} "
            f"({skipped[0]['detail'] or skipped[0]['id']}); delete {out} before the next attempt"
        )
    lines = "".join(json.dumps(skip, ensure_ascii=False) + "\n" for skip in skipped)
    write_text(out / SKIPPED, lines)
    about = "Captioned images prepared by lrsclip_jax.data.prepare"
    write_metadata(out, [plan["tokenizer"]], about, options.names, negatives=options.negatives)
    names = [*_OTHERS]
    if options.names:
        write_band_set(out, options.names, {split: counts.sums for split, counts in splits.items()})
        names.append(band_set.FILE)
    others = dict(zip(names, checksums([out / name for name in names]), strict=True))
    finish(out, plan, Finished(splits, {**shards, **others}))
    shutil.rmtree(out / PROGRESS, ignore_errors=True)
    return splits
