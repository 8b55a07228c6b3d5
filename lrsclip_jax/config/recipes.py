"""Recipes as files: found by name or path, called with their argument. Nothing imports them as modules.

A recipe is Python that a user wrote: its faults are each told in one line, with its file and line.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ml_collections import ConfigDict

from lrsclip_jax.config.values import shown
from lrsclip_jax.errors import InputError, nearest

Made = TypeVar("Made")
_LONGEST = 300  # characters of an exception's message
_WHAT = {"get_config": "recipe", "get_study": "study"}  # a file with this function, in words
_MADE = {"get_config": "config", "get_study": "study"}  # what the function returns


def call(spec: str, folders: Sequence[Path]) -> ConfigDict:
    """Returns the config that `get_config` of a recipe returns, as `call_function` does."""
    return call_function(spec, folders, "get_config", ConfigDict)


def call_function(spec: str, folders: Sequence[Path], function: str, returns: type[Made]) -> Made:
    """Returns what a function of a file returns that a user wrote.

    Args:
      spec: NAME or FILE.py, and behind a colon the argument of the function. NAME is that of a file NAME.py, in the
        working directory or one of the folders; the first that is there is called.
      folders: where files are found by name.
      function: its name, "get_config" or "get_study".
      returns: the type of the value that it must return.

    Raises:
      InputError: there is no such file, it takes no argument or needs one, its code fails, or it returns something
        else; the line begins with `spec`, and names the file and the line where code fails.
    """
    file, argument = find(spec, folders, _WHAT[function])
    called = _function(spec, file, function)
    parameters = inspect.signature(called).parameters.values()
    if argument and not parameters:
        raise InputError(f"{spec}: {function}() of {file} takes no argument '{argument}'")
    if not argument and (needed := [p.name for p in parameters if p.default is p.empty]):
        raise InputError(
            f"{spec}: the {_WHAT[function]} needs its {needed[0]}, write {spec.rstrip(':')}:{needed[0].upper()}"
        )
    with _told(spec, file, function):
        made = called(argument) if argument else called()
    if not isinstance(made, returns):
        code = getattr(called, "__code__", None)
        place = f"{file}, line {code.co_firstlineno}" if code else str(file)
        ends = f"end with `return {_MADE[function]}`"
        raise InputError(f"{spec}: {place}: {function}() returns {shown(made)}, it must {ends}")
    return made


def shipped() -> tuple[Path, ...]:
    """Returns the folders of training recipes: configs/ here, and the package's own.

    The package has them in lrsclip_jax/recipes where it was installed from a wheel, and in configs/ in a checkout.
    """
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return Path("configs"), installed if installed.is_dir() else package.parent / "configs"


def find(spec: str, folders: Sequence[Path], what: str = "recipe") -> tuple[Path, str]:
    """Returns the file that a spec of `call_function` names and the argument, "" for none; InputError for no file."""
    path, is_file, argument = spec.partition(".py:") if ".py:" in spec else (spec, spec.endswith(".py"), "")
    if is_file:
        file = Path(f"{path.removesuffix('.py')}.py")
        if not file.is_file():
            raise InputError(f"{spec}: no file {file}")
        return file, argument
    name, _, argument = spec.partition(":")
    for file in (Path(f"{name}.py"), *(folder / f"{name}.py" for folder in folders)):
        if file.is_file():
            return file, argument
    known = sorted({file.stem for folder in folders for file in folder.glob("[!_]*.py")})
    raise InputError(f"{spec}: no {what} {name}{nearest(name, known)} (there are {', '.join(known)}, or write FILE.py)")


def _function(spec: str, file: Path, name: str) -> Callable[..., object]:
    module_spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    assert module_spec and module_spec.loader  # as of any path that ends in .py
    module = importlib.util.module_from_spec(module_spec)
    with _told(spec, file, name):
        module_spec.loader.exec_module(module)
    if not callable(found := getattr(module, name, None)):
        raise InputError(f"{spec}: {file} defines no function {name}(), which returns the {_MADE[name]}")
    return found


@contextlib.contextmanager
def _told(spec: str, file: Path, function: str) -> Iterator[None]:
    """Makes an InputError of what a recipe's code raises: a user wrote it, and needs its line rather than ours."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{spec}: {error}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{spec}: {_place(error, file)}: {_words(error, function)}") from error


def _place(error: BaseException, file: Path) -> str:
    """Returns the file and the line where an error was raised: of the recipe, or of a file that does not parse."""
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return f"{error.filename}, line {error.lineno}" if error.lineno else str(error.filename)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _words(error: BaseException, function: str) -> str:
    """Returns an error in one line of words; of a config's own, the key that it has not and the nearest one."""
    if isinstance(error, SystemExit):
        return f"the {_WHAT[function]} ends the program; {function}() must return the {_MADE[function]}"
    try:
        message = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    except Exception:  # an exception of the recipe's own that fails to describe itself
        message = ""
    if isinstance(error, AttributeError | KeyError):
        if near := re.search(r'Did you mean "(\w+)" instead of "(\w+)"', message):
            return f"the config has no key '{near[2]}' here, did you mean '{near[1]}'?"
        if absent := re.match(r'\W*Key "(\w+)" does not exist', message):
            return f"the config has no key '{absent[1]}' here"
    return f"{type(error).__name__}: {message[:_LONGEST]}" if message else type(error).__name__
