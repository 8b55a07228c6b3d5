"""How fast records pass the stages of a corpus, and in how much memory: `python -m benchmarks.corpus`.

Two sets of that many records meet by their images' names (the first way), every long text is summarised by a server on
this machine that answers at once (the second way), and what comes out passes the filters: corrupt or empty images,
perceptual duplicates, bounds of texts. Each stage runs in a process of its own, at a tenth of the size and at the
whole: peak memory that is the same at both does not depend on the number of records.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.command import command_line
from lrsclip_jax.corpus.generators.protocol import Server
from lrsclip_jax.corpus.hygiene import caption_checks, duplicates, image_checks
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord
from lrsclip_jax.corpus.stages import ways
from lrsclip_jax.corpus.stages.merging import merge
from lrsclip_jax.corpus.stages.stage import run_stage
from lrsclip_jax.errors import InputError, cli

SIDE, DISTINCT = 64, 2000  # pixels of an image; files that the records share
WORDS = "river road field forest harbour runway houses trees water bridge ships tanks court lawn roofs cars".split()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row for each stage and size."""
    parser = command_line("python -m benchmarks.corpus", __doc__.split("\n\n")[1])
    parser.add_argument("--records", type=int, default=100_000, help="%(default)s")
    options = parser.parse_args(arguments)
    if options.records < 10:
        raise InputError(f"--records={options.records}: at least 10 are expected")
    print("| stage | records | records/s | seconds | peak memory, MB |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        for count in (options.records // 10, options.records):
            folder = Path(scratch) / str(count)
            _apart(partial(write_sides, folder, count))
            for name, stage in STAGES.items():
                seconds, peak, kept = _apart(partial(stage, folder))
                print(
                    f"| {name} | {count:,} → {kept:,} | {count / seconds:,.0f} | {seconds:.1f} | {peak:,.0f} |",
                    flush=True,
                )


def write_sides(folder: Path, count: int) -> int:
    """Writes the records of both sides, and the images that they share."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(min(count, DISTINCT)):
        noise = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"images/{number}.jpg")
    with store.Writer(folder / "long") as long, store.Writer(folder / "short") as short:
        for number in range(count):
            # A name of its own for every record, and one of few files behind it.
            image = folder / "names" / str(number // 1000) / f"{number}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.symlink_to(folder / f"images/{number % DISTINCT}.jpg")
            text = " ".join(rng.choice(WORDS, 60))
            long.write(CorpusRecord(f"a/{number}", str(image), "long", long=(text,), licence="CC0-1.0"))
            short.write(CorpusRecord(f"b/{number}", str(image), "other", label="scene", licence="CC0-1.0"))
    return count


def first_way(folder: Path) -> int:
    """Long texts meet the other side by the names of their images."""
    stage = partial(merge, others=store.read(folder / "short"), index=folder / "index", key="stem")
    return _run(folder / "merged", folder / "long", stage)


def second_way(folder: Path) -> int:
    """Every long text is summarised by a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    process = context.Process(target=serve, args=(port,), daemon=True)
    process.start()
    server = Server(f"http://127.0.0.1:{port.get()}/v1", "answers at once", concurrency=64)
    ask = partial(ways.write_texts, way=ways.SUMMARISE, server=server, journal=folder / "journal.jsonl")
    kept = _run(folder / "summarised", folder / "merged", ask)
    process.kill()
    return kept


def image_check(folder: Path) -> int:
    """Corrupt, tiny and empty images."""
    return _run(folder / "checked", folder / "summarised", image_checks.check_images)


def perceptual_duplicates(folder: Path) -> int:
    """Images that are nearly the same."""
    return _run(folder / "distinct", folder / "checked", duplicates.without_duplicates)


def text_bounds(folder: Path) -> int:
    """Texts that are too short or too long, of all records with sound images."""
    return _run(folder / "bounded", folder / "checked", caption_checks.bound_captions)


STAGES: dict[str, Callable[[Path], int]] = {
    "merge by image (way 1)": first_way,
    "summarise (way 2)": second_way,
    "image check": image_check,
    "perceptual duplicates": perceptual_duplicates,
    "text bounds": text_bounds,
}


def serve(port: multiprocessing.Queue) -> None:
    """Answers OpenAI's chat completions at once, with a text of its own for each question."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
                )
                await reader.readexactly(length)
                number += 1
                words = " ".join(WORDS[(number * 7 + n) % len(WORDS)] for n in range(6))
                message = {"role": "assistant", "content": f"An aerial image of the {words}."}
                body = json.dumps(
                    {
                        "id": "1",
                        "object": "chat.completion",
                        "created": 0,
                        "model": "m",
                        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                        "usage": {"prompt_tokens": 80, "completion_tokens": 12, "total_tokens": 92},
                    }
                ).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def _run(out: Path, source: Path, stage: Callable[[Iterator[CorpusRecord]], Iterator]) -> int:
    return run_stage(out, lambda: store.read(source), stage, {})["kept"]


def _apart(work: Callable[[], int]) -> tuple[float, float, int]:
    """Seconds of `work` in a new process, the peak memory of it in MB, and its result."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, work).result()


def _measured(work: Callable[[], int]) -> tuple[float, float, int]:
    tqdm.monitor_interval = 0
    begun = time.perf_counter()
    kept = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return time.perf_counter() - begun, peak, kept


if __name__ == "__main__":
    cli(main)
