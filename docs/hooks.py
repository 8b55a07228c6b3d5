"""Pages that are made of the code, so that they cannot differ from it; addresses; tutorials as notebooks."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import tomllib
from pathlib import Path
from typing import Any

import jupytext
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
_MADE_OF = {"benchmarks/README.md": "performance.md", "CHANGELOG.md": "changelog.md"}
_SUBCOMMANDS = {"corpus": ("build", "read", "statistics", "export"), "convert": ("import", "export", "compare")}


def on_config(config: Any) -> Any:
    """Takes the addresses of the repository and of the site from pyproject.toml, where they are known."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {})
    config.repo_url, config.site_url = urls.get("Repository", ""), urls.get("Documentation", "")
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are generated."""
    pages = {name: (ROOT / path).read_text() for path, name in _MADE_OF.items()} | {"everything.md": everything()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    for picture in ("search_page.png", "quickstart_report.png", "evaluation_report.png"):
        files.append(File.generated(config, f"images/{picture}", abs_src_path=str(ROOT / "benchmarks" / picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Draws the floors where a page asks for them, and offers a tutorial as a notebook.

    Links to files outside docs/, which hold in the repository, lead to the pages made of them.
    """
    markdown = markdown.replace("<!-- floors -->", floors())
    markdown = re.sub(
        r"\]\(((?:\.\./)+)benchmarks/(\w+\.png)\)", lambda link: f"]({link[1][3:]}images/{link[2]})", markdown
    )
    for path, name in _MADE_OF.items():
        markdown = re.sub(rf"\]\(((?:\.\./)+){path}", lambda link: f"]({link[1][3:]}{name}", markdown)  # noqa: B023
    if page.file.src_uri.startswith("tutorials/"):
        # A tutorial lies one folder deeper than its notebook.
        link = f'<a href="../{Path(page.file.src_uri).stem}.ipynb" download>Download this page as a notebook</a>\n'
        markdown = re.sub(r"^(# .*\n)", lambda title: f"{title[0]}\n{link}", markdown, count=1, flags=re.MULTILINE)
    return markdown


def on_post_build(config: Any) -> None:
    """Writes the tutorials as notebooks; Colab opens them by File, Upload notebook."""
    for page in sorted((ROOT / "docs/tutorials").glob("*.md")):
        target = Path(config.site_dir, "tutorials", f"{page.stem}.ipynb")
        target.parent.mkdir(parents=True, exist_ok=True)
        jupytext.write(jupytext.read(page), target)


def floors() -> str:
    """Returns the floors of tests/test_house.py as a table, from the top of the house to the ground."""
    tree = ast.parse((ROOT / "tests/test_house.py").read_text())
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "FLOORS"
    )
    rows = [
        f"| {number} | {', '.join(f'`{room}`' for room in rooms)} |"
        for number, rooms in enumerate(ast.literal_eval(value))
    ]
    return "\n".join(["| floor | rooms |", "|---|---|", *reversed(rows)])


def everything() -> str:
    """Returns "all of lrsclip_jax on one page": the help of every command, and every key of a config."""
    from lrsclip_jax import cli
    from lrsclip_jax.config.keys import describe_keys

    parts = [
        "# All of lrsclip_jax on one page\n",
        "Every command and every key, as the program itself prints them.\n",
        "## lrsclip\n",
        _help([]),
    ]
    for name in cli.COMMANDS:
        parts += [f"## lrsclip {name}\n", _help([name])]
        for inner in _SUBCOMMANDS.get(name, ()):
            parts += [f"### lrsclip {name} {inner}\n", _help([name, inner])]
    parts += ["## Every key of a config\n", f"```text\n{chr(10).join(describe_keys())}\n```\n"]
    return "\n".join(parts)


def _help(words: list[str]) -> str:
    from lrsclip_jax import cli

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    return f"```text\n{said.getvalue().rstrip()}\n```\n"
