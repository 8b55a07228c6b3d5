"""How well test images are found in a training set:

python -m benchmarks.leakage_speed --images=DIR --splits=FILE
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from lrsclip_jax.corpus.hygiene.leakage import DISTANCE, References, hash_references
from lrsclip_jax.corpus.hygiene.phash import hash_files, phash
from lrsclip_jax.data.draws import shuffled, stream
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.threads import in_order
from lrsclip_jax.errors import InputError, cli

_DESCRIPTION = """\
Edits test images of class folders (AID) as if each edited one had got into the training set, and prints a Markdown
table of how many are found, by the whole test image's hash alone and by its 25 windows' (what `lrsclip_jax.corpus`
does). Its last row counts the pairs of a train and a test image that are flagged without being planted; those within
the default distance are listed below, for a person to tell true duplicates from false alarms.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and the list."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leakage_speed",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="class folders of images")
    parser.add_argument(
        "--splits", type=Path, required=True, metavar="FILE", help="JSON lines: cls, filename, split (train or test)"
    )
    parser.add_argument("--tests", type=int, default=1000, help="test images, drawn with seed 0; %(default)s")
    parser.add_argument("--distances", type=int, nargs="+", default=[4, 6, DISTANCE, 10, 12], help="; 4 6 8 10 12")
    options = parser.parse_args(arguments)

    of_split = read_splits(options.images, options.splits)
    tests = shuffled(stream(0, 0), of_split["test"])[: options.tests]
    references = hash_references({"test": tests})
    train, unread = hash_files(of_split["train"])
    if unread:
        raise InputError(f"{len(unread)} train images can't be read: {unread[min(unread)]}")

    apart = np.stack(list(tqdm(planted(tests, references), "editing", len(tests), leave=False, disable=None)))
    head = [f"≤ {distance}" for distance in options.distances]
    print(f"{len(tests):,} test images, {len(train):,} train images; found in per cent, by distance in bits\n")
    print(
        "| edit | " + " | ".join([f"whole image {bits}" for bits in head] + [f"windows {bits}" for bits in head]) + " |"
    )
    print("|---|" + "---:|" * 2 * len(head))
    for edit, found in zip(EDITS, apart.transpose(1, 2, 0), strict=True):  # [edits, whole or windows, tests]
        rates = [100 * np.mean(distances <= bits) for distances in found for bits in options.distances]
        print(f"| {edit} | " + " | ".join(f"{rate:.1f}" for rate in rates) + " |")
    between = pair_distances(train, references)
    counts = [np.count_nonzero(distances <= bits) for distances in between for bits in options.distances]
    print(f"| not planted, of {between[0].size:,} pairs | " + " | ".join(f"{count:,}" for count in counts) + " |\n")
    rows = np.argwhere(between[1] <= DISTANCE)
    for test, row in sorted(rows.tolist(), key=lambda pair: between[1][*pair]):
        name = Path(references.images[test]).relative_to(options.images)
        print(f"{between[1][test, row]} bits: test {name}, train {of_split['train'][row].relative_to(options.images)}")


def read_splits(images: Path, splits: Path) -> dict[str, list[Path]]:
    """Returns the paths of train and test images."""
    found: dict[str, list[Path]] = {"train": [], "test": []}
    for number, line in enumerate(splits.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            found.setdefault(row["split"], []).append(images / row["cls"] / row["filename"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{splits}, line {number}: cls, filename and split are expected ({error!r})") from None
    if not found["train"] or not found["test"]:
        raise InputError(f"{splits}: no image of split train, or none of split test")
    return found


def planted(tests: Sequence[Path], references: References):
    """Yields for each test image how far its edits are from it, uint8 [edits, 2]: whole, and the nearest window."""

    def distances(row: int) -> np.ndarray:
        image, rng = read_image(tests[row]), stream(0, row, purpose=1)
        hashes = np.asarray([phash(edit(image, rng)) for edit in EDITS.values()], np.uint64)
        apart = np.bitwise_count(hashes[:, None] ^ references.hashes[row])
        return np.stack([apart[:, 0], apart.min(axis=1)], axis=1)

    return in_order(distances, range(len(tests)))


def pair_distances(train: np.ndarray, references: References) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far all test and train images are apart, whole and by the nearest window, uint8 [T, N] each."""
    whole = np.bitwise_count(references.hashes[:, :1] ^ train)
    windows = np.stack([np.bitwise_count(hashes[:, None] ^ train).min(axis=0) for hashes in references.hashes])
    return whole, windows


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """95 % of each side, at a random place."""
    width, height = (round(0.95 * side) for side in image.size)
    x, y = int(rng.random() * (image.width - width + 1)), int(rng.random() * (image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


def without_border(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """5 % off at each of the four borders."""
    x, y = round(0.05 * image.width), round(0.05 * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


def compressed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """JPEG of quality 60."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


def shifted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A pixel to the right and down; the first row and column are repeated."""
    return Image.fromarray(np.pad(np.asarray(image), ((1, 0), (1, 0), (0, 0)), "edge")[:-1, :-1])


def brighter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Values times 1.2, at most 255."""
    return image.point(lambda value: min(255, round(1.2 * value)))


def darker(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Values times 0.8."""
    return image.point(lambda value: round(0.8 * value))


EDITS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "crop to 95 % of each side, anywhere": cropped,
    "5 % cropped at every border": without_border,
    "JPEG, quality 60": compressed,
    "shifted by a pixel": shifted,
    "20 % brighter": brighter,
    "20 % darker": darker,
}


if __name__ == "__main__":
    cli(main)
