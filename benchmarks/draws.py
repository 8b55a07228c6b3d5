"""What drawing a batch's texts again costs on the host: `python -m benchmarks.draws --pairs=512 --tokens=248`."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from lrsclip_jax.data.batches.sentence_draws import SentenceDraw, drawn_texts
from lrsclip_jax.data.batches.turns import drawn_turns, turned_texts
from lrsclip_jax.data.scenes import scene
from lrsclip_jax.data.tokenizer import bert_tokenizer, clip_tokenizer
from lrsclip_jax.errors import cli

_DRAW = SentenceDraw(drop_first=0.5, drop=0.1, sample=(1, 6), consecutive=0.5, shuffle=0.5)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.draws", description=__doc__)
    parser.add_argument("--pairs", type=int, default=512, help="of a batch (%(default)s)")
    parser.add_argument("--tokens", type=int, default=248, help="of a long text (%(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="(%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the least and the median milliseconds of processor time for a batch, with both tokenizers."""
    options = parse(arguments)
    print("| tokenizer | sentences drawn, CPU ms | words turned, CPU ms |\n|---|---:|---:|")
    for tokenizer in (clip_tokenizer(), bert_tokenizer()):
        scenes = [scene(0, number) for number in range(options.pairs)]
        whole = tokenizer.encode([" ".join([drawn.long] * (options.tokens // 90 + 1)) for drawn in scenes])
        long = [[*ids[: options.tokens - 1], tokenizer.end] for ids in whole]
        texts = {"long": long, "short": tokenizer.encode([drawn.short[-1] for drawn in scenes])}
        rows = np.arange(options.pairs)

        def draw(step: int, long=long, tokenizer=tokenizer, rows=rows) -> None:
            drawn_texts(long, tokenizer, _DRAW, ("long", 0, step, len(rows)), rows)

        def turn(step: int, texts=texts, tokenizer=tokenizer, rows=rows) -> None:
            turned_texts(texts, drawn_turns(("all",), [0] * len(rows), 0, step, len(rows), rows), tokenizer)

        print(f"| {tokenizer.name} | {_timed(draw, options.rounds)} | {_timed(turn, options.rounds)} |")


def _timed(work: Callable[[int], None], rounds: int) -> str:
    work(0)  # makes the tables of the vocabulary
    times = []
    for step in range(rounds):
        begun = time.thread_time()
        work(step)
        times.append(1e3 * (time.thread_time() - begun))
    return f"{min(times):.1f} ({statistics.median(times):.1f})"


if __name__ == "__main__":
    cli(main)
