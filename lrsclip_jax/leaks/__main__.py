"""The command `lrsclip leaks`: evaluation sets and training data in, the near pairs of their images out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.command import add_subject, command_line, expanded, path, whole_number
from eval.leaks import Leaks, write_leaks
from eval.lock import alone
from eval.output import check_folder
from eval.whole import write_text
from lrsclip_jax.corpus.hygiene.leakage import DISTANCE
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.sources import Keys, open_source

_HASHES = "hashes"
_KEYS = ("image", "long", "short", "id", "label", "split")
_NAMED = 3  # pairs that the terminal shows
_EPILOG = """\
SOURCE, all of it or with :SPLIT one split: all that lrsclip embed reads, see its --help. Images have the ids that
embed gives them. Name the split that was trained on: PREPARED is all splits of a prepared set.

examples:
  lrsclip leaks rsitmd.json:test --image-root=images --train=prepared/lrs2m:train --out=leaks
  lrsclip leaks WHU-RS19 prepared/aid:test --train=prepared/lrs2m:train --train=more/images --out=leaks
      the training images are read once for all evaluation sets
  lrsclip evaluate sets --leaks=leaks --out=evaluation
      then measures retrieval and zero-shot also without the images found

A training image is near an evaluation image if the perceptual hash of the whole of it is at most --distance of 64 bits
from that of the evaluation image or of one of 24 windows that lack up to 5 % at a border. So copies are found that were
compressed, resized, shifted by a pixel, made brighter or darker, or cropped by up to 5 % at each border. Copies that
were turned or mirrored, and those that show more ground than the evaluation image, are not.

in --out:
  DATASET@SPLIT.json   the images of a set that are near a training image, with the nearest one and the bits between
  DATASET@SPLIT.html   some of these pairs as pictures, the farthest first: look whether they are copies
  hashes/              of all images: a stopped command continues with them, and a further set needs no image read again
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Finds the images of evaluation sets that are near an image of the training data.",
        _EPILOG,
        usage="SOURCE … --train=SOURCE --out=DIR [options]",
    )
    add_subject(parse, "sources", metavar="SOURCE", help="evaluation sets: see below", many=True)
    add = parse.add_argument
    add(
        "--train",
        metavar="SOURCE",
        required=True,
        action="append",
        type=expanded,
        help="images that the model was trained on; repeatable",
    )
    add("--out", metavar="DIR", required=True, type=path, help="folder of the results: new, or of this command")
    add(
        "--distance",
        type=whole_number(0, 64),
        metavar="BITS",
        default=DISTANCE,
        help="between hashes, at most (%(default)s); more finds more copies and more false alarms",
    )
    add = parse.add_argument_group("evaluation sets that are lists of images").add_argument
    add("--image-root", metavar="DIR", type=expanded, help="folder of the images (default: the folder of the list)")
    for name in _KEYS:
        add(f"--{name}-key", metavar="KEY", help="where a record keeps it, as for lrsclip embed")
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.leaks") -> None:
    """Compares the sources that the command line names, writes the files and prints what was found."""
    options = parser(prog).parse_args(arguments)
    from eval.suite.result_files import data_name
    from lrsclip_jax.leaks.comparing import compare, evaluation_set
    from lrsclip_jax.leaks.pairs_page import compose

    out = check_folder(options.out, lambda folder: (folder / _HASHES).is_dir(), begun=[_HASHES])
    keys = Keys(**{name: getattr(options, f"{name}_key") for name in _KEYS})
    training = {spec: open_source(spec, folders="known") for spec in options.train}
    sets = [evaluation_set(spec, keys, options.image_root) for spec in options.sources]
    names = [data_name(each.dataset, each.split) for each in sets]
    for each, name in zip(sets, names, strict=True):
        if names.count(name) > 1:
            raise InputError(f"{each.spec}: another SOURCE makes {name}.json, too: give each an --out of its own")
    with alone(out, prog):
        kept = out / _HASHES
        kept.mkdir(exist_ok=True)
        compared, notes = compare(sets, training, kept, options.distance)
        for name, (leaks, pairs) in zip(names, compared, strict=True):
            write_leaks(out / f"{name}.json", leaks)
            write_text(out / f"{name}.html", compose(leaks, pairs))
    for name, (leaks, _) in zip(names, compared, strict=True):
        _say(leaks, out / f"{name}.json")
    for line in notes:
        print(f"note: {line}", file=sys.stderr)


def _say(found: Leaks, file: Path) -> None:
    """Prints how many images are near training images, and the nearest of them."""
    compared = sum(source.images for source in found.train)
    print(
        f"{file}: {len(found.near):,} of {len(found.images):,} images are near one of {compared:,} training images, at "
        f"most {found.distance} bits apart"
    )
    nearest = sorted(found.near, key=lambda pair: pair.distance)[:_NAMED]
    for pair in nearest:
        print(f"  {pair.id} is near {pair.train} of {pair.source}, {pair.distance} bits apart")
    if len(found.near) > len(nearest):
        print(f"  and {len(found.near) - len(nearest):,} more")


if __name__ == "__main__":
    cli(main)
