import gzip
import html
import itertools
import random
from importlib import resources

import ftfy
import numpy as np
import pytest
import regex
from transformers import BertTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from lrsclip_jax.data.draws import stream
from lrsclip_jax.data.scenes.plan import plan
from lrsclip_jax.data.scenes.scene_captions import captions
from lrsclip_jax.data.tokenizer import bert_tokenizer, clip_tokenizer, fit, tokenizer_for
from lrsclip_jax.errors import InputError

TEXTS = [
    "An aerial photo of an airport with 12 planes.",
    "it's  the   harbour's\tquay,\nwe've SEEN it!",
    "&lt;b&gt; trees &amp;amp; fields",
    "schÃ¶ne StraÃŸe – naïve café, 2 km²",
    "東京 is a city 🛰️ ...---...",
    "",
    "supercalifragilisticexpialidocious " * 3,
]


def byte_pairs(text: str) -> list[int]:
    """CLIP's tokenizer written plainly: clean, lower, split, merge the best-ranked pair until none is left."""
    packed = resources.files("lrsclip_jax.data").joinpath("vocabulary/bpe_simple_vocab_16e6.txt.gz").read_bytes()
    merges = [tuple(line.split()) for line in gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]]
    visible = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    hidden = [b for b in range(256) if b not in visible]
    symbol = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}
    order = [symbol[b] for b in visible + hidden]
    ids = {word: i for i, word in enumerate(order + [s + "</w>" for s in order] + ["".join(m) for m in merges])}
    rank = {merge: i for i, merge in enumerate(merges)}
    text = regex.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(text))).strip()).lower()
    out = []
    for word in regex.findall(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", text):
        parts = [symbol[b] for b in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(itertools.pairwise(parts), key=lambda pair: rank.get(pair, len(merges)))
            if best not in rank:
                break
            merged, i = [], 0
            while i < len(parts):
                pair = tuple(parts[i : i + 2])
                merged.append("".join(pair) if pair == best else parts[i])
                i += 2 if pair == best else 1
            parts = merged
        out += [ids[part] for part in parts]
    return out


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_the_plain_algorithm(text):
    assert clip_tokenizer().encode([text])[0] == [49406, *byte_pairs(text), 49407]


def test_known_ids():
    # "a photo of a cat" in OpenAI's notebook
    assert clip_tokenizer().encode(["a photo of a cat"])[0] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert clip_tokenizer().vocab_size == 49408


def test_fit_keeps_the_end_token():
    assert fit([7, 1, 2, 9], 6, end=9).tolist() == [7, 1, 2, 9, 0, 0]
    assert fit([7, 1, 2, 9], 4, end=9).tolist() == [7, 1, 2, 9]
    assert fit([7, 1, 2, 3, 9], 4, end=9).tolist() == [7, 1, 2, 9]
    assert fit([7, 9], 3, end=9).dtype == np.int32


def test_long_texts_stay_whole_until_they_are_fitted():
    ids = clip_tokenizer().encode(["tree " * 400])[0]
    assert len(ids) == 402
    assert fit(ids, 248, 49407)[247] == 49407


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """BERT's vocabulary as the text file that other implementations read."""
    packed = resources.files("lrsclip_jax.data").joinpath("vocabulary/bert_base_uncased_vocab.txt.gz").read_bytes()
    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_bytes(gzip.decompress(packed))
    return path


def scene_texts() -> list[str]:
    texts = [captions(plan(0, index), stream(0, index, purpose=1)) for index in range(200)]
    return [text for short, long in texts for text in (*short, long)]


def glued_pieces(path) -> list[str]:
    """Words of the vocabulary's own pieces in any case, with accents, signs and spaces strewn in."""
    pieces = [piece.removeprefix("##") for piece in path.read_text().splitlines() if not piece.startswith("[")]
    strewn = ["", "", " ", " ", "\u0301", "\u0327", "-", "'", ".", "\t", "\u00a0", "\u200b", "\x00", "\ufffd"]
    rng = random.Random(0)
    texts = ["".join(rng.choice(pieces) + rng.choice(strewn) for _ in range(rng.randrange(12))) for _ in range(2000)]
    return [rng.choice([str, str.upper, str.title])(text) for text in texts]


AWKWARD = [
    *TEXTS,
    "x" * 100 + " " + "x" * 101 + " " + "é" * 60 + " " + "e\u0301" * 60,
    "İstanbul, Ångström, ẞ, ﬁ, ½, café, cafe\u0301",
    "東京の空港 서울 Москва ἀρχή",
    "🛰️👩🏽‍🌾 don't 1,000.5km² <b> __init__",
    " \n ",
    "a\x00b\ufffdc\u200bd\u2028e\u3000f",
]


def test_word_pieces_equal_those_of_the_original_code(vocabulary):
    reference = BertTokenizerLegacy(vocabulary, do_lower_case=True)
    texts = [*AWKWARD, *scene_texts(), *glued_pieces(vocabulary)]
    assert len(texts) > 3000
    for text, ids in zip(texts, bert_tokenizer().encode(texts), strict=True):
        assert ids == reference(text)["input_ids"], ascii(text)


def test_word_pieces_equal_those_of_transformers_on_any_characters(vocabulary):
    words = {word: index for index, word in enumerate(vocabulary.read_text().splitlines())}
    reference = BertTokenizer(vocab=words)
    rng = random.Random(1)
    ranges = [(0, 0x80), (0, 0x250), (0x300, 0x370), (0x370, 0x1000), (0x1000, 0xD800), (0xE000, 0x110000)]
    texts = ["".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(60))) for _ in range(2000)]
    for text, ids in zip(texts, bert_tokenizer().encode(texts), strict=True):
        assert ids == reference(text)["input_ids"], ascii(text)


def test_word_pieces_known_ids():
    tokenizer = bert_tokenizer()
    assert tokenizer.encode(["Hello, world!"])[0] == [101, 7592, 1010, 2088, 999, 102]  # of Google's release
    assert (tokenizer.vocab_size, tokenizer.start, tokenizer.end, tokenizer.pad) == (30522, 101, 102, 0)
    assert tokenizer.encode([""]) == [[101, 102]]
    assert len(tokenizer.encode(["tree " * 600])[0]) == 602


def test_no_text_spells_a_special_token():
    special = {101, 102, 103, 0}
    for text in ("[PAD] a [SEP] b [CLS] [MASK]", "[sep][PAD]"):
        assert not special & set(bert_tokenizer().encode([text])[0][1:-1])
    assert bert_tokenizer().encode(["[SEP]"]) == bert_tokenizer().encode(["[ sep ]"])
    ids = clip_tokenizer().encode(["<|endoftext|> a <|startoftext|>"])[0]
    assert not {49406, 49407} & set(ids[1:-1])


def test_half_a_surrogate_pair_is_dropped():
    # JSON can hold one ("\\ud83d"), no encoding of text can.
    assert bert_tokenizer().encode(["a\ud83d tree"]) == bert_tokenizer().encode(["a tree"])


def test_the_tokenizer_of_a_text_tower():
    assert tokenizer_for("transformer") is clip_tokenizer() and tokenizer_for("bert") is bert_tokenizer()
    assert [tokenizer_for(kind).name for kind in ("transformer", "bert")] == ["clip", "bert"]
    assert bert_tokenizer().hash != clip_tokenizer().hash == "e79b3f2160c3"
    with pytest.raises(InputError, match="no tokenizer for a text tower of kind 'brt'; known: transformer, bert"):
        tokenizer_for("brt")
