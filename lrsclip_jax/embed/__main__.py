"""The command python -m lrsclip_jax.embed: a checkpoint and a source of images and texts in, an embedding set out."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrsclip_jax.errors import InputError, cli

EPILOG = """
SOURCE, all of it or with :SPLIT one split:
  prepared/rsicd:test                   a prepared data set (python -m lrsclip_jax.data.prepare)
  AID/                                  a folder of class folders: images with labels, and a text for every class
  scenes_2024/                          any other folder of images, at any depth; also GeoTIFFs, with .[geo]
  dataset_rsitmd.json:test              Karpathy's JSON, JSON lines, CSV or TSV, with --image-root and --…-key
  air-slt:AIR-SLT/                      semantic localisation: anno.json and scenes, cut into windows
  queries.txt                           texts alone, one a line
  scenes:1000:1                         procedural scenes, which need no data

examples (embed stands for python -m lrsclip_jax.embed):
  embed --checkpoint=runs/b16 --data=prepared/rsicd:test --out=sets/b16/rsicd
  embed --checkpoint=runs/b16 --data=WHU-RS19 --templates=georsclip --out=sets/b16/whu
  embed --checkpoint=runs/b16 --data=AID --features=encoder --out=sets/b16/aid_encoder
      for probes: what the image tower says before its projection; a DINOv2 or MAE alone will do:
  embed --checkpoint=dinov2_vits14.safetensors --size=224 --data=AID --features=encoder --out=sets/dinov2/aid
  embed --checkpoint=runs/b16 --data=rsitmd_long.json:test --text-lengths=20,40,60,77,120,248 --out=sets/b16/rsitmd_l
      for the curve of retrieval against the number of tokens kept
  embed --checkpoint=runs/b16 --data=air-slt:AIR-SLT --out=sets/b16/air_slt
  python -m eval.suite --sets=sets --out=results
      evaluates whatever the sets allow

Stopped at any moment, the same command continues. The set is a folder of .npy and .jsonl files, described in
eval/embeddings.py; nothing but numpy is needed to read it.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = argparse.ArgumentParser(
        prog="python -m lrsclip_jax.embed",
        usage="%(prog)s --checkpoint=SRC --data=SOURCE --out=SET [options]",
        description="Embeds images and texts and writes an embedding set.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parse.add_argument
    add("--checkpoint", metavar="SRC", required=True, help="a run folder or any checkpoint that convert knows")
    add("--data", metavar="SOURCE", required=True, help="what to embed: see below")
    add("--out", metavar="SET", required=True, help="folder of the set: new, empty, or to be continued")
    add(
        "--features",
        choices=("projected", "encoder"),
        default="projected",
        help="projected: rows in the space where images and texts meet (the default); encoder: the tower's own",
    )
    add("--batch-size", type=int, metavar="N", default=64, help="rows at once, over all devices (%(default)s)")
    add("--size", type=int, metavar="N", help="side of the images in pixels (the checkpoint's own; DINOv2's is 518)")
    add("--dtype", metavar="NAME", help="of the towers (float32 on a CPU, bfloat16 on accelerators)")
    add("--pictures", action="store_true", help="keep a small copy of every image in the set, for reports to show")
    add("--max-bad", type=int, metavar="N", default=0, help="unusable images to leave out and list (%(default)s)")
    add("--name", metavar="NAME", help="of the model in reports (default: the name of SRC)")
    add("--dataset", metavar="NAME", help="of the data set in reports (default: the name of SOURCE)")

    add = parse.add_argument_group("texts").add_argument
    add(
        "--templates",
        metavar="NAME",
        action="append",
        help="for images with labels: a template with {} for the class, or a set of them: lrsclip (the default: 'a "
        "satellite photo of {}'), rsclip, itra, georsclip, skyscript; may be given several times",
    )
    add("--classes", metavar="NAME|FILE", help="what to call the classes: a known data set's names, or {label: words}")
    add("--texts", metavar="FILE", help="further texts to embed, one a line")
    add(
        "--text-lengths",
        metavar="N,N,…",
        type=_integers,
        default=(),
        help="the long texts once more, cut to N tokens (the short ones where there are none)",
    )

    add = parse.add_argument_group("lists of images").add_argument
    add("--image-root", metavar="DIR", help="folder of the images (default: the folder of SOURCE)")
    for name in ("image", "long", "short", "id", "label", "split"):
        add(f"--{name}-key", metavar="KEY", help="where a record keeps it: see python -m lrsclip_jax.data.prepare -h")

    add = parse.add_argument_group("semantic localisation").add_argument
    add("--steps", metavar="N,N,…", type=_integers, default=(256, 512, 768), help="sides of the windows (256,512,768)")
    add(
        "--crops",
        choices=("direct", "reference"),
        default="direct",
        help="reference: by way of 256×256 JPEG files, as the reference code crops",
    )

    add = parse.add_argument_group("for a checkpoint whose files don't tell").add_argument
    add("--model", metavar="NAME", help="a published model, such as RemoteCLIP-ViT-B-32")
    add("--activation", metavar="NAME", help="of both towers: quick_gelu or gelu")
    add("--image-heads", type=int, metavar="N", help="attention heads of the image tower")
    add("--text-heads", type=int, metavar="N", help="attention heads of the text tower")
    return parse


def main(arguments: Sequence[str] | None = None) -> None:
    """Does what the command line says."""
    options = parser().parse_args(arguments)
    for name, least in (("batch_size", 1), ("max_bad", 0), ("size", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')}={value}: it must be at least {least}")

    # JAX takes seconds to import: only once the command is known to make sense.
    from lrsclip_jax import pretrained
    from lrsclip_jax.embed.set_writer import make_set
    from lrsclip_jax.pytorch.contract import Hints

    material = _material(options)
    hints = Hints(options.model, options.activation, options.image_heads, options.text_heads)
    model = pretrained.load(
        options.checkpoint,
        hints,
        dtype=options.dtype,
        batch_size=options.batch_size,
        features=options.features,
        size=options.size,
    )
    context_length = model.context_length if model.embeds("text") else None
    material = _for_model(_with_texts(material, options, context_length), model)
    out = Path(options.out).expanduser()
    skipped, cut = make_set(
        out,
        material,
        model,
        _about(options, material, model),
        pictures=options.pictures,
        max_bad=options.max_bad,
    )
    images, texts = len(material.images) - skipped, len(material.texts)
    print(f"{out}: {images:,} images, {texts:,} texts of {material.name}, {options.features} features")
    if skipped:
        print(f"note: {skipped:,} images could not be used; {out}/skipped.jsonl lists them")
    if cut:
        print(f"note: {cut:,} of {texts:,} texts were cut to {context_length} tokens, the context length")


def _material(options: argparse.Namespace) -> Any:
    from lrsclip_jax.data.sources import Keys
    from lrsclip_jax.embed.material import open_material

    scheme, _, folder = options.data.partition(":")
    if scheme == "air-slt":
        from lrsclip_jax.embed.air_slt import open_scenes

        return open_scenes(folder, options.steps, options.crops == "reference")
    keys = {field.name: getattr(options, f"{field.name}_key", None) for field in dataclasses.fields(Keys)}
    return open_material(options.data, Keys(**keys), options.image_root)


def _with_texts(material: Any, options: argparse.Namespace, context_length: int | None) -> Any:
    """The material with class texts, further texts, and texts to be cut."""
    from eval.class_texts import class_texts
    from lrsclip_jax.embed.material import queries
    from lrsclip_jax.embed.set_writer import sweep

    texts = list(material.texts)
    labels = [image["label"] for image in material.images if "label" in image]
    if labels:
        texts += class_texts(labels, options.templates or ["lrsclip"], options.classes)
    elif options.templates or options.classes:
        raise InputError(f"--templates and --classes: the images of {options.data} have no labels")
    if options.texts:
        texts += queries(options.texts)
    if options.text_lengths and context_length:
        texts += sweep(texts, options.text_lengths, context_length)
    return dataclasses.replace(material, texts=texts)


def _for_model(material: Any, model: Any) -> Any:
    """The material without the side that the model can't embed, with a note; InputError where nothing is left."""
    for tower, side in (("image", "images"), ("text", "texts")):
        rows = getattr(material, side)
        if rows and not model.embeds(tower):
            print(f"note: {model.source} embeds no {side} as {model.features} features: {len(rows):,} are left out")
            material = dataclasses.replace(material, **{side: []})
    if not material.images and not material.texts:
        raise InputError(f"{model.source} ({model.family}) can embed nothing of {material.name}")
    return material


def _about(options: argparse.Namespace, material: Any, model: Any) -> dict[str, Any]:
    """Returns the fields of meta.json."""
    import jax
    import numpy as np

    projected = model.features == "projected"
    return {
        "model": options.name or Path(options.checkpoint.rstrip("/")).stem.removeprefix("hf:"),
        "checkpoint": model.source,
        "family": model.family,
        "step": model.step,
        "weights": model.weights_hash,
        "dataset": options.dataset or material.name,
        "split": material.split,
        "features": model.features,
        "preprocessing": dataclasses.asdict(model.preprocessing) if model.embeds("image") else None,
        "crops": options.crops if material.scenes else None,
        "tokenizer": model.tokenizer.name if model.embeds("text") else None,
        "context_length": model.context_length if model.embeds("text") else None,
        "logit_scale": float(np.exp(np.asarray(model.params["logit_scale"]))) if projected else None,
        "dtype": model.dtype,
        "made_by": f"lrsclip_jax {_version()}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("lrsclip_jax")
    except metadata.PackageNotFoundError:
        return "from a folder"


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


if __name__ == "__main__":
    cli(main)
