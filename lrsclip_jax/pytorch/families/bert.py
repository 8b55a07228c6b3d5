"""BERT under the key names of Google's models and of Hugging Face."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypedDict

from eval.reading import read_json, read_text
from lrsclip_jax.data.tokenizer import bert_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.contract import Hints, ReadCheckpoint
from lrsclip_jax.pytorch.families import tower_fields
from lrsclip_jax.pytorch.families.tower_fields import text_sizes
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import Leaf

FAMILY = "BERT"

# Relatives with other layers, positions or tokenizers, by keys that they alone have.
_RELATIVES = {
    "DistilBERT": re.compile(r"(distilbert\.)?transformer\.layer\.\d+\.attention\.q_lin\."),
    "XLM": re.compile(r"(transformer\.)?attentions\.\d+\.q_lin\."),
    "ALBERT": re.compile(r"(albert\.)?encoder\.albert_layer_groups\."),
    "RoBERTa": re.compile(r"(xlm_)?roberta\."),
    "ELECTRA": re.compile(r"electra\.|embeddings_project\."),
    "MPNet": re.compile(r"(mpnet\.)?encoder\.relative_attention_bias\."),
    "DeBERTa": re.compile(r"(deberta\.)?encoder\.rel_embeddings\."),
}
_WORDS = re.compile(r"(bert\.)?embeddings\.word_embeddings\.weight")
# Heads of pre-training and of tasks, and what is only the numbers 0, 1, 2, …
_UNUSED = re.compile(r"(cls|classifier|qa_outputs)\..*|.*embeddings\.position_ids")
_OTHER_VOCABULARIES = {28996: "cased BERT's", 21128: "Chinese BERT's", 119547: "multilingual BERT's"}


def recognises(tensors: Tensors) -> bool:
    """Whether these are BERT's tensors, or those of a relative, which `read` then refuses by name."""
    return any(pattern.match(key) for pattern in (_WORDS, *_RELATIVES.values()) for key in tensors)


def read(tensors: Tensors, config: dict[str, Any] | None, hints: Hints, folder: Path) -> ReadCheckpoint:
    """Returns BERT's text tower, without a projection, with all positions of its table.

    A text's features come from the pooler where the file has one, else from the [CLS] token.

    Args:
      tensors: of a file that `recognises` accepts; the heads of its training are not used.
      config: transformers' config.json; without one, GELU and eps 1e-12 are BERT's, and a hint must say the heads.
      hints: what the user says.
      folder: where the file lies, and perhaps a vocab.txt or tokenizer.json, which must hold the vocabulary shipped
        here.

    Raises:
      InputError: a relative of BERT (named), another vocabulary, missing, unexpected or misshapen tensors, heads that
        nothing tells.
    """
    tensors = with_current_names(tensors).renamed(lambda key: key.removeprefix("bert."))
    text, reasons = text_fields(tensors, config, hints)
    check_vocabulary(folder)
    leaves = table(text["pool"])
    shapes = layout.shapes(zoo.create("tiny", text=text))
    unused = tuple(sorted(key for key in tensors if _UNUSED.fullmatch(key)))
    layout.check(leaves, shapes, tensors, "a BERT checkpoint", unused)
    return ReadCheckpoint(
        family=FAMILY,
        params=layout.to_ours(leaves, shapes, tensors),
        text=text,
        reasons=reasons,
        unused=unused,
    )


def table(pool: str = "pooler", prefix: str = "") -> list[Leaf]:
    """Returns where the parameters of a text tower but its projection stand in transformers' BertModel.

    Args:
      pool: the tower's; only "pooler" has a pooler.
      prefix: stands before every key.
    """
    embeddings, blocks, layer = f"{prefix}embeddings", "text/blocks", f"{prefix}encoder.layer.{{}}"
    return [
        Leaf("text/token_embedding", (f"{embeddings}.word_embeddings.weight",)),
        Leaf("text/position_embedding", (f"{embeddings}.position_embeddings.weight",)),
        Leaf("text/type_embedding", (f"{embeddings}.token_type_embeddings.weight",)),
        *layout.norm("text/embedding_norm", f"{embeddings}.LayerNorm"),
        *layout.attention(
            f"{blocks}/attention",
            [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")],
            f"{layer}.attention.output.dense",
        ),
        *layout.norm(f"{blocks}/norm1", f"{layer}.attention.output.LayerNorm"),
        *layout.dense(f"{blocks}/mlp/fc1", f"{layer}.intermediate.dense"),
        *layout.dense(f"{blocks}/mlp/fc2", f"{layer}.output.dense"),
        *layout.norm(f"{blocks}/norm2", f"{layer}.output.LayerNorm"),
        *(layout.dense("text/pooler", f"{prefix}pooler.dense") if pool == "pooler" else []),
    ]


def with_current_names(tensors: Tensors) -> Tensors:
    """Returns the tensors under torch's names of layer norms; files made of TensorFlow's have gamma and beta."""
    names = {"gamma": "weight", "beta": "bias"}
    return tensors.renamed(lambda key: re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda it: names[it[1]], key))


def text_fields(
    tensors: Tensors, config: dict[str, Any] | None, hints: Hints, prefix: str = ""
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the fields of `models.bert.Bert` but embed_dim, "kind", and where they come from.

    Args:
      tensors: with current names.
      config: of the tower, or None.
      hints: what the user says.
      prefix: stands before every key.

    Raises:
      InputError: see `read`.
    """
    config = tower_fields.checked(tensors, config or {})
    _refuse_relatives(tensors, config, prefix)
    pool = "pooler" if f"{prefix}pooler.dense.weight" in tensors else "cls"
    sizes = text_sizes(table(pool, prefix), tensors)
    _check_size(tensors, sizes["vocab_size"])
    # In a config that is there, an absent key has transformers' default.
    source = tower_fields.CONFIG if config else "BERT's"
    said = config.get("num_attention_heads", 12 if config else None)
    known = "BERT-base has 12, BERT-large 16, MiniLM 12"
    heads, heads_reason = tower_fields.heads(tensors, "text", sizes["width"], said, source, hints.text_heads, known)
    activation, _ = tower_fields.activation(tensors, config.get("hidden_act", "gelu"), source, hints.activation)
    fields = {"heads": heads, "activation": activation, "norm_eps": config.get("layer_norm_eps", 1e-12), "pool": pool}
    reasons = {
        "text.heads": heads_reason,
        "text.activation": source,
        "text.norm_eps": source,
        "text.pool": "the file has a pooler" if pool == "pooler" else "the file has no pooler",
    }
    return {"kind": "bert"} | sizes | fields, reasons


def check_vocabulary(folder: Path) -> None:
    """Raises InputError if a vocab.txt or tokenizer.json in a folder holds another vocabulary than the one shipped."""
    ours = bert_tokenizer().engine.get_vocab()
    for name, read_vocabulary in (("vocab.txt", _of_lines), ("tokenizer.json", _of_tokenizer)):
        path = folder / name
        if not path.exists():
            continue
        theirs = read_vocabulary(path)
        if theirs != ours:
            token, index = min(theirs.items() ^ ours.items(), key=lambda item: item[1])
            raise InputError(
                f"{path} is another vocabulary than uncased English BERT's, the one supported: "
                f"they differ from token {index} on ({token!r})"
            )


class _TokenizerModel(TypedDict):
    vocab: dict[str, int]


class _TokenizerFile(TypedDict):
    """What is read of a tokenizer.json."""

    model: _TokenizerModel


def _of_lines(path: Path) -> dict[str, int]:
    return {token: index for index, token in enumerate(read_text(path).removesuffix("\n").split("\n"))}


def _of_tokenizer(path: Path) -> dict[str, int]:
    try:
        return read_json(path, _TokenizerFile)["model"]["vocab"]
    except InputError as error:
        raise InputError(f"{error}; a BERT vocabulary is expected") from None


def _refuse_relatives(tensors: Tensors, config: dict[str, Any], prefix: str) -> None:
    relatives = [name for name, keys in _RELATIVES.items() if any(keys.match(key, len(prefix)) for key in tensors)]
    types = f"{prefix}embeddings.token_type_embeddings.weight"
    if types in tensors and tensors.shape(types)[:1] == (1,):
        relatives.append("RoBERTa")
    if config.get("model_type", "bert") != "bert":
        relatives.append(config["model_type"])
    if relatives:
        name = " ".join(relatives[0].split())[:80]
        raise InputError(f"{tensors.name} is a {name}, which can't be converted: of its family, BERT alone can")
    for key, supported in (("position_embedding_type", "absolute"), ("is_decoder", False)):
        if config.get(key, supported) != supported:
            raise InputError(f"{tensors.name}: config.json has {key} {config[key]!r:.80}, supported is {supported}")


def _check_size(tensors: Tensors, tokens: int) -> None:
    ours = bert_tokenizer().vocab_size
    if tokens != ours:
        name = f", {_OTHER_VOCABULARIES[tokens]}" if tokens in _OTHER_VOCABULARIES else ""
        raise InputError(
            f"{tensors.name}: a vocabulary of {tokens} tokens{name}; supported is uncased English BERT's of {ours}"
        )
