"""Scene classification data sets and prompts: class folders in words, and the templates that the papers fill with them.

The facts lie in `eval/facts` (zeroshot/*.json, templates.json; its README names their sources). Names are
compared by letters and digits alone: "footballField", "football_field" and "footballfield" are one folder.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.errors import InputError, nearest
from eval.facts.names import meaning
from eval.papers.published_tables import Value, key, values

FOLDER = Path(__file__).parent
PLAIN = "plain"


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A data set of scenes sorted into class folders.

    Attributes:
      name: as `dataset` takes it.
      title: as the papers print it.
      images: how many it has; None where parts of it are in use and nothing open confirms a number.
      classes: words of each class folder, in the order of the folders.
      source: where it was published.
      verified: what confirms the classes and the number of images.
      spellings: other names of folders, {spelling: folder}.
      wordings: the words of other protocols for some of the folders, {protocol: {folder: words}}.
    """

    name: str
    title: str
    images: int | None
    classes: Mapping[str, str]
    source: str
    verified: Mapping[str, str]
    spellings: Mapping[str, str] = field(default_factory=dict)
    wordings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @functools.cached_property
    def folders(self) -> Mapping[str, str]:
        """The folder of every spelling, by letters and digits."""
        return {key(folder): folder for folder in self.classes} | {
            key(spelling): folder for spelling, folder in self.spellings.items()
        }

    @property
    def published(self) -> list[Value]:
        """The published accuracies of zero-shot classification, per cent."""
        return values(self.name, "accuracy")

    @property
    def templates(self) -> dict[str, tuple[str, ...]]:
        """The templates of every protocol for this data set."""
        return {protocol: templates(protocol, self.name) for protocol in _templates()}

    def words(self, labels: Iterable[str], protocol: str = PLAIN) -> dict[str, str]:
        """Returns the words of each label, a folder name in any spelling.

        Args:
          labels: some or all of the classes.
          protocol: "plain", or a name of templates: the words of "itra" and "georsclip" differ in places.

        Raises:
          InputError: a label is no class of this data set, or the protocol is unknown.
        """
        if protocol != PLAIN:
            _template_set(protocol)
        own = self.wordings.get(protocol, {})
        found = {}
        for label in labels:
            folder = self.folders.get(key(label))
            if folder is None:
                raise InputError(f"{label!r} is no class of {self.title}{nearest(label, self.classes)}")
            found[label] = own.get(folder, self.classes[folder])
        return found


def datasets() -> list[str]:
    """Returns the names of all known data sets."""
    return list(_datasets())


def dataset(name: str) -> Benchmark:
    """Returns a data set by its name, title or a name of `eval.facts.names`; InputError names the nearest known one."""
    found = _named(name)
    if found is None:
        raise InputError(f"no data set is called {name!r}{nearest(name, datasets())} (known: {', '.join(datasets())})")
    return found


def recognise(labels: Iterable[str]) -> Benchmark | None:
    """Returns the data set whose class folders, all of them, have these labels, in any spelling; None without one."""
    labels = set(labels)
    for found in _datasets().values():
        folders = [found.folders.get(key(label)) for label in labels]
        if len(folders) == len(found.classes) and set(folders) == set(found.classes):
            return found
    return None


def templates(name: str, dataset: str | None = None) -> tuple[str, ...]:
    """Returns a set of templates, each with "{}" once, where the class goes.

    Args:
      name: "lrsclip", "rsclip" ("rsclip-the" is its other wording), "itra", "georsclip", "skyscript"; or a template.
      dataset: what the templates are for: ITRA has sets of its own for EuroSAT and RESISC45, and one for all others.

    Raises:
      InputError: the name is unknown, or the template has "{}" not once.
    """
    if "{" in name or "}" in name:
        if re.findall("{}|[{}]", name) != ["{}"]:
            raise InputError(f"the template {name!r} must have {{}} once, where the class goes")
        return (name,)
    chosen = _template_set(name)
    known = _named(dataset or "")
    own = chosen.get("datasets", {}).get(known.name) if known else None
    return tuple(own or chosen["templates"])


def words(label: str) -> str:
    """Returns a folder's name in words, for classes that no data set names: "BareLand", "bare_land" are "bare land"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\-\s]+", " ", label).strip().lower()


@functools.cache
def _datasets() -> dict[str, Benchmark]:
    found = (Benchmark(**_json(path)) for path in sorted(FOLDER.glob("zeroshot/*.json")))
    return {benchmark.name: benchmark for benchmark in found}


def _named(name: str) -> Benchmark | None:
    return _by_name().get(key(meaning(name, "classes") or name))


@functools.cache
def _by_name() -> dict[str, Benchmark]:
    return {key(name): found for found in _datasets().values() for name in (found.title, found.name)}


@functools.cache
def _templates() -> dict[str, dict[str, Any]]:
    return _json(FOLDER / "templates.json")


def _template_set(name: str) -> dict[str, Any]:
    known = _templates()
    if name not in known:
        raise InputError(f"no templates are called {name!r}{nearest(name, known)} (a template has {{}} in it)")
    return known[name]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
