"""Plain English: words that the documents avoid, and how long their sentences are.

python tests/english.py              checks the documents
python tests/english.py PATH…        checks other files; of Python files the docstrings, comments and texts count
"""

from __future__ import annotations

import io
import re
import statistics
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("*.md", "benchmarks/*.md", "launch/*.md", "docs/**/*.md", ".github/**/*.md")

# pattern: a plainer way
AVOIDED = {
    r"\bknown are\b": "list them",
    r"\bgoes on\b": "continues",
    r"\bof ours\b": "our",
    r"\bbeside\b": "next to, compared with",
    r"\banew\b": "again",
    r"\bso many\b": "the number",
    r"\bwhatever\b": "any",
    r"\bwhich the \w+ has not\b": "which the … does not have",
    r"(?:^|[.!:] |# |> |- )What\b(?![^.!\n]*\?)": "begin with the subject",
}
# (file, words): where a word of the list is the right one, here as a word of captions
EXCEPTIONS = {
    ("lrsclip_jax/data/directions.py", "beside"),
    ("lrsclip_jax/data/mosaic/mosaic_text.py", "beside"),
    ("lrsclip_jax/data/scenes/scene_captions.py", "beside"),
}


def faults(text: str, name: str = "") -> list[str]:
    """Returns "line: words (a plainer way)" for every avoided wording in a text."""
    return [
        f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found[0].strip()!r} ({plainer})"
        for pattern, plainer in AVOIDED.items()
        for found in re.finditer(pattern, text, re.MULTILINE | (0 if "What" in pattern else re.IGNORECASE))
        if (name, found[0].strip().lower()) not in EXCEPTIONS
    ]


def prose(markdown: str) -> str:
    """Returns a document without code, tables, headings, pictures and comments; lines stay where they are."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", "", found[0])

    text = re.sub(r"\A---\n.*?\n---\n", blank, markdown, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```$", blank, text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", blank, text, flags=re.DOTALL)
    text = re.sub(r"^(\||#|!\[|\s*--8<--).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "X", text)
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"</?\w+>", "", text))


def words_of(python: str) -> str:
    """Returns the comments and texts of a Python file; lines stay where they are."""
    kept = [""] * (python.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(python).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for offset, line in enumerate(token.string.splitlines()):
                kept[token.start[0] - 1 + offset] += line
    return "\n".join(kept)


def sentence_lengths(markdown: str) -> list[int]:
    """Returns the numbers of words of a document's sentences."""
    paragraphs = re.split(r"\n\s*\n|^\s*(?:[-*]|\d\.) ", prose(markdown), flags=re.MULTILINE)
    sentences = [part for text in paragraphs for part in re.split(r"(?<=[.!?:])\s+", " ".join(text.split()))]
    return [len(words) for sentence in sentences if (words := re.findall(r"\w[\w’'./-]*", sentence))]


def documents() -> list[Path]:
    """Returns the documents of the repository."""
    return sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))


def check(paths: list[Path]) -> list[str]:
    """Returns the faults of some files."""
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
        found += faults(words_of(text) if path.suffix == ".py" else prose(text), name)
    return found


def main(arguments: list[str]) -> int:
    """Prints the faults, and the median length of a sentence of each document."""
    paths = [Path(argument).resolve() for argument in arguments] or documents()
    paths = [inner for path in paths for inner in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    found = check(paths)
    for path in paths:
        if path.suffix == ".md" and (lengths := sentence_lengths(path.read_text(encoding="utf-8"))):
            print(
                f"{path}: {len(lengths)} sentences, median {statistics.median(lengths):g} words, longest {max(lengths)}"
            )
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
