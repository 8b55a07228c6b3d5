import gzip
import html
from importlib import resources

import ftfy
import numpy as np
import pytest
import regex

from lrsclip_jax.data.tokenizer import clip_tokenizer, fit

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
            best = min(zip(parts, parts[1:], strict=False), key=lambda pair: rank.get(pair, len(merges)))
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
