"""The frame of every page: title, provenance, files, contents, sections. `page.html` is its template.

A page is one file that fetches nothing, as its policy enforces. It follows the reader's light or dark scheme.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import jinja2

from eval.html.elements import Html, link
from eval.redaction import redacted
from eval.results import made_by

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FOLDER = Path(__file__).parent
_LISTED = 4  # sections from which on a page has a list of them


def page(
    title: str,
    sections: Sequence[tuple[str, Html]],
    summary: str = "",
    provenance: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
) -> Html:
    """Returns a whole HTML document, in which all text that is not `Html` is escaped.

    Args:
      title: heading of the page.
      sections: (heading, content) of each section in order; each has an anchor made of its heading.
      summary: a paragraph under the title.
      provenance: where the page comes from, as `provenance` returns it.
      files: paths relative to the page of files that hold the same numbers for programs.
    """
    anchors = _anchors(heading for heading, _ in sections)
    return Html(
        _template().render(
            title=title,
            summary=summary,
            provenance=provenance or {},
            files=files,
            link=link,
            sections=[(anchor, *section) for anchor, section in zip(anchors, sections, strict=True)],
            contents=len(sections) >= _LISTED,
            policy=Html(POLICY),
            style=Html((_FOLDER / "report.css").read_text(encoding="utf-8")),
        )
    )


def provenance(facts: Mapping[str, str], machine: str = "") -> dict[str, str]:
    """Returns what a page says of its origin: date, versions, `facts`, the command of this process, the machine.

    Secrets are left out (`eval.redaction`).

    Args:
      facts: such as {"Checkpoint": "runs/b16/checkpoints/1000"}; empty ones are left out.
      machine: in words; by default its cores and system.
    """
    versions = made_by()
    package = versions.pop("lrsclip_jax", "")
    told = {
        "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Version": ", ".join(filter(None, [package and f"lrsclip_jax {package}", f"Python {versions['python']}"])),
        **facts,
        "Command": _command(),
        "Machine": machine or f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
    }
    return {name: redacted(value) for name, value in told.items() if value}


def _command() -> str:
    """The command line of this process."""
    program = Path(sys.argv[0] or "python").name
    started = getattr(sys.modules["__main__"], "__spec__", None)  # of `python -m`
    module = started.name.removesuffix(".__main__") if started else ""
    words = ["python", "-m", module] if module else [program]
    return shlex.join([*words, *sys.argv[1:]])


def _anchors(headings: Iterable[str]) -> list[str]:
    """A name for each heading: its words in lower case, and a number where another heading has the same."""
    found: list[str] = []
    for heading in headings:
        words = "-".join(re.findall(r"[a-z0-9]+", heading.casefold())) or "section"
        name, number = words, 2
        while name in found:
            name, number = f"{words}-{number}", number + 1
        found.append(name)
    return found


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html")
