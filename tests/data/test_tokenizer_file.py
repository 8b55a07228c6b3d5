"""SigLIP's tokenizers, read from tokenizer.json, beside transformers' own classes."""

import json
import random
import string

import pytest
import tiny_siglip
from transformers import PreTrainedTokenizerFast, Siglip2Tokenizer

from lrsclip_jax.convert.formats.tokenizer_files import write_tokenizer
from lrsclip_jax.data import tokenizer_file
from lrsclip_jax.data.sentences import split
from lrsclip_jax.data.tokenizer import bert_tokenizer, fit
from lrsclip_jax.errors import InputError

ODD = [
    "A photo of 2 dogs, Hello-World!",
    "",
    "  \t\n",
    "!?…",
    "a\tb\nc   d",
    "Straße ÀÉ İstanbul ΑΣ Σ",
    "日本語 🛰️ ½ ﬁ ａｂｃ",
    'it\'s "quoted" x_y_z; 1,234.5 m²',
    "a▁b ▁",
    "\u200bzero\u00a0width\u3000wide",
    "\x00 nul \x01",
    "\ud800 half",
    "harbour " * 40,
]


def texts():
    draw = random.Random(0)
    letters = string.printable + "éßΣ日▁\u3000"
    return ODD + ["".join(draw.choice(letters) for _ in range(30)) for _ in range(100)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind in ("siglip", "siglip2"):
        made[kind] = tmp_path_factory.mktemp(kind)
        tiny_siglip.write_tokenizer(made[kind], kind)
    return made


def canonical(text):
    """SigLIP's `canonicalize_text`, written plainly; halves of surrogate pairs and SentencePiece's blank go, too."""
    text = "".join(c for c in text.lower() if not "\ud800" <= c <= "\udfff")
    kept = "".join(" " if c == "▁" else c for c in text if c not in string.punctuation)
    return " ".join(kept.split())


def test_siglip_reads_texts_in_lower_case_without_punctuation(folders):
    ours = tokenizer_file.in_folder(folders["siglip"])
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folders["siglip"] / "tokenizer.json"))
    assert (ours.name, ours.start, ours.end, ours.pad) == ("siglip", None, 1, 1)
    for text, ids in zip(texts(), ours.encode(texts()), strict=True):
        assert ids == [*theirs(canonical(text))["input_ids"], 1], text
    assert ours.encode(["A Harbour!"]) == ours.encode(["a harbour"])
    assert fit(ours.encode(["a harbour"])[0], 16, ours.end, ours.pad).tolist()[-4:] == [1, 1, 1, 1]


def test_siglip_2_reads_texts_as_transformers_own_class(folders):
    ours = tokenizer_file.in_folder(folders["siglip2"])
    model = json.loads((folders["siglip2"] / "tokenizer.json").read_text())["model"]
    theirs = Siglip2Tokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])
    assert (ours.name, ours.start, ours.end, ours.pad) == ("siglip2", None, 1, 0)
    for text, ids in zip(texts(), ours.encode(texts()), strict=True):
        whole = text.encode("utf-8", "ignore").decode()
        assert ids == [*theirs(whole, add_special_tokens=False)["input_ids"], 1], text
    assert ours.encode(["A Harbour, old."]) == ours.encode(["a harbour, OLD."]) != ours.encode(["a harbour old"])


@pytest.mark.parametrize(("kind", "spelled"), [("siglip", "</s> <unk>"), ("siglip2", "<eos> <pad>")])
def test_no_text_can_spell_a_special_token(folders, kind, spelled):
    ours = tokenizer_file.in_folder(folders[kind])
    assert not {ours.end, ours.pad} & set(ours.encode([spelled])[0][:-1])


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_what_is_written_for_transformers_is_the_same_tokenizer_there_and_here(folders, kind, tmp_path):
    ours = tokenizer_file.in_folder(folders[kind])
    write_tokenizer(ours, 16, tmp_path)
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    some = [text for text in texts() if "\ud800" not in text and "Σ" not in text]  # its final form is Python's alone
    rows = theirs(some, padding="max_length", truncation=True)
    assert rows["input_ids"] == [fit(ids, 16, ours.end, ours.pad).tolist() for ids in ours.encode(some)]
    assert "attention_mask" not in rows  # the tower sees its padding
    again = tokenizer_file.in_folder(tmp_path)
    assert again.encode(texts()) == ours.encode(texts())
    assert (again.hash, again.name, again.vocab_size) == (ours.hash, ours.name, ours.vocab_size)
    (tmp_path / "twice").mkdir()
    write_tokenizer(again, 16, tmp_path / "twice")
    assert (tmp_path / "twice/tokenizer.json").read_text() == (tmp_path / "tokenizer.json").read_text()


def test_a_model_that_keeps_case_says_so(folders, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((folders["siglip"] / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    ours = tokenizer_file.in_folder(tmp_path)
    assert ours.name == "siglip_cased" and ours.hash != tokenizer_file.in_folder(folders["siglip"]).hash
    assert ours.encode(["A photo!"]) != ours.encode(["a photo"]) == ours.encode(["a, photo"])
    write_tokenizer(ours, 16, tmp_path / ".")
    assert tokenizer_file.in_folder(tmp_path).encode(["A photo!"]) == ours.encode(["A photo!"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no file of the library tokenizers"),
        (b'{"version": "1.0"', "is no file of the library tokenizers"),
        (b"[1, 2]", "is no file of the library tokenizers"),
        (b"\xff\x00" * 50, "is no file of the library tokenizers"),
        (
            bert_tokenizer().engine.to_str().replace("[PAD]", "[GAP]").encode(),
            r"is another model's tokenizer \(WordPiece\)",
        ),
    ],
)
def test_another_file_is_one_line(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"{tmp_path}/tokenizer.json {message}") as error:
        tokenizer_file.in_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_the_file_has_no_tokenizer(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"x")
    assert tokenizer_file.in_folder(tmp_path) is None


def test_a_tokenizer_of_another_size_or_padding_is_refused(folders):
    ours = tokenizer_file.in_folder(folders["siglip"])
    fields = {"vocab_size": ours.vocab_size, "pad_token": 1}
    tokenizer_file.check_fits(ours, fields, "F")
    with pytest.raises(InputError, match=r"F has \d+ ids and the text tower 32,000: another model's tokenizer"):
        tokenizer_file.check_fits(ours, fields | {"vocab_size": 32000}, "F")
    with pytest.raises(InputError, match="F fills up texts with id 1 and the text tower with 0"):
        tokenizer_file.check_fits(ours, fields | {"pad_token": 0}, "F")


def test_sentences_are_not_found_in_tokens_that_do_not_show_them(folders):
    ours = tokenizer_file.in_folder(folders["siglip"])
    with pytest.raises(InputError, match="'siglip' does not show where sentences end"):
        split(ours.encode(["One. Two."]), ours)
