"""The program `python -m eval.selo`: the metrics of semantic localisation from an embedding set."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from eval.command import add_subject, command_line, integers, path
from eval.embeddings import EmbeddingSet, check_set, open_set
from eval.errors import InputError, cli
from eval.html.set_images import marked, scene_of
from eval.output import check_folder
from eval.results import made_by, write_result
from eval.selo.maps import overlay
from eval.selo.of_set import METRICS, VERSIONS, query_map, selo_of_set
from eval.whole import SUFFIX, whole

_DESCRIPTION = """\
Prints, for every query of an embedding set, how well its localisation map points at the regions that it speaks of:

  R_su  share of the attention that falls inside, higher is better
  R_as  shift of the attention's centres from the regions', lower is better
  R_da  1 for a single centre of attention in a region, less for several or none, higher is better
  R_mi  0.4 R_su + 0.35 (1 - R_as) + 0.25 R_da, higher is better

all from 0 to 1 and as AIR-SLT's reference code has them, and their means over the queries.

The set's images are windows of scenes (`scene`, `window`), its queries have a `scene` and polygons (`points`), and
meta.json tells the scenes' sizes. `lrsclip embed air-slt:DIR` writes such a set."""

_EXAMPLES = """\
examples:
  python -m eval.selo sets/air-slt
  python -m eval.selo sets/air-slt --out=selo          selo/selo.json, and a picture of each query
  python -m eval.selo sets/air-slt --steps=256,512     without the largest windows
  python -m eval.selo sets/air-slt --version=v2        looks twice; needs a set of lrsclip embed --second-look

exit status: 0 done, 2 bad input (one line says what and where)"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m eval.selo") -> None:
    """Prints the table, and writes the result and the pictures where asked to."""
    options = parser(prog).parse_args(arguments)
    embedding_set = open_set(options.set)
    check_set(options.set)
    if options.steps and options.version == "v2":
        raise InputError("--steps are of the first version: leave --version=v2 or --steps out")
    if options.out:
        if (options.out / "selo.json").exists():
            raise InputError(f"{options.out}/selo.json is there already: choose another --out")
        check_folder(options.out, _is_begun)
    metrics = selo_of_set(embedding_set, options.steps, version=options.version)
    print(table(metrics))
    if options.out:
        write(options.out, embedding_set, metrics, options.steps)


def _is_begun(out: Path) -> bool:
    """Whether a folder holds nothing but pictures, which are written before selo.json."""
    return all(re.fullmatch(rf"query_\d+\.png|\..*{SUFFIX}", path.name) for path in out.iterdir())


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = command_line(prog, _DESCRIPTION, _EXAMPLES, usage="SET [--out=DIR] [--steps=N,N] [--version=v2]")
    add_subject(parser, "set", metavar="SET", help="the embedding set", type=path)
    parser.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="write selo.json there, and a picture of each query whose scene is at hand",
    )
    parser.add_argument(
        "--steps", type=integers, metavar="N,N", help="sides of the windows to use, in pixels (all that the set has)"
    )
    parser.add_argument("--version", choices=VERSIONS, default="v1", help="of the method (v1)")
    return parser


def table(metrics: dict) -> str:
    """Returns the metrics of all queries and their means as lines of text."""
    head = "  ".join(f"{name:>6}" for name in METRICS)
    rows = [
        *((query, f"{query['scene']}: {' '.join(query['text'].split())}") for query in metrics["queries"]),
        (metrics, f"mean of {len(metrics['queries'])} queries"),
    ]
    return "\n".join([head, *("  ".join(f"{row[name]:6.4f}" for name in METRICS) + f"  {what}" for row, what in rows)])


def write(out: Path, embedding_set: EmbeddingSet, metrics: dict, steps: Sequence[int] | None) -> None:
    """Writes the pictures of the queries whose scenes are at hand, and then selo.json."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: can't be made a folder ({error.strerror})") from None
    for query in tqdm(metrics["queries"], "pictures", unit="picture", leave=False, disable=None):
        scene = scene_of(embedding_set, query["scene"])
        if scene is None:
            continue
        polygons = embedding_set.text_rows[query["row"]]["points"]
        map = query_map(embedding_set, query["row"], steps, metrics["version"])
        picture = marked(overlay(scene, map), polygons, query["centres"])
        with whole(out / f"query_{query['row']}.png") as partial:
            Image.fromarray(picture).save(partial, "PNG")
    head = {"task": "selo", **{key: getattr(embedding_set, key) for key in ("model", "dataset", "split", "features")}}
    write_result(out / "selo.json", {**head, **metrics, "set": str(embedding_set.path), "made_by": made_by()})


if __name__ == "__main__":
    cli(main)
