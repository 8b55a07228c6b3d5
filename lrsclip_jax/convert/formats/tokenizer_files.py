"""The tokenizer as files that transformers reads: `AutoTokenizer.from_pretrained(folder)` gives our ids.

The tokens after a text's end differ: transformers fills up CLIP's rows with the end token instead of 0, which no tower
sees. Of the mending of texts that comes before CLIP's byte pairs, these files can only say that curly quotes become
straight. HTML entities, ligatures, full-width letters, control characters and broken encodings stay as they are there:
such texts have our ids after `lrsclip_jax.data.tokenizer.clip_tokenizer().clean`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ftfy.chardata
import tokenizers
from tokenizers import decoders, normalizers, processors

from lrsclip_jax.convert.formats.output_files import write_json
from lrsclip_jax.data.tokenizer import tokenizer_for


def write_tokenizer(kind: str, context_length: int, folder: Path) -> None:
    """Writes the tokenizer of a text tower of a kind, "transformer" (CLIP's) or "bert", into `folder`.

    `tokenizer(texts, padding=True, truncation=True)` then cuts to `context_length`, the last token being the end token.
    """
    write = {"transformer": _write_clip, "bert": _write_bert}[kind]
    # "[SEP]" in a text is a bracket, a word and a bracket, as for our own tokenizer.
    write(folder, {"model_max_length": context_length, "split_special_tokens": True, "padding_side": "right"})


def _write_clip(folder: Path, settings: dict[str, Any]) -> None:
    start, end = "<|startoftext|>", "<|endoftext|>"
    engine = _engine("transformer", start, end)
    # ftfy's own expressions. It composes characters, too.
    straight = [
        normalizers.Replace(tokenizers.Regex(expression.pattern), quote)
        for expression, quote in ((ftfy.chardata.SINGLE_QUOTE_RE, "'"), (ftfy.chardata.DOUBLE_QUOTE_RE, '"'))
    ]
    engine.normalizer = normalizers.Sequence([*straight, normalizers.NFC(), engine.normalizer])
    engine.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 0, 1)])
    model = json.loads(engine.to_str())["model"]
    write_json(folder / "vocab.json", model["vocab"])
    merges = "\n".join(" ".join(merge) for merge in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    # The class that takes tokenizer.json at its word: CLIPTokenizer would leave its normaliser out.
    _write(folder, engine, settings, "PreTrainedTokenizerFast", bos=start, eos=end, pad=end, unk=end)


def _write_bert(folder: Path, settings: dict[str, Any]) -> None:
    engine = _engine("bert", "[CLS]", "[SEP]")
    vocabulary = engine.get_vocab()
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    names = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
    _write(folder, engine, settings | {"do_lower_case": True}, "BertTokenizer", **names)


def _engine(kind: str, start: str, end: str) -> tokenizers.Tokenizer:
    """A copy of our engine that adds the start and the end token itself."""
    ours = tokenizer_for(kind)
    engine = tokenizers.Tokenizer.from_str(ours.engine.to_str())
    ids = [(start, ours.start), (end, ours.end)]
    engine.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ids)
    return engine


def _write(
    folder: Path, engine: tokenizers.Tokenizer, settings: dict[str, Any], tokenizer_class: str, **tokens: str
) -> None:
    engine.add_special_tokens(sorted(set(tokens.values()), key=engine.get_vocab().__getitem__))
    (folder / "tokenizer.json").write_text(engine.to_str(pretty=True), encoding="utf-8")
    named = {f"{name}_token": token for name, token in tokens.items()}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": tokenizer_class} | settings | named)
