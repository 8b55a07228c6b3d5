"""The documents: plain English, links that lead somewhere, commands that exist, one version."""

import importlib.util
import re
import statistics
import tomllib

import english
import pytest
import snippets
import yaml

ROOT = snippets.ROOT


def test_the_documents_avoid_words_that_read_translated():
    assert english.check(english.documents()) == []


@pytest.mark.parametrize("folder", ["lrsclip_jax", "eval", "configs", "launch"])
def test_so_does_the_code(folder):
    assert english.check(sorted((ROOT / folder).rglob("*.py"))) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("It goes on here.", "goes on"),
        ("First.\nKnown are three.", "Known are"),
        ("Done. What remains is told.", "What"),
        ("- What is left:", "What"),
    ],
)
def test_the_check_finds_such_words(text, fault):
    (found,) = english.faults(text, "a.md")
    assert fault in found


@pytest.mark.parametrize("text", ["What does it need?", "Search besides that.", "`goes on`", "```\nanew\n```"])
def test_questions_and_code_may_have_them(text):
    assert english.faults(english.prose(text), "a.md") == []


def test_of_python_files_comments_and_texts_are_checked():
    code = 'beside = 1  # stands beside it\n\n\ndef f():\n    """Whatever."""\n'
    assert [fault.split()[0] for fault in english.faults(english.words_of(code), "a.py")] == ["a.py:1:", "a.py:5:"]


def test_the_readme_is_short_and_so_are_its_sentences():
    readme = (ROOT / "README.md").read_text()
    assert readme.count("\n") <= 150
    assert statistics.median(english.sentence_lengths(readme)) < 16


def test_sentences_are_counted_without_code_tables_and_headings():
    text = "# A heading\n\nOne two three. Four `code with words` six:\n\n| a | table |\n\n- a point\n- one more point\n"
    assert english.sentence_lengths(text) == [3, 3, 2, 3]


@pytest.mark.parametrize("page", snippets.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_lead_to_files(page):
    text = english.prose(page.read_text()) + page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|#|mailto:", target):
            path = page.parent / target.partition("#")[0]
            generated = page.parent.relative_to(ROOT).parts[:1] == ("docs",) and path.name in GENERATED
            assert path.exists() or generated, f"{target} in {page}"


GENERATED = ("everything.md",)  # by docs/hooks.py


@pytest.mark.parametrize("page", snippets.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_accepted_as_it_is_written(page):
    for block in snippets.blocks(page):
        if block.language == "bash":
            for words in block.commands:
                snippets.check(words, page)
        elif block.language == "python":
            compile(block.code, str(page), "exec")


def test_a_command_that_does_not_exist_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- needs: a GPU -->\n```bash\nlrsclip train --config=vitb16 --workdir=a --config.sed=1\n```\n")
    (block,) = snippets.blocks(page)
    assert block.needs == "a GPU"
    with pytest.raises(Exception, match="did you mean 'seed'"):
        snippets.check(block.commands[0], page)
    with pytest.raises(Exception, match="unknown argument"):
        snippets.parse(["embed", "a", "--checkpoint=b", "--out=c", "--no-such=1"])


def test_the_version_is_one():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == version
    assert re.search(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() and len(citation["references"]) == 2


def test_no_address_of_the_repository_is_made_up():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    addresses = set(urls.values())
    for page in snippets.PAGES:
        for found in re.findall(r"https?://[\w./-]*lrsclip_jax[\w./-]*", page.read_text()):
            assert any(found.startswith(address) for address in addresses), f"{found} in {page}"


def test_forms_and_workflows_are_yaml():
    for path in [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]:
        assert yaml.safe_load(path.read_text()), path
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}


@pytest.mark.parametrize("repository", [None, "https://example.org/owner/name"])
def test_the_page_of_a_package_index_has_links_that_work_there(repository, monkeypatch):
    pytest.importorskip("setuptools", reason="which builds the package")
    spec = importlib.util.spec_from_file_location("setup_of_the_package", ROOT / "setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    urls = {"Repository": repository} if repository else {}
    monkeypatch.setattr(setup.tomllib, "loads", lambda text: {"project": {"urls": urls}})
    relative = re.findall(r"\]\((?!https?:|#)([^)]+)\)", setup.page())
    if repository is None:
        assert setup.page() == (ROOT / "README.md").read_text()
    else:
        assert relative == []
        assert f"({repository}/raw/main/benchmarks/search_page.png)" in setup.page()
        assert f"({repository}/blob/main/CONTRIBUTING.md)" in setup.page()
