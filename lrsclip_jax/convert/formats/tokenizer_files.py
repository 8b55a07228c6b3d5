"""The tokenizer as files that transformers reads: `AutoTokenizer.from_pretrained(folder)` gives our ids.

The tokens after a text's end differ: transformers fills up CLIP's rows with the end token instead of 0, which no tower
sees. Of the mending of texts that comes before CLIP's byte pairs, these files can only say that curly quotes become
straight. HTML entities, ligatures, full-width letters, control characters and broken encodings stay as they are there:
such texts have our ids after `lrsclip_jax.data.tokenizer.clip_tokenizer().clean`.

SigLIP's tokenizers are the files that came with the model, with what its own code does to a text first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ftfy.chardata
import tokenizers
from tokenizers import Regex, decoders, normalizers, processors

from lrsclip_jax.convert.formats.output_files import write_json
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.tokenizer import Tokenizer

_CLIP_ENDS = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(tokenizer: Tokenizer, context_length: int, folder: Path) -> None:
    """Writes a tokenizer into `folder`.

    `tokenizer(texts, padding=True, truncation=True)` then cuts to `context_length`, the last token being the end token.
    SigLIP's texts need `padding="max_length"`.
    """
    write = {"clip": _write_clip, "bert": _write_bert}.get(tokenizer.name, _write_siglip)
    # "[SEP]" in a text is a bracket, a word and a bracket, as for our own tokenizer.
    settings = {"model_max_length": context_length, "split_special_tokens": True, "padding_side": "right"}
    write(tokenizer, folder, settings)


def serving_tokenizer(tokenizer: Tokenizer, context_length: int) -> tokenizers.Tokenizer:
    """Returns a tokenizer for the library tokenizers alone; a text tower takes its rows as they are.

    They are cut to `context_length`, the last token being the end token, and padded to the longest of a batch, or, for
    SigLIP's tower, which sees padding, to `context_length`. A text that holds the name of a special token is text.
    """
    engine = {"clip": _clip_engine, "bert": _bert_engine}.get(tokenizer.name, _siglip_engine)(tokenizer)
    content = json.loads(engine.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["special"]]
    engine = tokenizers.Tokenizer.from_str(json.dumps(content))
    engine.enable_truncation(context_length)
    engine.enable_padding(
        length=context_length if tokenizer.name in tokenizer_file.NAMES else None,
        pad_id=tokenizer.pad,
        pad_token=engine.id_to_token(tokenizer.pad),
    )
    return engine


def _clip_engine(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    engine = _engine(tokenizer, "{} $A {}".format(*_CLIP_ENDS))
    # ftfy's own expressions. It composes characters, too.
    straight = [
        normalizers.Replace(Regex(expression.pattern), quote)
        for expression, quote in ((ftfy.chardata.SINGLE_QUOTE_RE, "'"), (ftfy.chardata.DOUBLE_QUOTE_RE, '"'))
    ]
    engine.normalizer = normalizers.Sequence([*straight, normalizers.NFC(), engine.normalizer])
    engine.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 0, 1)])
    return engine


def _bert_engine(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    return _engine(tokenizer, "[CLS] $A [SEP]")


def _siglip_engine(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    engine = _engine(tokenizer, f"$A {tokenizer.engine.id_to_token(tokenizer.end)}")
    cased, odd = tokenizer.name == "siglip_cased", " A.b  ▁C!"
    theirs = engine.normalizer or normalizers.Sequence([])
    if tokenizer.name != "siglip2" and theirs.normalize_str(odd) != theirs.normalize_str(tokenizer.clean(odd)):
        engine.normalizer = normalizers.Sequence(
            [
                *([] if cased else [normalizers.Lowercase()]),
                normalizers.Replace("▁", " "),
                normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(),
                theirs,
            ]
        )
    return engine


def _write_clip(tokenizer: Tokenizer, folder: Path, settings: dict[str, Any]) -> None:
    engine, (start, end) = _clip_engine(tokenizer), _CLIP_ENDS
    model = json.loads(engine.to_str())["model"]
    write_json(folder / "vocab.json", model["vocab"])
    merges = "\n".join(" ".join(merge) for merge in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    # The class that takes tokenizer.json at its word: CLIPTokenizer would leave its normaliser out.
    _write(folder, engine, settings, "PreTrainedTokenizerFast", bos=start, eos=end, pad=end, unk=end)


def _write_bert(tokenizer: Tokenizer, folder: Path, settings: dict[str, Any]) -> None:
    engine = _bert_engine(tokenizer)
    vocabulary = engine.get_vocab()
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    names = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
    _write(folder, engine, settings | {"do_lower_case": True}, "BertTokenizer", **names)


def _write_siglip(tokenizer: Tokenizer, folder: Path, settings: dict[str, Any]) -> None:
    end, pad = (str(tokenizer.engine.id_to_token(index)) for index in (tokenizer.end, tokenizer.pad))
    # Without a mask of attention: the tower sees the padding.
    settings = settings | {"model_input_names": ["input_ids"], "do_lower_case": tokenizer.name != "siglip_cased"}
    _write(folder, _siglip_engine(tokenizer), settings, "PreTrainedTokenizerFast", eos=end, pad=pad, unk="<unk>")


def _engine(tokenizer: Tokenizer, template: str) -> tokenizers.Tokenizer:
    """A copy of our engine that adds the special tokens of a template, such as "[CLS] $A [SEP]", itself."""
    engine = tokenizers.Tokenizer.from_str(tokenizer.engine.to_str())
    ids = [(token, engine.token_to_id(token)) for token in template.split() if token != "$A"]
    engine.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return engine


def _write(
    folder: Path, engine: tokenizers.Tokenizer, settings: dict[str, Any], tokenizer_class: str, **tokens: str
) -> None:
    engine.add_special_tokens(sorted(set(tokens.values()), key=engine.get_vocab().__getitem__))
    (folder / "tokenizer.json").write_text(engine.to_str(pretty=True), encoding="utf-8")
    named = {f"{name}_token": token for name, token in tokens.items()}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": tokenizer_class} | settings | named)
