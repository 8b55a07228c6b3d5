"""The command `lrsclip embed`: a checkpoint and a source of images and texts in, an embedding set out."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from eval.command import add_subject, command_line, expanded, floats, integers, path, whole_number
from lrsclip_jax.data.bands import add_layout
from lrsclip_jax.data.tiling import add_options
from lrsclip_jax.errors import InputError, cli

EPILOG = """
SOURCE, all of it or with :SPLIT one split:
  prepared/rsicd:test                   a prepared data set (lrsclip prepare)
  AID/                                  a known data set's class folders, or others with --labels=folders: images with
                                        labels, and a text for every class
  scenes_2024/                          any other folder of images, at any depth; also GeoTIFFs, with .[geo]
  dataset_rsitmd.json:test              JSON, CSV, Parquet, with --image-root and --…-key; WebDataset tars
  hf-datasets:OWNER/NAME:test           a data set of the Hugging Face Hub, with .[datasets]
  'https://HOST/test-{00..09}.tar'      WebDataset tars at addresses, also of http, gs and s3; they are copied here
  urban1k:Urban1k  docci:DOCCI  iiw:IIW a set of long texts, read as it is published; also dci, dci-summaries,
                                        long-dci, himo-docci, sharegpt4v-1k, sharegpt4v-10k
  air-slt:AIR-SLT/                      semantic localisation: anno.json and scenes, cut into windows
  queries.txt                           texts alone, one a line
  scenes:1000:1                         procedural scenes, which need no data

examples:
  lrsclip embed prepared/rsicd:test --checkpoint=runs/b16 --out=sets/b16/rsicd
  lrsclip embed WHU-RS19 --checkpoint=runs/b16 --templates=georsclip --out=sets/b16/whu
  lrsclip embed AID --checkpoint=runs/b16 --features=encoder --out=sets/b16/aid_encoder
      for probes and for training from memory: the image tower's features before its projection; a DINOv2 or MAE alone
      will do:
  lrsclip embed AID --checkpoint=dinov2_vits14.safetensors --size=224 --features=encoder --out=sets/dinov2/aid
  lrsclip embed rsitmd_long.json:test --checkpoint=runs/b16 --text-lengths=20,40,60,77,120,248 --out=sets/b16/rsitmd_l
      for the curve of retrieval against the number of tokens kept
  lrsclip embed rsitmd_long.json:test --checkpoint=runs/b16 --sentences=10 --out=sets/b16/rsitmd_l
      for HiMo@K, and for what the order of the sentences and the first of them do
  lrsclip embed air-slt:AIR-SLT --checkpoint=runs/b16 --out=sets/b16/air_slt
  lrsclip evaluate sets --out=results
      evaluates all that the sets allow

Stopped at any moment, the same command continues. The set is a folder of .npy and .jsonl files, described in
eval/embeddings.py; nothing but numpy is needed to read it.
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Embeds images and texts and writes an embedding set.",
        EPILOG,
        usage="SOURCE --checkpoint=SRC --out=SET [options]",
    )
    add_subject(parse, "data", metavar="SOURCE", help="what to embed: see below")
    add = parse.add_argument
    add("--checkpoint", metavar="SRC", required=True, type=expanded, help="weights, see lrsclip convert --help")
    add("--out", metavar="SET", required=True, type=path, help="folder of the set: new, empty, or to be continued")
    add(
        "--features",
        choices=("projected", "encoder"),
        default="projected",
        help="projected: rows in the space where images and texts meet (the default); encoder: the tower's own",
    )
    add("--tower", choices=("image", "text"), help="of two towers the one of --features=encoder (image)")
    add(
        "--views",
        type=whole_number(1, 10_000),
        metavar="K",
        help="with --features=encoder: K crops of every image as training draws them, for data.image_features",
    )
    add(
        "--crop-scale", metavar="A,B", type=floats, default=(0.8, 1.0), help="shares of the area of such a crop (0.8,1)"
    )
    add(
        "--turns",
        action="store_true",
        help="with --features=encoder: every image, or crop of it, in all eight turns, for data.augmentation.turns",
    )
    add(
        "--batch-size",
        type=whole_number(1, 2**24),
        metavar="N",
        default=64,
        help="rows at once, over all devices (%(default)s)",
    )
    add(
        "--size",
        type=whole_number(1, 2**14),
        metavar="N",
        help="side of the images in pixels (the checkpoint's own; DINOv2's is 518)",
    )
    add("--dtype", metavar="NAME", help="of the towers (float32 on a CPU, bfloat16 on accelerators)")
    add("--pictures", action="store_true", help="keep a small copy of every image in the set, for reports to show")
    add(
        "--max-bad",
        type=whole_number(),
        metavar="N",
        default=0,
        help="unusable rows and images to leave out (%(default)s)",
    )
    add("--name", metavar="NAME", help="of the model in reports (default: the name of SRC)")
    add(
        "--dataset",
        metavar="NAME",
        help="of the data set in reports (default: as the papers call it, where the name of SOURCE or its classes are "
        "known, or else the name of SOURCE)",
    )

    add = parse.add_argument_group("texts").add_argument
    add(
        "--templates",
        metavar="NAME",
        action="append",
        help="for images with labels: a template with {} for the class, or a set of them: lrsclip (the default: 'a "
        "satellite photo of {}'), rsclip, itra, georsclip, skyscript; may be given several times",
    )
    add(
        "--classes",
        metavar="NAME|FILE",
        type=expanded,
        help="what to call the classes: a known data set's names, or {label: words}",
    )
    add("--labels", choices=("folders",), help="the folders of images are their classes, whichever they are")
    add("--texts", metavar="FILE", type=expanded, help="further texts to embed, one a line")
    add(
        "--text-lengths",
        metavar="N,N,…",
        type=integers,
        default=(),
        help="the long texts once more, cut to N tokens (the short ones where there are none)",
    )
    add(
        "--sentences",
        metavar="K",
        type=whole_number(2, 100),
        help="the same texts once more by sentences: the first 1 to K of them, all shuffled, all but the first",
    )

    add(
        "--negatives",
        action="store_true",
        help="also the hard negatives of short texts, of scenes, prepared sets, and lists with --negative-key",
    )
    add(
        "--strip-stops",
        action="store_true",
        help="take the last full stop, and the space before it, from short texts: RSICD's end in ' .', and RemoteCLIP "
        "takes it off; the set says so, and reports name it",
    )

    add = parse.add_argument_group("lists of images").add_argument
    add("--image-root", metavar="DIR", type=expanded, help="folder of the images (default: the folder of SOURCE)")
    for name in ("image", "long", "short", "id", "label", "split", "negative"):
        add(f"--{name}-key", metavar="KEY", help="where a record keeps it: see lrsclip prepare --help")

    add = parse.add_argument_group("large images").add_argument
    add_options(add, "cut images with a longer side into tiles of N pixels")
    add_layout(add)

    add = parse.add_argument_group("semantic localisation").add_argument
    add("--steps", metavar="N,N,…", type=integers, default=(256, 512, 768), help="sides of the windows (256,512,768)")
    add(
        "--crops",
        choices=("direct", "reference"),
        default="reference",
        help="reference (the default): by way of 256×256 JPEG files, as AIR-SLT's own code crops, to compare with "
        "published numbers; direct: the pixels as they are. R_mi differs by 0.008",
    )
    add(
        "--second-look",
        action="store_true",
        help="also the small windows and the shuffled queries that SeLo v2 needs: about twice as many windows",
    )

    add = parse.add_argument_group("for a checkpoint whose files don't tell").add_argument
    add("--model", metavar="NAME", help="a published model, such as RemoteCLIP-ViT-B-32")
    add("--activation", metavar="NAME", help="of both towers: quick_gelu or gelu")
    add("--image-heads", type=whole_number(1, 2**16), metavar="N", help="attention heads of the image tower")
    add("--text-heads", type=whole_number(1, 2**16), metavar="N", help="attention heads of the text tower")
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.embed") -> None:
    """Embeds the source that the command line names, and writes the set."""
    options = parser(prog).parse_args(arguments)

    # JAX takes seconds to import: only once the command is known to make sense.
    from lrsclip_jax import pretrained
    from lrsclip_jax.embed import parts
    from lrsclip_jax.embed.scene_tiles import counting_crops
    from lrsclip_jax.embed.set_writer import make_set
    from lrsclip_jax.embed.views import turns_of, views_of
    from lrsclip_jax.pytorch.contract import Hints

    parts.check_out(options.out)
    for option in ("tower", "views", "turns"):
        if getattr(options, option) and options.features != "encoder":
            raise InputError(f"--{option} is about --features=encoder")
    material = _material(options)
    hints = Hints(options.model, options.activation, options.image_heads, options.text_heads)
    model = pretrained.load(
        options.checkpoint,
        hints,
        dtype=options.dtype,
        batch_size=options.batch_size,
        features=options.features,
        size=options.size,
        tower=options.tower,
        layout=options.layout,
    )
    if options.pictures and model.embeds("image") and model.preprocessing.bands:
        raise InputError(f"--pictures: {options.checkpoint} reads bands, which are no pictures")
    context_length = model.context_length if model.embeds("text") else None
    material = _named(_for_model(_with_texts(material, options, context_length), model), options)
    if options.views:
        material = views_of(material, options.views, options.crop_scale, model.preprocessing.size)
    material = turns_of(material) if options.turns else material
    out = options.out
    cropped: list[int] = []
    skipped, cut = make_set(
        out,
        dataclasses.replace(material, read=counting_crops(material.read, cropped)),
        model,
        _about(options, material, model),
        pictures=options.pictures,
        max_bad=options.max_bad,
    )
    images, texts = len(material.images) + len(material.faults) - skipped, len(material.texts)
    print(f"{out}: {images:,} images, {texts:,} texts of {material.name}, {options.features} features")
    if skipped:
        print(f"note: {skipped:,} rows or images could not be used; {out}/skipped.jsonl lists them")
    if cut:
        print(f"note: {cut:,} of {texts:,} texts were cut to {context_length} tokens, the context length")
    if cropped and not model.preprocessing.patch:
        squashed = model.preprocessing.resize == "squash"
        how = "squashed to a square, by" if squashed else "cropped to their central square, which leaves out"
        print(
            f"note: {len(cropped):,} of {images:,} images were {how} more than a fifth (such as "
            f"{material.images[min(cropped)]['id']}); --tile={model.preprocessing.size} embeds them tile by tile"
        )


def _material(options: argparse.Namespace) -> Any:
    from lrsclip_jax.embed.material import material_of
    from lrsclip_jax.embed.windows import windows_of
    from lrsclip_jax.sources import Keys, open_source

    keys = {field.name: getattr(options, f"{field.name}_key", None) for field in dataclasses.fields(Keys)}
    told = options.labels or options.classes or options.templates
    folders: Literal["labels", "known"] = "labels" if told else "known"
    source = open_source(options.data, Keys(**keys), options.image_root, folders=folders)
    for note in source.notes:
        print(f"note: {note}")
    if any(query.scene for query in source.queries):
        return windows_of(source, options.steps, options.crops == "reference", options.second_look)
    if options.second_look:
        raise InputError(f"--second-look: {options.data} has no scenes with queries")
    material = material_of(source, options.strip_stops, options.negatives)
    if options.tile is None:
        return material
    from lrsclip_jax.embed.scene_tiles import cut

    tiled = cut(material, options.tile, options.overlap, options.levels)
    if lost := len(material.texts) - len(tiled.texts):
        print(f"note: {lost:,} texts are of whole images that are cut into tiles: they are left out")
    return tiled


def _with_texts(material: Any, options: argparse.Namespace, context_length: int | None) -> Any:
    """The material with class texts, further texts, and texts to be cut."""
    from eval.class_texts import class_texts
    from lrsclip_jax.embed.material import queries
    from lrsclip_jax.embed.set_writer import sentence_sweep, sweep

    texts = list(material.texts)
    labels = [image["label"] for image in material.images if "label" in image]
    if labels and not options.classes and all(label.lstrip("-").isdigit() for label in labels):
        remedy = f"the labels of {options.data} are numbers: name the classes by --classes, or their key by --label-key"
        if options.templates:
            raise InputError(remedy)
        print(f"note: {remedy}; no texts of classes are made")
    elif labels:
        texts += class_texts(labels, options.templates or ["lrsclip"], options.classes)
    elif options.templates or options.classes or options.labels:
        raise InputError(f"--templates, --classes and --labels: the images of {options.data} have no labels")
    if options.texts:
        texts += queries(options.texts)
    whole = tuple(texts)
    if options.text_lengths and context_length:
        texts += sweep(whole, options.text_lengths, context_length)
    if options.sentences and context_length:
        texts += sentence_sweep(whole, options.sentences)
    return dataclasses.replace(material, texts=texts)


def _for_model(material: Any, model: Any) -> Any:
    """The material without the side that the model can't embed, with a note; InputError where nothing is left."""
    from lrsclip_jax.embed.material import seen_by

    for tower, side in (("image", "images"), ("text", "texts")):
        rows = getattr(material, side)
        if rows and not model.embeds(tower):
            print(f"note: {model.source} embeds no {side} as {model.features} features: {len(rows):,} are left out")
            material = dataclasses.replace(material, **{side: []})
    if material.images:
        material = seen_by(material, model.preprocessing, model.layout)
    if not material.images and not material.texts:
        raise InputError(f"{model.source} ({model.family}) can embed nothing of {material.name}")
    return material


def _named(material: Any, options: argparse.Namespace) -> Any:
    """The material under the name of its data set, with a note where that is another one than the source's."""
    from lrsclip_jax.embed.naming import identity_of

    if options.dataset:
        return dataclasses.replace(material, name=options.dataset)
    name, note = identity_of(options.data, material)
    if note:
        print(f"note: {note}; --dataset=NAME calls it otherwise")
    return dataclasses.replace(material, name=name)


def _about(options: argparse.Namespace, material: Any, model: Any) -> dict[str, Any]:
    """Returns the fields of meta.json."""
    from lrsclip_jax.embed.about_model import about_model

    return about_model(model, options.name) | {
        "dataset": material.name,
        "split": material.split,
        "crops": options.crops if material.scenes else None,
        **({"stops": "stripped"} if options.strip_stops else {}),
        **({"views": options.views, "crop_scale": list(options.crop_scale)} if options.views else {}),
        **({"turns": "all"} if options.turns else {}),
    }


if __name__ == "__main__":
    cli(main)
