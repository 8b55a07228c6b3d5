"""Recipes as files: found by name or path, called with their argument. Nothing imports them as modules."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lrsclip_jax.errors import InputError, nearest


def call(spec: str, folders: Sequence[Path]) -> object:
    """Returns what `get_config` of a recipe returns.

    Args:
      spec: NAME or FILE.py, and behind a colon the argument of `get_config`. NAME is that of a file NAME.py, in the
        working directory or one of the folders; the first that is there is called.
      folders: where recipes are found by name.

    Raises:
      InputError: there is no such recipe, it takes no argument or needs one, or its code fails; the line begins with
        `spec`, and names the file and the line where code fails.
    """
    file, argument = _find(spec, folders)
    get_config = _get_config(spec, file)
    parameters = inspect.signature(get_config).parameters.values()
    if argument and not parameters:
        raise InputError(f"{spec}: get_config() of {file} takes no argument '{argument}'")
    if not argument and (needed := [p.name for p in parameters if p.default is p.empty]):
        raise InputError(f"{spec}: the recipe needs its {needed[0]}, write {spec.rstrip(':')}:{needed[0].upper()}")
    with _in_one_line(spec, file):
        return get_config(argument) if argument else get_config()


def shipped() -> tuple[Path, ...]:
    """Returns the folders of training recipes: configs/ here, and the package's own.

    The package has them in lrsclip_jax/recipes where it was installed from a wheel, and in configs/ in a checkout.
    """
    package = Path(__file__).parent
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
    with _in_one_line(spec, file):
        module_spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise InputError(f"{spec}: {file} has no get_config()")
    return module.get_config


@contextlib.contextmanager
def _in_one_line(spec: str, file: Path) -> Iterator[None]:
    """Makes an InputError of what a recipe's code raises: a user wrote it, and needs its line rather than ours."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{spec}: {error}") from error
    except (Exception, SystemExit) as error:
        place, said = str(file), _words(error)
        numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
        if isinstance(error, SyntaxError):
            place, said = str(error.filename or file), error.msg
            numbers = [error.lineno]
        line = f", line {numbers[-1]}" if numbers and numbers[-1] else ""
        raise InputError(f"{spec}: {place}{line}: {type(error).__name__}: {said:.300}") from error


def _words(error: BaseException) -> str:
    """Returns an error's text in one line; of a ConfigDict's without the values of all other keys."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    said = " ".join(" ".join(map(str, inner.args)).split())
    return re.sub(r" Other fields present: .*?(?= Did you mean|$)", "", said)
