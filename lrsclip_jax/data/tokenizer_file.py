"""The tokenizers that come with a model, in its tokenizer.json: those of SigLIP, SigLIP 2 and OpenVision.

SigLIP's is a SentencePiece model (Unigram) of texts without punctuation, and but for its multilingual model in lower
case, as big_vision's `canonicalize_text` and transformers' SiglipTokenizer make them. SigLIP 2's is Gemma's (BPE), of
texts in lower case, as transformers' Siglip2Tokenizer has it. A text has an end token, and no start token.

OpenVision's has uncased BERT's word pieces and start token. Its texts end with padding: open_clip's `strip_sep_token`
puts that in the place of [SEP].
"""

from __future__ import annotations

import functools
import hashlib
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import tokenizers
from tokenizers import models, normalizers

from eval.reading import read_json
from lrsclip_jax.data.tokenizer import Tokenizer, bert_tokenizer, without_surrogates
from lrsclip_jax.errors import InputError

FILE = "tokenizer.json"
NAMES = ("siglip", "siglip_cased", "siglip2", "openvision")  # of the tokenizers that such files hold

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNDERLINE = "▁"  # SentencePiece's blank
# Pieces that some SentencePiece models have at the end of their vocabulary, beyond the table of the text tower.
_EXTRA = re.compile(rf"{_UNDERLINE}?<extra_id_\d+>")
_LARGEST = 1 << 27  # bytes of the file; Gemma's has 34 MB


class _Settings(TypedDict, total=False):
    """What is read of a tokenizer_config.json."""

    do_lower_case: bool


def in_folder(folder: Path) -> Tokenizer | None:
    """Returns the tokenizer of a model's folder; None without a tokenizer.json. InputError as of `read`.

    OpenVision's needs no file: its word pieces ship with the package.
    """
    path, settings = folder / FILE, folder / "tokenizer_config.json"
    if not path.is_file():
        return openvision() if _names_bert(folder / "open_clip_config.json") else None
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes, a tokenizer has at most {_LARGEST:,}")
    said: _Settings = read_json(settings, _Settings) if settings.is_file() else {}
    return read(path.read_bytes(), str(path), cased=said.get("do_lower_case") is False)


def read(data: bytes, where: str, cased: bool = False) -> Tokenizer:
    """Returns the tokenizer that a tokenizer.json holds.

    Args:
      data: the file.
      where: its name, for messages.
      cased: whether a SentencePiece model keeps the case of letters (`do_lower_case` is false).

    Raises:
      InputError: no such file of the library `tokenizers`, or neither SigLIP's nor SigLIP 2's tokenizer.
    """
    try:
        return _read(data, cased)
    except InputError as error:
        raise InputError(f"{where} {error}") from None


def openvision() -> Tokenizer:
    """Returns OpenVision's tokenizer, of the word pieces that ship with the package."""
    return read(bert_tokenizer().engine.to_str().encode(), "BERT's tokenizer")


class _TextCfg(TypedDict, total=False):
    hf_tokenizer_name: str | None


class _ModelCfg(TypedDict, total=False):
    text_cfg: _TextCfg


class _OpenClip(_ModelCfg, total=False):
    """What is read of an open_clip_config.json, which may be its model_cfg alone."""

    model_cfg: _ModelCfg


def _names_bert(path: Path) -> bool:
    said: _OpenClip = read_json(path, _OpenClip) if path.is_file() else {}
    return said.get("model_cfg", said).get("text_cfg", {}).get("hf_tokenizer_name") == "bert-base-uncased"


@functools.lru_cache(maxsize=1)  # a source is asked for its weights and for its tokenizer
def _read(data: bytes, cased: bool) -> Tokenizer:
    try:
        engine = tokenizers.Tokenizer.from_buffer(data)
        engine.encode("\U0010ffff")  # a character that no vocabulary has: without an unknown token it is an error
    except Exception as error:  # the library raises Exception itself
        raise InputError(f"is no file of the library tokenizers ({' '.join(str(error).split()):.200})") from None
    vocabulary, pieces = engine.get_vocab(), engine.get_vocab(with_added_tokens=False)
    if isinstance(engine.model, models.Unigram) and "</s>" in vocabulary:
        name, end, pad = "siglip_cased" if cased else "siglip", "</s>", "</s>"
    elif isinstance(engine.model, models.BPE) and {"<eos>", "<pad>"} <= vocabulary.keys():
        name, end, pad = "siglip2", "<eos>", "<pad>"
    elif isinstance(engine.model, models.WordPiece) and {"[CLS]", "[PAD]"} <= vocabulary.keys():
        name, end, pad = "openvision", "[PAD]", "[PAD]"
    else:
        kind = type(engine.model).__name__
        raise InputError(
            f"is another model's tokenizer ({kind}): SigLIP's is a Unigram with </s>, SigLIP 2's a BPE with <eos> and "
            "<pad>, OpenVision's a WordPiece with [CLS] and [PAD]"
        )
    engine.no_truncation()
    engine.no_padding()
    engine.encode_special_tokens = True  # "<eos>" in a text is a text
    if name == "siglip2":
        engine.normalizer = lowered(engine.normalizer)
    clean = {"siglip": canonical, "siglip_cased": without_punctuation}.get(name, without_surrogates)
    spelled = "\n".join(sorted(pieces, key=pieces.__getitem__)).encode("utf-8", "surrogatepass")
    return Tokenizer(
        name=name,
        hash=hashlib.sha256(f"{name}\n".encode() + spelled).hexdigest()[:12],
        vocab_size=1 + max((index for piece, index in pieces.items() if not _EXTRA.fullmatch(piece)), default=0),
        start=vocabulary["[CLS]"] if name == "openvision" else None,
        end=vocabulary[end],
        pad=vocabulary[pad],
        clean=clean,
        engine=engine,
        file=data,
    )


def check_fits(tokenizer: Tokenizer, text: Mapping[str, Any], where: str) -> None:
    """Raises InputError unless a tokenizer is that of a text tower with the fields `text`; `where` names the former."""
    rows = text["vocab_size"]
    # OpenVision's table has rows that no word piece has.
    if tokenizer.vocab_size > rows or (tokenizer.vocab_size != rows and tokenizer.name != "openvision"):
        raise InputError(
            f"{where} has {tokenizer.vocab_size:,} ids and the text tower {rows:,}: another model's tokenizer"
        )
    if tokenizer.pad != text["pad_token"]:
        raise InputError(
            f"{where} fills up texts with id {tokenizer.pad} and the text tower with {text['pad_token']}: another "
            "model's tokenizer"
        )


def canonical(text: str) -> str:
    """Returns a text as SigLIP was trained on: lower case, without ASCII punctuation, single blanks."""
    return without_punctuation(text.lower())


def without_punctuation(text: str) -> str:
    """Returns a text without ASCII punctuation, with single blanks."""
    text = without_surrogates(text).replace(_UNDERLINE, " ").translate(_NO_PUNCTUATION)
    return re.sub(r"\s+", " ", text).strip()


def lowered(normaliser: normalizers.Normalizer | None) -> normalizers.Normalizer:
    """Returns a normaliser that begins with lower case."""
    if normaliser is not None and normaliser.normalize_str("A") == normaliser.normalize_str("a"):
        return normaliser
    return normalizers.Sequence([normalizers.Lowercase(), *([] if normaliser is None else [normaliser])])
