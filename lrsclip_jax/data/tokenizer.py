"""CLIP's byte-pair tokenizer, with ids equal to OpenAI's, at any context length.

The merges ship with the package; the Rust `tokenizers` library (the engine of `transformers`) applies them. Texts
are kept as untruncated id lists as long as possible: `fit` cuts and pads one to a static length at the very end.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import ftfy
import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

# OpenAI reads this many merges of the file (49152 entries - 256 byte symbols, twice - 2 special tokens).
_NUM_MERGES = 49152 - 256 - 2
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer with its special ids; `hash` names the vocabulary in prepared records and checkpoints."""

    name: str
    hash: str
    vocab_size: int
    start: int
    end: int
    pad: int
    engine: tokenizers.Tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the untruncated ids of each text, with the start and the end token."""
        encodings = self.engine.encode_batch_fast([_clean(text) for text in texts], add_special_tokens=False)
        return [[self.start, *encoding.ids, self.end] for encoding in encodings]


def fit(ids: Sequence[int], length: int, end: int, pad: int = 0) -> np.ndarray:
    """Returns `ids` as int32 [length]: cut so that the last token is `end`, or padded with `pad`.

    OpenAI's `tokenize(truncate=True)`: tokens[:length], tokens[length - 1] = end-of-text.
    """
    row = np.full(length, pad, np.int32)
    kept = ids[:length]
    row[: len(kept)] = kept
    if len(ids) > length:
        row[-1] = end
    return row


@functools.cache
def clip_tokenizer() -> Tokenizer:
    """Returns OpenAI CLIP's tokenizer: 49,408 ids, start 49406, end 49407, padded with 0."""
    data = resources.files(__package__).joinpath("vocabulary/bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(data).decode("utf-8").split("\n")[1 : _NUM_MERGES + 1]
    merges = [tuple(line.split()) for line in lines]
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
        engine=engine,
    )


def _clean(text: str) -> str:
    """OpenAI's `basic_clean`: mends broken encodings and HTML entities (ids differ from theirs without it)."""
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins of the bytes in vocabulary order (GPT-2's table: printable bytes first)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
