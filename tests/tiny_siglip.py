"""SigLIPs of a few thousand numbers and their tokenizers, as transformers keeps them."""

import json
from dataclasses import replace
from pathlib import Path

import tokenizers
from tiny_clip import parameters
from tokenizers import models, normalizers, pre_tokenizers, trainers

from lrsclip_jax.convert.export import export
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.preprocessing import SIGLIP_PREPROCESSING
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import CLIP

TEXTS = [
    "an aerial photo of a harbour with ships and boats",
    "a satellite image of a residential area with many houses, trees and a road",
    "there are 3 airplanes at the airport next to a long runway",
    "dense forest; a river runs through it from north to south",
    "storage tanks, farmland, a football field and a railway station",
]


def write_tokenizer(folder: Path, kind: str = "siglip", texts: list[str] = TEXTS) -> int:
    """Writes a tokenizer.json like SigLIP's ("siglip") or SigLIP 2's, and returns the number of its ids."""
    if kind == "siglip":
        engine = tokenizers.Tokenizer(models.Unigram())
        engine.normalizer = normalizers.NFKC()
        engine.pre_tokenizer = pre_tokenizers.Metaspace()
        special = ["<pad>", "</s>", "<unk>"]
        pieces = {"special_tokens": special, "unk_token": "<unk>"}
        trainer = trainers.UnigramTrainer(vocab_size=120, show_progress=False, **pieces)
    else:
        engine = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        engine.normalizer = normalizers.Replace(" ", "▁")
        engine.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    engine.train_from_iterator(texts, trainer)
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(engine.to_str(), encoding="utf-8")
    return engine.get_vocab_size()


def model(vocab_size: int, pad_token: int = 1, context_length: int = 16) -> CLIP:
    """A SigLIP of 32-pixel images in 16 patches."""
    shared = {"width": 32, "layers": 2, "heads": 2, "embed_dim": 32, "mlp_width": 80}
    text = {"vocab_size": vocab_size, "pad_token": pad_token, "context_length": context_length}
    return zoo.create("siglip_vitb16", shared | {"size": 32, "patch": 8}, shared | text, logit_bias=-9.5)


def siglip_folder(folder: Path, kind: str = "siglip", seed: int = 0) -> dict:
    """Writes a SiglipModel folder of transformers, and returns its parameters in our layout."""
    words = folder.parent / f"{folder.name}_words"
    of = model(write_tokenizer(words, kind), pad_token=1 if kind == "siglip" else 0)
    params = parameters(of, seed)
    tokenizer = tokenizer_file.in_folder(words)
    preprocessing = replace(SIGLIP_PREPROCESSING, size=32)
    export(of, params, preprocessing, format="hf", out=folder, source="a test", tokenizer=tokenizer)
    return params


def edit(path: Path, **values: object) -> None:
    """Changes entries of a JSON file; None removes one."""
    new = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in new.items() if value is not None}))
