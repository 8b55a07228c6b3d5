import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from lrsclip_jax.data.tokenizer import bert_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.pytorch.families import bert
from lrsclip_jax.pytorch.files.tensors import open_tensors
from lrsclip_jax.pytorch.layout import to_theirs

WIDTH, HEADS, TOKENS, LENGTH, LAYERS = 8, 2, 30522, 11, 2


@pytest.fixture
def tensors():
    """A BertModel of random values."""
    sizes = {
        "embeddings.word_embeddings.weight": (TOKENS, WIDTH),
        "embeddings.position_embeddings.weight": (LENGTH, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        block = f"encoder.layer.{layer}"
        products = {f"attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        products |= {
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (20, WIDTH),
            "output.dense": (WIDTH, 20),
        }
        for name, shape in products.items():
            sizes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        norms += [f"{block}.attention.output.LayerNorm", f"{block}.output.LayerNorm"]
    sizes |= {f"{name}.{part}": (WIDTH,) for name in norms for part in ("weight", "bias")}
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in sizes.items()}


def read(tensors, folder, config=None, hints=Hints(text_heads=HEADS)):  # noqa: B008
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / "model.safetensors")
    file = open_tensors(folder / "model.safetensors")
    assert bert.recognises(file)
    return bert.read(file, config, hints, folder)


def test_every_tensor_finds_its_place_and_its_way_back(tensors, tmp_path):
    found = read(tensors, tmp_path)
    text, block = found.params["text"], "encoder.layer.1"
    for index, part in enumerate(("query", "key", "value")):
        kernel = text["blocks"]["attention"]["qkv"]["kernel"][1, :, index, 1]
        np.testing.assert_array_equal(kernel, tensors[f"{block}.attention.self.{part}.weight"][4:].T)
    for ours, theirs in (("norm1", "attention.output"), ("norm2", "output")):
        np.testing.assert_array_equal(text["blocks"][ours]["bias"][1], tensors[f"{block}.{theirs}.LayerNorm.bias"])
    np.testing.assert_array_equal(text["pooler"]["kernel"], tensors["pooler.dense.weight"].T)
    np.testing.assert_array_equal(text["type_embedding"], tensors["embeddings.token_type_embeddings.weight"])
    back = to_theirs(bert.table(), found.params)
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_the_fields_make_the_tower(tensors, tmp_path):
    found = read(tensors, tmp_path)
    assert found.text == {
        "kind": "bert",
        "vocab_size": TOKENS,
        "context_length": LENGTH,
        "width": WIDTH,
        "layers": LAYERS,
        "heads": HEADS,
        "mlp_width": 20,
        "norm_eps": 1e-12,
        "activation": "gelu",
        "pool": "pooler",
    }
    assert zoo.create("tiny", text=found.text).text.mlp_width == 20
    assert found.image is None and found.preprocessing is None and "projection" not in found.params["text"]
    assert found.reasons["text.heads"] == "--text-heads" and found.reasons["text.activation"] == "BERT's"


def test_the_config_tells_what_it_has(tensors, tmp_path):
    config = {"model_type": "bert", "num_attention_heads": 4, "layer_norm_eps": 1e-5, "hidden_act": "gelu"}
    found = read(tensors, tmp_path, config, Hints())
    assert (found.text["heads"], found.text["norm_eps"]) == (4, 1e-5)
    assert found.reasons["text.heads"] == found.reasons["text.norm_eps"] == "config.json"
    with pytest.raises(InputError, match="width 8 does not divide into 12 heads"):  # transformers' default
        read(tensors, tmp_path, {"model_type": "bert"}, Hints())


def test_files_of_pre_training(tensors, tmp_path):
    expected = read(tensors, tmp_path).params
    older = {}
    for key, value in tensors.items():
        key = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        older[f"bert.{key}"] = value
    heads = {"cls.predictions.bias": np.zeros(3), "cls.predictions.transform.LayerNorm.gamma": np.ones(3)}
    older |= heads | {"bert.embeddings.position_ids": np.arange(LENGTH)[None]}
    found = read(older, tmp_path)
    np.testing.assert_equal(found.params, expected)
    assert found.unused == (
        "cls.predictions.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "embeddings.position_ids",
    )


def test_without_a_pooler_the_cls_token_counts(tensors, tmp_path):
    del tensors["pooler.dense.weight"], tensors["pooler.dense.bias"]
    found = read(tensors, tmp_path)
    assert found.text["pool"] == "cls" and "pooler" not in found.params["text"]
    assert to_theirs(bert.table("cls"), found.params).keys() == tensors.keys()


def test_the_vocabulary_beside_it_must_be_ours(tensors, tmp_path):
    vocabulary = bert_tokenizer().engine.get_vocab()
    pieces = sorted(vocabulary, key=vocabulary.get)
    lines, whole = tmp_path / "vocab.txt", tmp_path / "tokenizer.json"
    lines.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    whole.write_text(json.dumps({"model": {"vocab": vocabulary}}))
    read(tensors, tmp_path)
    pieces[2000], pieces[2001] = pieces[2001], pieces[2000]
    lines.write_text("\n".join(pieces), encoding="utf-8")
    with pytest.raises(InputError, match=r"vocab\.txt is another vocabulary .* from token 2000 on"):
        read(tensors, tmp_path)
    lines.unlink()
    for text, message in (
        (
            json.dumps({"model": {"vocab": vocabulary | {"[PAD]": 7}}}),
            "is another vocabulary than uncased English BERT's",
        ),
        ("{}", "field 'model'; a BERT vocabulary is expected"),
    ):
        whole.write_text(text)
        with pytest.raises(InputError, match=r"tokenizer\.json.* " + message):
            read(tensors, tmp_path)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (28996, "28996 tokens, cased BERT's; supported is uncased English BERT's of 30522"),
        (99, "of 99 tokens; supported"),
    ],
)
def test_another_size_of_vocabulary_is_named(tensors, tmp_path, tokens, message):
    tensors["embeddings.word_embeddings.weight"] = np.zeros((tokens, WIDTH), np.float32)
    with pytest.raises(InputError, match=message):
        read(tensors, tmp_path)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["roberta.embeddings.word_embeddings.weight"], "RoBERTa"),
        (["distilbert.transformer.layer.0.attention.q_lin.weight"], "DistilBERT"),
        (["embeddings.word_embeddings.weight", "transformer.layer.0.attention.q_lin.weight"], "DistilBERT"),
        (["albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.bias"], "ALBERT"),
        (["transformer.attentions.0.q_lin.weight"], "XLM"),
        (["embeddings.word_embeddings.weight", "encoder.relative_attention_bias.weight"], "MPNet"),
    ],
)
def test_relatives_are_refused_by_name(tmp_path, keys, name):
    with pytest.raises(InputError, match=f"is a {name}, which can't be converted"):
        read(dict.fromkeys(keys, np.zeros((3, 3), np.float32)), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t, c: t.pop("encoder.layer.1.output.dense.bias"),
            r"a BERT checkpoint: it lacks encoder\.layer\.1\.output",
        ),
        (lambda t, c: t.update(extra=np.zeros(1)), "it has also extra$"),
        (lambda t, c: t.update({"embeddings.token_type_embeddings.weight": np.zeros((1, WIDTH))}), "is a RoBERTa"),
        (lambda t, c: t.update({"pooler.dense.bias": np.zeros(3)}), r"has shape \[3\], the other tensors want \[8\]"),
        (lambda t, c: c.update(model_type="xlm-roberta"), "is a xlm-roberta"),
        (
            lambda t, c: c.update(position_embedding_type="relative_key"),
            "position_embedding_type 'relative_key', supported",
        ),
        (lambda t, c: c.update(is_decoder=True), "is_decoder True, supported is False"),
        (lambda t, c: c.update(hidden_act="relu"), "'relu' .*is not supported, quick_gelu and gelu"),
        (lambda t, c: c.update(num_attention_heads=4), "config.json says 4, --text-heads says 2"),
    ],
)
def test_what_does_not_fit_is_one_line(tensors, tmp_path, change, message):
    config = {"model_type": "bert", "num_attention_heads": HEADS}
    change(tensors, config)
    with pytest.raises(InputError, match=message) as caught:
        read(tensors, tmp_path, config)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_heads_are_not_guessed(tensors, tmp_path):
    with pytest.raises(InputError, match=r"text heads at width 8: say --text-heads=… \(BERT-base has 12"):
        read(tensors, tmp_path, hints=Hints())
