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

from ml_collections import ConfigDict

from lrsclip_jax.config.values import shown
from lrsclip_jax.errors import InputError, nearest

_LONGEST = 300  # characters of an exception's message


def call(spec: str, folders: Sequence[Path]) -> ConfigDict:
    """Returns the config that `get_config` of a recipe returns.

    Args:
      spec: NAME or FILE.py, and behind a colon the argument of `get_config`. NAME is that of a file NAME.py, in the
        working directory or one of the folders; the first that is there is called.
      folders: where recipes are found by name.

    Raises:
      InputError: there is no such recipe, it takes no argument or needs one, its code fails, or it returns no config;
        the line begins with `spec`, and names the file and the line where code fails.
    """
    file, argument = _find(spec, folders)
    get_config = _get_config(spec, file)
    parameters = inspect.signature(get_config).parameters.values()
    if argument and not parameters:
        raise InputError(f"{spec}: get_config() of {file} takes no argument '{argument}'")
    if not argument and (needed := [p.name for p in parameters if p.default is p.empty]):
        raise InputError(f"{spec}: the recipe needs its {needed[0]}, write {spec.rstrip(':')}:{needed[0].upper()}")
    with _told(spec, file):
        config = get_config(argument) if argument else get_config()
    if not isinstance(config, ConfigDict):
        code = getattr(get_config, "__code__", None)
        place = f"{file}, line {code.co_firstlineno}" if code else str(file)
        raise InputError(f"{spec}: {place}: get_config() returns {shown(config)}, it must end with `return config`")
    return config


def shipped() -> tuple[Path, ...]:
    """Returns the folders of training recipes: configs/ here, and the package's own.

    The package has them in lrsclip_jax/recipes where it was installed from a wheel, and in configs/ in a checkout.
    """
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return Path("configs"), installed if installed.is_dir() else package.parent / "configs"


def _find(spec: str, folders: Sequence[Path]) -> tuple[Path, str]:
    """Returns a recipe's file and its argument, "" for none."""
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
    raise InputError(f"{spec}: no recipe {name}{nearest(name, known)} (there are {', '.join(known)}, or write FILE.py)")


def _get_config(spec: str, file: Path) -> Callable[..., object]:
    module_spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    assert module_spec and module_spec.loader  # as of any path that ends in .py
    module = importlib.util.module_from_spec(module_spec)
    with _told(spec, file):
        module_spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise InputError(f"{spec}: {file} defines no function get_config(), which returns the config")
    return module.get_config


@contextlib.contextmanager
def _told(spec: str, file: Path) -> Iterator[None]:
    """Makes an InputError of what a recipe's code raises: a user wrote it, and needs its line rather than ours."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{spec}: {error}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{spec}: {_place(error, file)}: {_words(error)}") from error


def _place(error: BaseException, file: Path) -> str:
    """Returns the file and the line where an error was raised: of the recipe, or of a file that does not parse."""
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return f"{error.filename}, line {error.lineno}" if error.lineno else str(error.filename)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _words(error: BaseException) -> str:
    """Returns an error in one line of words; of a config's own, the key that it has not and the nearest one."""
    if isinstance(error, SystemExit):
        return "the recipe ends the program; get_config() must return the config"
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
