"""CLIP's byte pairs and BERT's word pieces, with ids equal to OpenAI's and Google's, at any context length.

The vocabularies ship with the package, or come with a model (`tokenizer_file`); the Rust `tokenizers` library (the
engine of `transformers`) applies them.
Texts are kept as untruncated id lists as long as possible: `fit` cuts and pads one to a static length at the very
end. No text can spell a special token: "[SEP]" in a caption is a bracket, a word and a bracket.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import ftfy
import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from lrsclip_jax.errors import InputError

# OpenAI reads this many merges of the file (49152 entries - 256 byte symbols, twice - 2 special tokens).
_NUM_MERGES = 49152 - 256 - 2
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer with its special ids; `hash` names the vocabulary in prepared records and checkpoints.

    `clean` is what the reference does to a text before its engine sees it. `start` is None where texts have no start
    token. `file` is the tokenizer.json that it was read from, empty for a tokenizer that ships with the package.
    """

    name: str
    hash: str
    vocab_size: int
    start: int | None
    end: int
    pad: int
    clean: Callable[[str], str]
    engine: tokenizers.Tokenizer
    file: bytes = b""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the untruncated ids of each text, with the start token, where there is one, and the end token."""
        encodings = self.engine.encode_batch_fast([self.clean(text) for text in texts], add_special_tokens=False)
        return [self.framed(encoding.ids) for encoding in encodings]

    def framed(self, ids: Sequence[int]) -> list[int]:
        """Returns ids between the start token, where there is one, and the end token."""
        return [*ids, self.end] if self.start is None else [self.start, *ids, self.end]


def fit(ids: Sequence[int], length: int, end: int, pad: int = 0) -> np.ndarray:
    """Returns `ids` as int32 [length]: cut so that the last token is `end`, or padded with `pad`.

    OpenAI's `tokenize(truncate=True)`: tokens[:length], tokens[length - 1] = end-of-text.
    """
    kept = cut(ids, length, end)
    row = np.full(length, pad, np.int32)
    row[: len(kept)] = kept
    return row


def cut(ids: Sequence[int], length: int, end: int) -> Sequence[int]:
    """Returns at most `length` of `ids`; where some are left out the last one is `end`."""
    return ids if len(ids) <= length else [*ids[: length - 1], end]


@functools.cache
def clip_tokenizer() -> Tokenizer:
    """Returns OpenAI CLIP's tokenizer: 49,408 ids, start 49406, end 49407, padded with 0."""
    data = _shipped("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(data).decode("utf-8").split("\n")[1 : _NUM_MERGES + 1]
    merges = [(left, right) for left, right in map(str.split, lines)]
    symbols = _byte_symbols()
    words = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(merge) for merge in merges]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    engine = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    )
    engine.normalizer = normalizers.Lowercase()
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return Tokenizer(
        name="clip",
        hash=hashlib.sha256(b"clip-bpe\n" + data).hexdigest()[:12],
        vocab_size=len(vocabulary),
        start=vocabulary["<|startoftext|>"],
        end=vocabulary["<|endoftext|>"],
        pad=0,
        clean=_mended,
        engine=engine,
    )


@functools.cache
def bert_tokenizer() -> Tokenizer:
    """Returns uncased BERT's tokenizer: 30,522 ids, start [CLS] 101, end [SEP] 102, padded with [PAD] 0."""
    data = gzip.decompress(_shipped("bert_base_uncased_vocab.txt.gz"))
    vocabulary = {piece: index for index, piece in enumerate(data.decode("utf-8").splitlines())}
    # A word of more than 100 characters is unknown, as in Google's code.
    pieces = models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
    engine = tokenizers.Tokenizer(pieces)
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer(
        name="bert",
        hash=hashlib.sha256(b"bert-wordpiece\n" + data).hexdigest()[:12],
        vocab_size=len(vocabulary),
        start=vocabulary["[CLS]"],
        end=vocabulary["[SEP]"],
        pad=vocabulary["[PAD]"],
        clean=without_surrogates,
        engine=engine,
    )


def pieces(tokenizer: Tokenizer) -> list[str]:
    """Returns the piece of text that each id stands for; of CLIP's, one with which a word ends is followed by a blank.

    BERT's are as in its vocabulary ("##s" continues a word).
    """
    tokens = [tokenizer.engine.id_to_token(index) or "" for index in range(tokenizer.vocab_size)]
    if tokenizer.name != "clip":
        return tokens
    bytes_of = {symbol: byte for byte, symbol in zip(_symbol_bytes(), _byte_symbols(), strict=True)}

    def text(token: str) -> str:
        word, end, _ = token.partition("</w>")
        return bytes(bytes_of[symbol] for symbol in word).decode("utf-8", "replace") + " " * bool(end)

    return [token if token.startswith("<|") else text(token) for token in tokens]


_TOKENIZERS = {"transformer": clip_tokenizer, "bert": bert_tokenizer}


def tokenizer_for(kind: str) -> Tokenizer:
    """Returns the tokenizer of a kind of text tower that ships: "transformer" (CLIP's) or "bert"; else InputError."""
    if kind not in _TOKENIZERS:
        raise InputError(f"no tokenizer for a text tower of kind {kind!r}; known: {', '.join(_TOKENIZERS)}")
    return _TOKENIZERS[kind]()


def _shipped(name: str) -> bytes:
    return resources.files(__package__).joinpath("vocabulary", name).read_bytes()


def _mended(text: str) -> str:
    """OpenAI's `basic_clean`: mends broken encodings and HTML entities (ids differ from theirs without it)."""
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def without_surrogates(text: str) -> str:
    """Drops halves of surrogate pairs, as Google's `_clean_text` does; the rest of it is in the normaliser."""
    return text.encode("utf-8", "ignore").decode("utf-8")


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins of the bytes in vocabulary order (GPT-2's table: printable bytes first)."""
    return [chr(byte) for byte in _PRINTABLE] + [chr(256 + index) for index in range(256 - len(_PRINTABLE))]


def _symbol_bytes() -> list[int]:
    """The bytes for which `_byte_symbols` stand."""
    return [*_PRINTABLE, *(byte for byte in range(256) if byte not in _PRINTABLE)]


_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
