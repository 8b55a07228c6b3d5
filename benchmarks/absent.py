"""Stands in for packages that a machine lacks, so that the train step can be imported where nothing can be installed.

`lrsclip_jax` imports what its data rooms need, such as Pillow or msgspec, when a module is read; the train step needs
none of it. A rented GPU often has JAX and PyTorch alone. With `allow()` a package of requirements.txt that is not
installed becomes a stand-in: module-level code may subclass and call what it holds, a function that calls it gets
MissingPackage.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from lrsclip_jax.errors import MissingPackage

# They read data, text and files. JAX and what a step is computed with are never among them.
PACKAGES = (
    *("PIL", "array_record", "cv2", "ftfy", "grain", "huggingface_hub", "msgspec", "safetensors", "simplejpeg"),
    *("tensorflow_datasets", "tokenizers", "tqdm"),
)


def allow() -> None:
    """Lets modules import what this machine lacks of PACKAGES, from now on and in this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())  # the last, so that installed packages are found before


def lacking(packages: Sequence[str]) -> list[str]:
    """Returns those of `packages` that are not installed."""
    return [name for name in packages if _is_absent(name)]


def _is_absent(name: str) -> bool:
    found = importlib.util.find_spec(name)
    return found is None or isinstance(found.loader, _Finder)


class _Stand(type):
    """Of a class of a package that is not there: it has every attribute, and module-level code may call it."""

    package = ""

    def __new__(cls, name: str, bases: tuple, namespace: dict, **options: Any) -> type:
        return super().__new__(cls, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple, namespace: dict, **options: Any):
        super().__init__(name, bases, namespace)

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(cls.package)

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if sys._getframe(1).f_code.co_name != "<module>":
            raise MissingPackage(f"{cls.package} is missing: pip install {cls.package}, or all of requirements.txt")
        return cls

    def __or__(cls, other: Any) -> Any:
        return cls


def stand_in(package: str) -> type:
    """Returns a class in the place of anything that `package` would hold; an exception, as `except` may name it."""
    return _Stand(package, (Exception,), {"package": package})


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(self.__name__.partition(".")[0])


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in PACKAGES:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is to be run."""
