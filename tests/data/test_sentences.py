"""Sentence ends in token ids, beside a plain reading of the text itself."""

import re

import numpy as np
import pytest

from eval import sentences as eval_sentences
from lrsclip_jax.data.prepared.procedural import SceneRecords
from lrsclip_jax.data.sentences import split
from lrsclip_jax.data.tokenizer import bert_tokenizer, clip_tokenizer, pieces

TOKENIZERS = [clip_tokenizer(), bert_tokenizer()]


def sentences(text, tokenizer):
    """The sentences of a text as ids without special tokens, read back from `split`."""
    found = split(tokenizer.encode([text]), tokenizer)
    return [found.ids[start : start + size].tolist() for start, size in zip(found.starts, found.lengths, strict=True)]


def content(texts, tokenizer):
    return [ids[1:-1] for ids in tokenizer.encode(texts)]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["clip", "bert"])
@pytest.mark.parametrize(
    "parts",
    [
        ["A pond lies in a park.", "Two roads cross it!", "Is it deep?", "Nobody knows"],
        ["The hall is 3.5 m high.", "12 cars stand on 0.75 hectares.", "All are red."],
        ["Ships, e.g. ferries, lie in the harbour.", "The U.S. base is near.", "It is approx. 2 km away."],
        ["Dr. Smith lives on Main St. opposite the bldg. of stone.", "He is in."],
        ["They form a line...", "One stands apart (the largest one).", "What a field!!", "Why?!"],
        ["Terminal B.", "A car."],
        ["One sentence without an end"],
        ["One."],
    ],
    ids=lambda parts: parts[0][:20],
)
def test_sentences_end_where_a_reader_sees_them_end(parts, tokenizer):
    assert sentences(" ".join(parts), tokenizer) == content(parts, tokenizer)


def test_what_closes_behind_a_mark_belongs_to_its_sentence():
    parts = ['They call it "the big one."', "(It is large.)", "[Unknown!]", 'Is it "old"?', "It is."]
    assert sentences(" ".join(parts), TOKENIZERS[0]) == content(parts, TOKENIZERS[0])
    parts = ["(It is large.)", "It is old."]
    assert sentences(" ".join(parts), TOKENIZERS[1]) == content(parts, TOKENIZERS[1])


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["clip", "bert"])
def test_the_long_texts_of_scenes_are_split_as_their_strings_are(tokenizer):
    texts = [record.long[0] for record in SceneRecords(60)]
    strings = [eval_sentences.sentences(text) for text in texts]
    found = split(tokenizer.encode(texts), tokenizer)
    assert found.counts.tolist() == [len(each) for each in strings]
    expected = content([sentence for each in strings for sentence in each], tokenizer)
    for start, size, ids in zip(found.starts, found.lengths, expected, strict=True):
        assert found.ids[start : start + size].tolist() == ids


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["clip", "bert"])
def test_a_text_is_split_alike_in_any_company(tokenizer):
    """Its neighbours in the batch change nothing: no rule looks beyond the special tokens between texts."""
    texts = [
        "",
        ".",
        "5",
        "e.",
        "g.",
        "3.",
        "5 cars. a.",
        "b. c",
        "U.",
        "S.",
        "!",
        ")",
        "approx.",
        "3 m.",
        '"',
        "A. B.",
    ]
    rng = np.random.default_rng(0)
    alone = {text: sentences(text, tokenizer) for text in texts}
    for _ in range(30):
        order = rng.permutation(texts).tolist()
        found = split(tokenizer.encode(order), tokenizer)
        spans = iter(zip(found.starts.tolist(), found.lengths.tolist(), strict=True))
        for text, count in zip(order, found.counts.tolist(), strict=True):
            read = [found.ids[start : start + size].tolist() for start, size in (next(spans) for _ in range(count))]
            assert read == alone[text], text
            assert [token for sentence in read for token in sentence] == content([text], tokenizer)[0]


def test_pieces_spell_what_the_tokenizer_reads():
    clip, bert = TOKENIZERS
    text = "two cafés lie near 12 boats, e.g. ferries!"
    assert "".join(pieces(clip)[token] for token in clip.encode([text])[0][1:-1]).split() == re.findall(
        r"[^\W\d]+|\d|[^\w\s]+", text
    )
    spelled = " ".join(pieces(bert)[token] for token in bert.encode([text])[0][1:-1]).replace(" ##", "")
    assert spelled == "two cafes lie near 12 boats , e . g . ferries !"
