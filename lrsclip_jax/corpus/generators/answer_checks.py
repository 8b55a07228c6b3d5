"""Whether an answer is a caption: pure functions that return None, or in a few words why it isn't one.

The kind of a reason is what stands before its colon: empty, refusal, preamble, prompt echo, repetition, not English,
too short, too long. (`request_queue` adds "truncated".)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lrsclip_jax.corpus.generators.prompts import INSTRUCTIONS
from lrsclip_jax.corpus.generators.protocol import Check, Request
from lrsclip_jax.data.tokenizer import clip_tokenizer

# LRSCLIP asks for "20 words or less" and kept more: its summaries average 37 to 39 CLIP tokens (Table I), about 30
# words. A quarter over what was asked for is accepted here.
SHORT_WORDS = 25
_SHORT_TOKENS = 77  # what CLIP's text tower reads
_LONG_TOKENS = 248  # what LRSCLIP's reads
_ECHO = 8  # words in a row that only one who reads the instruction aloud shares with it
_LOOP = 3  # times that a phrase stands directly after itself
_LOOP_WORDS = 12  # of the longest such phrase
_DISTINCT = 0.7  # share of a text's runs of four words that differ from all before; human captions stay above

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_REFUSAL = re.compile(
    r"\bas an? (ai|(large )?language model)\b"
    r"|\b(i['’]?m|i am) (sorry|unable|not able|afraid)\b"
    r"|\bi (cannot|can['’]?t|can not|don['’]?t|do not) (see|view|access|assist|help|provide|describe|process)\b"
    r"|\b(no|any) image (was |has been |is )?(provided|attached|uploaded|given)\b"
    r"|\bplease (provide|upload|share|attach)\b"
    r"|\bi apologi[sz]e\b",
    re.IGNORECASE,
)
_PREAMBLE = re.compile(
    r"(sure|certainly|of course|absolutely|okay)\b\s*[,!.:]"
    r"|here(['’]s| is| are) (the|a|an|my|your)( \w+){0,3} (caption|summary|description|summari[sz]ation|version)\b"
    r"|[\W_]*(short |long |image |brief |detailed )?(caption|summary|description|answer|output)[\W_]*:",
    re.IGNORECASE,
)
# A text whose foreign words outnumber the English ones is in another language, or starts to be.
_ENGLISH = frozenset("the a an of in on and with is are to at by near there this from which it its".split())
_FOREIGN = frozenset(
    "der das und ein eine einer eines des dem den mit sich sind im auf "  # German
    "le les une un et dans avec sur est de du au aux il "  # French
    "el los las una con del y por en hay "  # Spanish
    "um uma com na no da do dos das os em "  # Portuguese
    "gli di della nel sulla con che il "  # Italian
    "het een met van op zijn".split()  # Dutch
) - {"no", "do"}


def check_short(
    max_words: int = SHORT_WORDS,
    min_words: int = 3,
    max_tokens: int = _SHORT_TOKENS,
    instructions: Sequence[str] = INSTRUCTIONS,
) -> Check:
    """Returns the check of short texts: bounds in words and in CLIP tokens (start and end included), and the rest."""

    def check(request: Request, text: str) -> str | None:
        words = len(_WORD.findall(text))
        return (
            not_a_caption(text, (*instructions, request.system))
            or _outside(words, min_words, max_words, "words")
            or _outside(tokens(text), 0, max_tokens, "CLIP tokens")
        )

    return check


def check_long(
    min_tokens: int = 40, max_tokens: int = _LONG_TOKENS, instructions: Sequence[str] = INSTRUCTIONS
) -> Check:
    """Returns the check of long texts: bounds in CLIP tokens (start and end included), and the rest."""

    def check(request: Request, text: str) -> str | None:
        return not_a_caption(text, (*instructions, request.system)) or _outside(
            tokens(text), min_tokens, max_tokens, "CLIP tokens"
        )

    return check


def not_a_caption(text: str, instructions: Sequence[str] = INSTRUCTIONS) -> str | None:
    """Returns the first of the reasons that do not depend on the length, or None."""
    words = _WORD.findall(text.lower())
    if not words:
        return "empty"
    if _REFUSAL.search(text):
        return "refusal"
    if _PREAMBLE.match(text):
        return "preamble"
    if echoes(words, instructions):
        return "prompt echo"
    if repeats(words):
        return "repetition"
    if not english(words):
        return "not English"
    return None


def tokens(text: str) -> int:
    """Returns the number of CLIP tokens of a text with the start and the end token."""
    return len(clip_tokenizer().encode([text])[0])


def tidied(text: str) -> str:
    """Returns an answer on one line without the quotation marks around it, and without what UTF-8 can't hold."""
    line = " ".join(text.encode("utf-8", "ignore").decode("utf-8").split())
    for marks in ('""', "“”"):
        if len(line) > 1 and line[0] == marks[0] and line[-1] == marks[1] and not set(marks) & set(line[1:-1]):
            return line[1:-1].strip()
    return line


def echoes(words: Sequence[str], instructions: Sequence[str]) -> bool:
    """Whether lower-case words hold eight in a row of an instruction, or the whole of a shorter one of four or more.

    Instructions, not prompts: the captions in a prompt may well come back, a summary is made of them.
    """
    for instruction in instructions:
        told = _WORD.findall(instruction.lower())
        size = min(_ECHO, len(told))
        if size >= 4 and not _runs(told, size).isdisjoint(_runs(words, size)):
            return True
    return False


def repeats(words: Sequence[str]) -> bool:
    """Whether a phrase of up to twelve words stands three times in a row, or too few runs of four words are new."""
    for size in range(1, min(_LOOP_WORDS, len(words) // _LOOP) + 1):
        same = 0
        for first, second in zip(words, words[size:], strict=False):
            same = same + 1 if first == second else 0
            if same == size * (_LOOP - 1):
                return True
    runs = len(words) - 3
    return runs > 0 and len(_runs(words, 4)) < _DISTINCT * runs


def english(words: Sequence[str]) -> bool:
    """Whether lower-case words are in Latin letters for the most part, and not in a large European language.

    A heuristic of letters and function words: it lets pass languages that it doesn't know in Latin letters.
    """
    letters = "".join(words)
    if sum(letter.isascii() for letter in letters) < 0.9 * len(letters):
        return False
    foreign = sum(word in _FOREIGN for word in words)
    return foreign < 2 or foreign <= sum(word in _ENGLISH for word in words)


def _runs(words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def _outside(number: int, low: int, high: int, unit: str) -> str | None:
    if number < low:
        return f"too short: {number} {unit}, at least {low}"
    return f"too long: {number} {unit}, at most {high}" if number > high else None
