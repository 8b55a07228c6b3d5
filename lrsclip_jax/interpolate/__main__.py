"""The command `lrsclip interpolate`: two checkpoints in, scores along the line between them out, and its best point."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from eval.command import add_subject, command_line, expanded, path, whole_number
from eval.lock import alone
from eval.whole import write_text
from lrsclip_jax.errors import InputError, cli

_EPILOG = """
A fine-tuned model has learnt one thing and forgotten others. On the line between the weights before (A) and after (B)
there often are points that have most of both (WiSE-FT, arXiv 2109.01903). Each point is (1 - alpha) A + alpha B.

A, B  a run folder, one of its checkpoints, any file or folder that `lrsclip convert` knows, or
      hf:owner/name[/FILE][@revision]; A is made to fit B, as training from A does

SOURCE, all of it or with :SPLIT one split, as for `lrsclip embed`: captions give mean recalls, labels an accuracy

examples:
  lrsclip interpolate runs/clip_b16 runs/tuned --data=prepared/rsicd:test --data=WHU-RS19 --out=line
  lrsclip interpolate hf:openai/clip-vit-base-patch16 runs/tuned --data=WHU-RS19 --alphas=0,0.5,1

in --out:
  report.html         each score against alpha
  interpolation.json  the same numbers
  best/               the best point as a run folder, which every command opens

Started again, it continues after the last point that it scored.
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Scores the weights on the line between two checkpoints, and keeps the best.",
        _EPILOG,
        usage="A B --data=SOURCE [options]",
    )
    add_subject(parse, "checkpoints", metavar="A B", help="weights before and after, see below", many=True)
    add = parse.add_argument
    add("--data", metavar="SOURCE", required=True, action="append", type=expanded, help="what to score by; repeatable")
    add("--alphas", metavar="A:B:STEP", type=_alphas, default="0:1:0.1", help="or A,B,…, from 0 to 1 (%(default)s)")
    add("--out", metavar="DIR", type=path, help="folder of the results: new, empty, or to be continued")
    add("--best", metavar="SCORE", help="the score that decides, such as rsicd:test/short (default: the mean of all)")
    add("--templates", metavar="NAME", action="append", help="texts of classes, as for lrsclip embed; repeatable")
    add("--batch-size", type=whole_number(1, 2**24), metavar="N", default=64, help="rows at once (%(default)s)")
    add("--dtype", metavar="NAME", help="of the towers (float32 on a CPU, bfloat16 on accelerators)")
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.interpolate") -> None:
    """Scores the line that the command line describes, and writes what came out."""
    options = parser(prog).parse_args(arguments)
    if len(options.checkpoints) != 2:
        raise InputError(f"{len(options.checkpoints)} checkpoints: two are expected, the weights before and after")
    # JAX takes seconds to import: only once the command is known to make sense.
    from lrsclip_jax.interpolate import line, outputs

    out: Path | None = options.out
    if out:
        outputs.check_out(out)
    sets = line.scored_sets(options.data, options.templates)
    outputs.check_score(options.best, [line.score_name(each, task) for each in sets for task in each.tasks])
    ends = line.Ends.of(*options.checkpoints, dtype=options.dtype, batch_size=options.batch_size)
    described = outputs.line_of(options.checkpoints, ends, options.data, options.templates)
    with alone(out, prog) if out else nullcontext():
        done = outputs.begun(out, described) if out else {}
        points = {alpha: done[alpha] for alpha in options.alphas if alpha in done}
        for alpha in options.alphas:
            if alpha not in points:
                points[alpha] = done[alpha] = line.scores_at(ends.at(alpha), sets, alpha)
                if out:
                    outputs.write(out, described, done)
        best = outputs.best_of(points, options.best)
        print("\n".join(outputs.table(points, best, options.best)))
        if out:
            write_text(out / outputs.PAGE, outputs.compose(described, points, best, options.best))
            kept = outputs.keep(out, ends, described, best, points[best])
            print(f"{out / outputs.PAGE}; alpha = {best:g} is in {kept}")


def _alphas(text: str) -> tuple[float, ...]:
    """Returns the points that "0:1:0.1", both ends included, or "0,0.5,1" names."""
    number = r"\s*([0-9]{1,4}\.?[0-9]{0,9}|\.[0-9]{1,9})\s*"
    if found := re.fullmatch(f"{number}:{number}:{number}", text):
        start, stop, step = map(float, found.groups())
        count = int((stop - start) / step + 1e-6) + 1 if step else 0
        points = tuple(round(start + step * place, 9) for place in range(min(count, _MOST + 1)))
    elif re.fullmatch(f"{number}(,{number})*", text):
        points = tuple(sorted({float(part) for part in text.split(",")}))
    else:
        points = ()
    if not 1 <= len(points) <= _MOST or max(points) > 1:
        raise argparse.ArgumentTypeError(f"expected numbers from 0 to 1 as 0:1:0.1 or 0,0.5,1, at most {_MOST} of them")
    return points


_MOST = 1000  # points of a line


if __name__ == "__main__":
    cli(main)
