"""How fast prepared records become batches, next to their decoder alone: `python -m benchmarks.data --data=DIR`."""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from lrsclip_jax.data.batches import pipeline
from lrsclip_jax.data.batches.augmentation import DECODERS, training_pixels
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.prepared.opening import open_records
from lrsclip_jax.data.prepared.records import Record, RecordReader, RecordWriter, Tokenised
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError, cli

_DESCRIPTION = """\
Times, in turns in one run: the decoder alone (decode, crop, resize; the bytes in memory) in bare threads, the same with
reading the records, and the pipeline that training uses: in threads, with the records in the page cache and without,
and in processes (data.workers). "of the decoder" and "of both" are medians over the rounds of each one's rate as a
share of that of the decoder alone, and with reading, in the same round. CPU is the processor time of all threads and
processes for an image, which hardly depends on what else the machine is doing.
"""
LONG, SHORT = 111, 32  # tokens of the mean text of LRS2M (LRSCLIP's Table I)
WORDS = "river road field forest harbour runway houses trees water bridge ships tanks court lawn roofs cars".split()
READING = "reading and decoder"
Timing = tuple[float, float]  # images a second, processor seconds an image


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="DIR[:split]", help="a prepared set")
    source.add_argument(
        "--made", type=int, metavar="PIXELS", help="photo-like JPEG of this side, made for the occasion"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the tower's images (%(default)s)")
    parser.add_argument("--decoder", choices=DECODERS, default="fast", help="%(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="as many as cores (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the last row; 0: without it (%(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="%(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--pairs-per-second", type=float, help="of a device: says how many cores feed it")
    parser.add_argument("--checkpoint", metavar="SRC", help="compare its embeddings of images by both decoders")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    options = parser.parse_args(arguments)
    for name in ("made", "size", "threads", "batch", "seconds", "rounds", "pairs_per_second"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name.replace('_', '-')}={value}: it must be positive")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table and a summary, or JSON."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() if options.made else nullcontext() as folder:
        records = made(Path(folder), options.made) if folder else open_records(options.data)
        if not isinstance(records, RecordReader):
            raise InputError(f"--data={options.data}: a prepared set on disk is expected")
        found = measure(records, options)
        if options.checkpoint:
            found["cosines"] = cosines(options.checkpoint, records)
    print(json.dumps(found) if options.json else as_text(found))


def measure(records: RecordReader, options: argparse.Namespace) -> dict:
    """Returns the medians over the rounds."""
    preprocessing, tokenizer = replace(CLIP_PREPROCESSING, size=options.size), clip_tokenizer()
    chosen = np.random.default_rng(0).permutation(len(records))[:2048].tolist()
    images = [records[index].image for index in chosen]

    def decode(data: bytes) -> None:
        training_pixels(data, preprocessing, None, None, options.decoder)

    def read(index: int) -> Tokenised:
        return records.tokenised(index, tokenizer)

    ways: dict[str, Callable[[], Timing]] = {
        "decoder": lambda: bare(decode, images, options),
        "reading": lambda: bare(read, chosen, options),
        READING: lambda: bare(lambda index: decode(read(index).image), chosen, options),
        "pipeline": lambda: fed(records, preprocessing, options),
        "pipeline, cold": lambda: fed(records, preprocessing, options, cold=True),
    }
    if options.workers:
        in_processes = f"pipeline, {options.workers} workers"
        ways[in_processes] = lambda: fed(records, preprocessing, options, workers=options.workers)
    rounds = [{way: time_it() for way, time_it in ways.items()} for _ in range(options.rounds)]

    rows = {way: medians(*([each[name] for each in rounds] for name in (way, "decoder", READING))) for way in ways}
    found = {
        "records": len(records),
        "bytes_per_image": round(statistics.mean(map(len, images))),
        "size": options.size,
        "decoder": options.decoder,
        "threads": options.threads,
        "batch": options.batch,
        "ways": rows,
        "shares": shares({way: row["cpu_microseconds"] for way, row in rows.items()}),
    }
    if options.pairs_per_second:
        rate = rows["pipeline"]["images_per_second"] / options.threads
        found |= {"pairs_per_second": options.pairs_per_second, "cores": math.ceil(options.pairs_per_second / rate)}
    return found


def medians(timings: list[Timing], decoder: list[Timing], reading: list[Timing]) -> dict[str, float]:
    """Returns a way's medians over the rounds, alone and as shares of the decoder's, without and with reading."""
    pairs = list(zip(timings, decoder, strict=True))
    return {
        "images_per_second": statistics.median(rate for rate, _ in timings),
        "cpu_microseconds": 1e6 * statistics.median(cpu for _, cpu in timings),
        "of_decoder": statistics.median(this[0] / alone[0] for this, alone in pairs),
        "of_decoder_by_cpu": statistics.median(alone[1] / this[1] for this, alone in pairs),
        "of_both": statistics.median(this[0] / both[0] for this, both in zip(timings, reading, strict=True)),
    }


def shares(microseconds: dict[str, float]) -> dict[str, float]:
    """Returns what part of the pipeline's processor time each of its works takes."""
    decoder, both, whole = (microseconds[way] for way in ("decoder", READING, "pipeline"))
    parts = {"decoding": decoder, "reading": both - decoder, "choosing, assembling": whole - both}
    return {part: max(0.0, spent) / whole for part, spent in parts.items()}


def bare(work: Callable, arguments: Sequence, options: argparse.Namespace) -> Timing:
    """Times `work` on one argument after the other, in threads that do nothing else."""
    endless = itertools.cycle(arguments)
    end = time.perf_counter() + options.seconds

    def until_end() -> int:
        done = 0
        while time.perf_counter() < end:
            work(next(endless))
            done += 1
        return done

    with stopwatch() as read, ThreadPoolExecutor(options.threads) as pool:
        done = sum(future.result() for future in [pool.submit(until_end) for _ in range(options.threads)])
    return read(done)


def fed(
    records: RecordReader,
    preprocessing: Preprocessing,
    options: argparse.Namespace,
    cold: bool = False,
    workers: int = 0,
) -> Timing:
    """Times the pipeline that training uses, from its second batch on; `cold`: at most one epoch of unread records."""
    shape = BatchShape(options.batch, long_length=248, short_length=77)
    report = pipeline.DataReport(max_torn=0)
    if cold:
        forget(records.folder)
    batches = pipeline.batches(
        [(records, 1.0)],
        clip_tokenizer(),
        preprocessing,
        shape,
        report,
        seed=0,
        threads=options.threads,
        workers=workers,
        decoder=options.decoder,
    )
    most = max(1, len(records) // options.batch - 1) if cold else math.inf
    with closing(batches):
        next(batches)  # as many batches are in the making now as there will be at the end
        with stopwatch() as read:
            done, end = 0, time.perf_counter() + options.seconds
            while done < most and time.perf_counter() < end:
                next(batches)
                done += 1
        return read(done * options.batch)


class stopwatch:
    """Measures its block; the function that it gives returns the `Timing` of a number of images afterwards."""

    def __enter__(self) -> Callable[[int], Timing]:
        self.wall, self.cpu = time.perf_counter(), processor_seconds()
        return lambda images: (images / self.wall, self.cpu / images)

    def __exit__(self, *_) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, processor_seconds() - self.cpu


def processor_seconds() -> float:
    """Returns the processor time of this process and of its workers that run."""
    stats = (Path(f"/proc/{worker.pid}/stat").read_text() for worker in multiprocessing.active_children())
    ticks = sum(int(field) for stat in stats for field in stat.rpartition(")")[2].split()[11:13])  # user, system
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def forget(folder: Path) -> None:
    """Drops the shards from the page cache."""
    for path in folder.glob("*.array_record-*"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())  # pages not yet on disk can't be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def made(folder: Path, side: int, count: int = 4096, distinct: int = 64) -> RecordReader:
    """Returns a prepared set with texts as long as the mean ones of LRS2M; its records share a few distinct images."""
    rng, tokenizer = np.random.default_rng(0), clip_tokenizer()
    images = [photo(rng, side) for _ in range(distinct)]
    with RecordWriter(folder) as writer:
        for number in range(count):
            long, short = (" ".join(rng.choice(WORDS, tokens - 2)) for tokens in (LONG, SHORT))
            tokens = {tokenizer.hash: {"long": tokenizer.encode([long]), "short": tokenizer.encode([short])}}
            image = images[number % distinct]
            writer.write(Record(f"made/{number}", "made", image, (long,), (short,), tokens=tokens))
    write_metadata(folder, [tokenizer.hash])
    return RecordReader(folder)


def photo(rng: np.random.Generator, side: int) -> bytes:
    """Returns a JPEG with the detail of aerial photographs: its amplitudes fall with frequency to the power 1.2."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1

    def field() -> np.ndarray:
        values = np.fft.irfft2(rng.normal(size=(*frequency.shape, 2)) @ (1, 1j) / frequency**1.2, s=(side, side))
        return values / values.std()

    light = field()
    pixels = np.stack([128 + 40 * light + 12 * field() for _ in range(3)], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def cosines(source: str, records: RecordReader, count: int = 256) -> dict[str, float]:
    """Returns mean and least cosine of a checkpoint's embeddings of images by the fast and by the exact decoder."""
    from lrsclip_jax import pretrained

    model = pretrained.load(source, batch_size=32)
    chosen = np.random.default_rng(1).permutation(len(records))[:count]

    def pixels(decoder: str) -> Iterator[np.ndarray]:
        return (training_pixels(records[int(i)].image, model.preprocessing, None, None, decoder) for i in chosen)

    fast, exact = (model.encode("image", pixels(decoder)) for decoder in ("fast", "exact"))
    found = (fast * exact).sum(1) / np.linalg.norm(fast, axis=1) / np.linalg.norm(exact, axis=1)
    return {"images": len(found), "mean": float(found.mean()), "least": float(found.min())}


def as_text(found: dict) -> str:
    """Returns the table and the sentences below it."""
    lines = [
        f"{found['records']:,} records, {found['bytes_per_image']:,} bytes an image, to {found['size']} px, decoder "
        f"{found['decoder']}, {found['threads']} threads, batches of {found['batch']}\n",
        "| | images/s | a core | CPU µs | of the decoder | by CPU | of both |\n|---|---:|---:|---:|---:|---:|---:|",
    ]
    for way, row in found["ways"].items():
        rate = row["images_per_second"]
        lines.append(
            f"| {way} | {rate:,.0f} | {rate / found['threads']:,.0f} | {row['cpu_microseconds']:,.0f} "
            f"| {row['of_decoder']:.2f} | {row['of_decoder_by_cpu']:.2f} | {row['of_both']:.2f} |"
        )
    parts = ", ".join(f"{part} {share:.0%}" for part, share in found["shares"].items())
    lines.append(f"\nof the pipeline's processor time: {parts}")
    if "cores" in found:
        lines.append(f"{found['pairs_per_second']:,.0f} pairs/s: {found['cores']} cores like these")
    if "cosines" in found:
        cosine = found["cosines"]
        lines.append(
            f"cosine of embeddings, fast against exact: mean {cosine['mean']:.5f}, least {cosine['least']:.5f} "
            f"({cosine['images']} images)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    cli(main)
