"""The command `lrsclip prepare`: captioned images in, a prepared data set out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

from eval.command import command_line, expanded, floats, integers, whole_number
from lrsclip_jax.data.bands import add_layout, names_of, rgb_numbers
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.sources import TEMPLATE, Keys, open_source

EXAMPLES = """
sources, with examples:
  JSON list or JSON lines of {"image": …, "long": …, "short": …}; texts are strings or lists of strings
    lrsclip prepare lrs2m.jsonl --image-root=images --out=prepared/lrs2m
    lrsclip prepare captions.jsonl --image-key=cls/filename --out=prepared/rsicd
    lrsclip prepare list_pretrain.json --image-key=source_dataset/image --long-key=conversations.1.value --out=…
  Karpathy's JSON (RSICD, RSITMD, UCM), COCO's captions, NWPU-Captions: all splits at once, their captions are short
    lrsclip prepare dataset_rsitmd.json --image-root=images --out=prepared/rsitmd
    lrsclip prepare dataset_rsitmd_long.json --long-key=sentences --image-root=images --out=prepared/rsitmd_long
  CSV or TSV with a header
    lrsclip prepare train.csv --image-root=images --out=prepared/rs5m
  a file or folder of Parquet, with paths of images or their bytes: from Hugging Face, or from lrsclip corpus build
    lrsclip prepare corpora/lrs2m/corpus --out=prepared/lrs2m
  a folder of images with metadata.jsonl or metadata.csv (Hugging Face)
    lrsclip prepare my_images/ --out=prepared/mine
  a folder of class folders; the short text is made from the folder's name
    lrsclip prepare AID/ --out=prepared/aid
  WebDataset tars: KEY.jpg with KEY.txt (a short text), KEY.json or KEY.cls
    lrsclip prepare 'shards/train-*.tar' --out=prepared/web
    lrsclip prepare 'https://HOST/train-{000..099}.tar' --out=prepared/web      also of http, gs and s3
  a data set of the Hugging Face Hub, with .[datasets]; :CONFIG and :SPLIT may follow the name
    lrsclip prepare hf-datasets:OWNER/NAME --long-key=description --out=prepared/name
  images of more than three bands, whose bands are kept as they are
    lrsclip prepare scenes.jsonl --bands=B02,B03,B04,B08 --out=prepared/sentinel2
    lrsclip prepare eurosat-ms:EuroSAT_MS --bands=B02,B03,B04,B08,B11,B12 --out=prepared/eurosat_ms
  procedural scenes
    lrsclip prepare scenes:5000:1 --size=64 --out=prepared/scenes

Usual names of keys are known: image, filepath, file_name, filename, image_path; caption, captions, text, title,
sentences, raw (short texts, unless --long-key says otherwise); label, class, cls. An image may have several rows.

Images may be JPEG, PNG, WebP, BMP or TIFF; JPEG 2000, 16-bit and multi-band TIFF need the extra [geo]. Larger ones
are reduced to --size with Pillow's antialiased bicubic, smaller ones are never enlarged.

Stopped at any moment, the same command continues. Rows and images that can't be used are skipped and listed in
skipped.jsonl, up to --max-bad. The result is a TFDS data set named lrs2m: with --out=FOLDER/lrs2m/1.0.0
tfds.data_source("lrs2m", data_dir=FOLDER) finds it by name.
"""

_KEY_HELP = {
    "image": "path of the image; FOLDER_KEY/FILE_KEY joins two",
    "long": "the long text or texts; a.1.b reaches into nested objects and lists",
    "short": "the short text or texts",
    "id": "the record's id (else the image's path)",
    "label": "its class",
    "licence": "its licence",
    "split": "its split; the other records are of --split",
    "source": "the data set it comes from (else the name of SOURCE)",
    "negative": "hard negatives, one for each short text or '': the text with a fact changed (loss.hard_negatives)",
}


def _bands(text: str) -> tuple[int, ...] | tuple[str, ...]:
    return integers(text) if text[:1].isdigit() and "nm" not in text else names_of(text)


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Turns captioned images into a prepared data set: checked, resized and tokenised once.",
        EXAMPLES,
        usage="SOURCE --out=DIR [options]",
    )
    parse.add_argument("source", metavar="SOURCE", type=expanded, help="what to prepare: see below")
    parse.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        type=expanded,
        help="folder of the prepared set: new, empty, or to be continued",
    )
    parse.add_argument(
        "--image-root", metavar="DIR", type=expanded, help="folder of the images (default: the folder of SOURCE)"
    )
    parse.add_argument(
        "--size",
        type=whole_number(1, 2**14),
        metavar="N",
        default=256,
        help="shorter side in pixels, at most (%(default)s; RSCLIP: 512)",
    )
    parse.add_argument(
        "--quality",
        type=whole_number(1, 100),
        metavar="N",
        default=92,
        help="JPEG quality of what is resized (%(default)s)",
    )
    parse.add_argument(
        "--bands",
        type=_bands,
        metavar="B,B,…",
        help="one or three bands that become RGB, e.g. 4,3,2 (the first three); or names of any number, e.g. "
        "B02,B03,B04,B08, that are kept as they are, for model.image.bands",
    )
    add_layout(parse.add_argument)
    parse.add_argument(
        "--stretch",
        type=floats,
        metavar="P,P",
        default=(2.0, 98.0),
        help="percentiles that 16-bit bands show (2,98)",
    )
    parse.add_argument("--split", metavar="NAME", default="train", help="split of records that name none (%(default)s)")
    parse.add_argument(
        "--template",
        metavar="TEXT",
        help=f"short text of an image that has a label and no text (of class folders: '{TEMPLATE}')",
    )
    parse.add_argument(
        "--max-bad",
        type=whole_number(),
        metavar="N",
        help="unusable rows and images to bear (the larger of 10 and 1 %%)",
    )
    parse.add_argument(
        "--shard-size", type=whole_number(1), metavar="N", default=4096, help="records in a shard (%(default)s)"
    )
    parse.add_argument(
        "--workers",
        type=whole_number(1, 2**12),
        metavar="N",
        default=os.cpu_count(),
        help="processes (one a core: %(default)s)",
    )
    group = parse.add_argument_group("keys", "where a record of a list keeps what")
    for field in fields(Keys):
        group.add_argument(f"--{field.name}-key", metavar="KEY", help=_KEY_HELP[field.name])
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.data.prepare") -> None:
    """Prepares what the command line says, and prints the table of counts."""
    flags = parser(prog).parse_args(arguments)
    # TFDS and a tokenizer, for which --help should not wait.
    from lrsclip_jax.data.prepare.counts import table
    from lrsclip_jax.data.prepare.encode import Options
    from lrsclip_jax.data.prepare.preparation import check_out, prepare

    keys = Keys(**{field.name: getattr(flags, f"{field.name}_key") for field in fields(Keys)})
    check_out(flags.out)
    try:
        source = open_source(flags.source, keys, flags.image_root, flags.template)
        for note in source.notes:
            print(f"note: {note}", file=sys.stderr)
        layout = flags.layout or source.layout
        bands = flags.bands or rgb_numbers(layout)
        options = Options(flags.size, flags.quality, bands, flags.stretch, layout or None)
        counts = prepare(source, flags.out, options, flags.split, flags.shard_size, flags.max_bad, flags.workers)
    except OSError as error:  # a list that can't be read
        raise InputError(str(error)) from None
    print(f"\n{flags.out}\n{table(counts)}")


if __name__ == "__main__":
    cli(main)
