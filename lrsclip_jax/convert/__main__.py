"""The command `lrsclip convert`: checkpoints of PyTorch's families in, out, and side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.command import add_command, command_line, expanded, whole_number
from lrsclip_jax.errors import InputError, cli

_COMMANDS = """
a source of weights, SRC:
  runs/b16                              a run folder (its newest checkpoint), or one of its checkpoints
  hf:openai/clip-vit-base-patch16       the Hugging Face Hub: hf:owner/name, hf:owner/name@revision
  FOLDER                                of transformers: CLIPModel, VisionTextDualEncoderModel, BertModel, Dinov2Model
  ViT-B-16.pt                           OpenAI's TorchScript archive
  open_clip_pytorch_model.bin           open_clip, .pt, .bin or .safetensors, with open_clip_config.json or --model
  longclip-B.pt                         Long-CLIP, LRSCLIP: their two tables of text positions become one
  ADAPTER                               a folder of PEFT, LoRA on a model of transformers
  RemoteCLIP-ViT-L-14.pt                RemoteCLIP, GeoRSCLIP, SkyCLIP, with --model
  mae_pretrain_vit_base.pth             MAE, DINOv2, BERT: one tower, which needs another one to be a model

The family is recognised by the names of the tensors, widths and depths are theirs. Heads, activation, eps and pooling
stand in no tensor: they come from the config next to the weights, the family's code, the table of published models
(--model) or an option, and never from a guess. Nothing in a file is ever run; torch is needed for files of torch.save
alone (.pt, .pth, .bin), and for compare.

exit status: 0 done, 1 compare found another function, 2 bad input (one line says what and where)
"""

_IMPORT = """
examples:
  lrsclip convert import hf:openai/clip-vit-base-patch16 --workdir=runs/clip_b16 --context-length=248
      OpenAI's CLIP, its 77 positions stretched to 248 as in Long-CLIP and LRSCLIP
  lrsclip convert import LRSCLIP_ViT-B-16.pt --workdir=runs/lrsclip_b16
  lrsclip convert import RemoteCLIP-ViT-B-32.pt --model=RemoteCLIP-ViT-B-32 --workdir=runs/remoteclip
  lrsclip convert import model.pt --activation=quick_gelu --workdir=runs/model
      a file that nothing describes
  lrsclip convert import --image=mae_pretrain_vit_base.pth --text=hf:google-bert/bert-base-uncased \\
      --size=448 --context-length=248 --workdir=runs/rsclip
      RSCLIP's two towers; their projections are drawn at random and must be trained

The folder is a run's: lrsclip train --config=vitb16 --workdir=runs/tuned \\
  --config.model.init=runs/clip_b16 trains from it, lrsclip_jax.load("runs/clip_b16") embeds with it.
"""

_EXPORT = """
formats:
  hf          a folder that transformers loads as it is: CLIPModel, or VisionTextDualEncoderModel for other towers
  open_clip   open_clip's key names; a path without .pt or .safetensors becomes a folder with open_clip's config
  openai      OpenAI's key names, at 77 positions
  longclip    Long-CLIP's and LRSCLIP's: with both tables of text positions
  peft        a folder of PEFT with the LoRA of an adapted run alone, for a CLIPModel of its base; the other formats
              write LoRA as part of the kernels
  timm        a folder of the image tower, which timm loads as "local-dir:FOLDER"; torchgeo makes its models by timm

formats for programs without this package, which take pixels (uint8) and token ids and give unit embeddings:
  onnx        image.onnx and text.onnx for ONNX Runtime, of any batch size and text length; needs lrsclip_jax[onnx]
  jax         towers of jax.export for CPU, CUDA and TPU, of any batch size; needs lrsclip_jax[jax-export]
Next to the towers are the tokenizer, and model.json, which says what goes in and comes out.

examples:
  lrsclip convert export runs/b16 --format=hf --out=lrsclip_b16
  lrsclip convert export runs/b16 --format=longclip --out=lrsclip_b16.pt
  lrsclip convert export runs/b16 --format=open_clip --out=lrsclip_b16.safetensors
  lrsclip convert export runs/b16 --format=onnx --int8 --out=lrsclip_b16_int8
      weights in 8-bit integers for search on CPUs; `lrsclip convert compare` shows what they cost
  lrsclip convert export runs/b16 --format=hf --out=lrsclip_b16 --push=me/lrsclip_b16 --private --licence=apache-2.0

A folder of hf or open_clip has a model card, README.md: data sets, models that training started from, and scores are
those of the run.
"""

_COMPARE = """
Embeds the images and all texts of a data set, long and short, with SRC by lrsclip_jax and with EXPORT, in float32:

  a folder of transformers   by PyTorch where torch is installed, with the folder's own tokenizer and image processor
  a folder of onnx or jax    by ONNX Runtime, or by JAX without this package's model
  anything else              by lrsclip_jax, which says so: that shows what was written, not how PyTorch computes it

and prints the largest absolute difference of unit rows, and retrieval with both. Exit status 1 if that is above 1e-4:
float32 rounding alone stays below 1e-5.

SOURCE is a prepared data set, DIR or DIR:split, or "scenes:COUNT:SEED", procedural scenes that need no data.

examples:
  lrsclip convert compare runs/b16 --with=lrsclip_b16 --data=prepared/rsicd:test
  lrsclip convert compare ViT-B-16.pt --with=clip-vit-base-patch16 --data=scenes:100:1
"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.convert") -> int | None:
    """Does what the command line says; returns the exit status."""
    options = parser(prog).parse_args(arguments)
    return options.run(options)


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Brings checkpoints of PyTorch's families in and out, exactly.",
        _COMMANDS,
        usage="import|export|compare SRC …",
    )
    commands = parse.add_subparsers(prog=prog, metavar="import|export|compare", required=True)

    usage, summary = "SRC --workdir=DIR [options]", "makes a run folder of a checkpoint"
    add = add_command(commands, "import", _import, usage, summary, _IMPORT).add_argument
    add("source", metavar="SRC", nargs="?", type=expanded, help="weights of both towers")
    add("--image", metavar="SRC", type=expanded, help="weights of the image tower, with --text instead of SRC")
    add("--text", metavar="SRC", type=expanded, help="weights of the text tower")
    add("--workdir", metavar="DIR", required=True, type=expanded, help="the run folder: new or empty")
    add(
        "--context-length",
        type=whole_number(2, 2**16),
        metavar="N",
        help="tokens of a text: 77 positions are stretched to 248 and the like",
    )
    add(
        "--size",
        type=whole_number(1, 2**14),
        metavar="N",
        help="side of the images in pixels: the position table is resized",
    )
    add(
        "--embed-dim",
        type=whole_number(1, 2**16),
        metavar="N",
        help="dimensions in which two towers meet; other projections are initialised at random",
    )
    add("--seed", type=whole_number(0, 2**32 - 1), metavar="N", default=0, help="of what is drawn (%(default)s)")
    add(
        "--keep",
        type=whole_number(0, 2**16),
        metavar="N",
        help="first positions that stretching leaves as they are (20; 0: plain interpolation)",
    )
    add(
        "--ratio",
        type=whole_number(1, 2**16),
        metavar="N",
        help="positions that stretching makes of each later one (the fewest that reach --context-length)",
    )

    usage, summary = "SRC --format=NAME --out=PATH [options]", "writes a model for PyTorch, ONNX Runtime or JAX"
    add = add_command(commands, "export", _export, usage, summary, _EXPORT).add_argument
    add("source", metavar="SRC", type=expanded, help="the weights")
    formats = ("hf", "open_clip", "openai", "longclip", "peft", "timm", "onnx", "jax")
    add("--format", required=True, choices=formats, help="see below")
    add(
        "--out",
        metavar="PATH",
        required=True,
        type=expanded,
        help="a file .pt or .safetensors, or a folder",
    )
    add("--opset", type=whole_number(1), metavar="N", help="of --format=onnx: the version of its operators (17)")
    add("--int8", action="store_true", help="of --format=onnx: weights in 8-bit integers")
    add("--push", metavar="OWNER/NAME", help="publish the folder on the Hugging Face Hub, for which `hf auth login`")
    add("--private", action="store_true", help="make the repository of --push a private one")
    add("--licence", default="", metavar="ID", help="of the model, for its card, such as apache-2.0")

    usage, summary = "SRC --with=EXPORT --data=SOURCE [options]", "embeds a data set with a model and with its export"
    add = add_command(commands, "compare", _compare, usage, summary, _COMPARE).add_argument
    add("source", metavar="SRC", type=expanded, help="the weights")
    other = "what they were exported to or imported from"
    add("--with", dest="export", metavar="EXPORT", required=True, type=expanded, help=other)
    add("--data", metavar="SOURCE", required=True, type=expanded, help="captioned images")
    add("--count", type=whole_number(1), metavar="N", help="only the first N images and their texts")

    for command in commands.choices.values():
        group = command.add_argument_group("for a source whose files don't tell")
        group.add_argument("--model", metavar="NAME", help="a published model, such as RemoteCLIP-ViT-B-32")
        group.add_argument("--activation", metavar="NAME", help="of both towers: quick_gelu or gelu")
        group.add_argument(
            "--image-heads", type=whole_number(1, 2**16), metavar="N", help="attention heads of the image tower"
        )
        group.add_argument(
            "--text-heads", type=whole_number(1, 2**16), metavar="N", help="attention heads of the text tower"
        )
        group.add_argument("--base", metavar="SRC", type=expanded, help="the model that an adapter of PEFT belongs to")
    return parse


def _import(options: argparse.Namespace) -> None:
    towers = {"image": options.image, "text": options.text}
    if (options.source and any(towers.values())) or (not options.source and not all(towers.values())):
        raise InputError("import: give one SRC, or a source for each tower with --image=SRC and --text=SRC")
    if options.context_length is None and (options.keep, options.ratio) != (None, None):
        raise InputError("import: --keep and --ratio say how positions are stretched: give --context-length, too")
    # JAX takes seconds to import: only once the command is known to make sense.
    from lrsclip_jax.convert.import_checkpoint import Changes, import_checkpoint

    keep = 20 if options.keep is None else options.keep
    changes = Changes(options.context_length, options.size, options.embed_dim, options.seed, keep, options.ratio)
    sources = {tower: source or options.source for tower, source in towers.items()}
    import_checkpoint(sources, options.workdir, _hints(options), changes)


def _export(options: argparse.Namespace) -> None:
    from lrsclip_jax import fitting, weights
    from lrsclip_jax.convert import push
    from lrsclip_jax.convert.export import export, has_card
    from lrsclip_jax.convert.formats import peft_folder
    from lrsclip_jax.convert.formats.output_files import check_new
    from lrsclip_jax.convert.model_facts import facts_of
    from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING

    check_new(Path(options.out))
    if (options.push or options.licence) and not has_card(options.format, Path(options.out)):
        raise InputError("--push and --licence need --format=hf, or open_clip with --out=FOLDER")
    of_onnx = {"opset": options.opset} if options.opset else {}
    of_onnx |= {"int8": True} if options.int8 else {}
    if of_onnx and options.format != "onnx":
        raise InputError(f"--{next(iter(of_onnx))} is of --format=onnx, not of --format={options.format}")
    if options.private and not options.push:
        raise InputError("--private is of --push: give --push=OWNER/NAME, too")
    if options.push:
        push.check_repository(options.push, options.private)
    found = weights.read(options.source, _hints(options))
    fitting.check_whole(found, options.source)
    if options.format == "peft":
        print("\n".join(peft_folder.write(found, Path(options.out), options.source)))
        return
    found = weights.merged(found, options.source)
    model = weights.model_of(found)
    preprocessing = found.preprocessing or CLIP_PREPROCESSING
    native = preprocessing.patch is not None
    preprocessing = preprocessing.squares()  # no format knows other shapes
    to = {"format": options.format, "out": options.out, "source": options.source} | of_onnx
    facts = replace(facts_of(options.source, options.licence, options.push or ""), native=native)
    tokenizer = weights.tokenizer_of(found, options.source)
    print("\n".join(export(model, found.params, preprocessing, **to, facts=facts, tokenizer=tokenizer)), flush=True)
    if native:
        print(f"note: {options.source} takes images of any shape; there they become squares of {preprocessing.size}")
    if options.push:
        print(f"published: {push.push(Path(options.out), options.push, options.private)}")


def _compare(options: argparse.Namespace) -> int:
    from lrsclip_jax.convert.compare import compare

    return compare(options.source, options.export, options.data, _hints(options), options.count)


def _hints(options: argparse.Namespace) -> Any:
    from lrsclip_jax.pytorch.contract import Hints

    return Hints(options.model, options.activation, options.image_heads, options.text_heads, options.base)


if __name__ == "__main__":
    cli(main)
