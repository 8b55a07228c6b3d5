"""How the page refuses: a status and one plain sentence, never a trace, never a path of the server."""

from __future__ import annotations

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lrsclip_jax.errors import InputError, nearest

log = logging.getLogger("lrsclip.page")
_SHOWN = 80  # characters of a value that are said back
_KINDS = {
    "missing": "it is missing",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "float_parsing": "expected a number",
    "date_from_datetime_parsing": "expected a date such as 2024-05-31",
    "date_parsing": "expected a date such as 2024-05-31",
}


class Refusal(Exception):
    """An answer of status 4xx or 503. Its text is one sentence for a person."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


def install(app: FastAPI, folder: str) -> None:
    """Makes every error of an app one sentence, {"error": …}.

    Args:
      app: whose handlers are set.
      folder: of the index; no answer names it.
    """

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return sentence(error.status, str(error))

    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: InputError) -> JSONResponse:
        return sentence(400, _capital(str(error).replace(folder, "the index")))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        said = {
            404: f"There is nothing at {shown(request.url.path)}; /docs lists what there is.",
            405: f"This address does not answer {shown(request.method)}; /docs says what does.",
        }
        answer = sentence(error.status_code, said.get(error.status_code, str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return sentence(422, _first(error.errors()[0], _parameters(app, request)))

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        return sentence(500, "This is a fault of the server; its log says more.")


def sentence(status: int, text: str) -> JSONResponse:
    """Returns the answer of an error."""
    return JSONResponse({"error": text}, status, {"Cache-Control": "no-store"})


def _capital(text: str) -> str:
    """A message of the package as a sentence."""
    ended = text if text.endswith((".", "?", "…")) else f"{text}."
    return ended[0].upper() + ended[1:]


def shown(value: Any) -> str:
    """Returns a value of a request as a message may repeat it: one line, short, printable."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _parameters(app: FastAPI, request: Request) -> list[str]:
    """The names that a request's path knows."""
    path = getattr(request.scope.get("route"), "path", "")
    operations = app.openapi()["paths"].get(path, {}).values()
    return [parameter["name"] for operation in operations for parameter in operation.get("parameters", ())]


def _first(error: dict[str, Any], known: list[str]) -> str:
    """The first of pydantic's errors as a sentence."""
    name = str(error["loc"][1] if len(error["loc"]) > 1 else error["loc"][-1])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        meant = nearest(name, known)
        return f"Unknown parameter {shown(name)}{meant or '; /docs lists those that there are.'}"
    if kind in _KINDS:
        said = _KINDS[kind]
    elif kind in ("less_than_equal", "greater_than_equal"):
        said = f"expected at {'most' if 'le' in context else 'least'} {context.get('le', context.get('ge'))}"
    elif kind == "too_long":
        said = f"expected at most {context['max_length']} of them"
    elif kind == "string_too_long":
        said = f"expected at most {context['max_length']:,} characters"
    elif kind == "literal_error" or kind == "enum":
        said = f"expected {context['expected']}"
    elif kind == "value_error":
        said = str(context.get("error", "wrong"))
    else:
        said = re.sub(r"^Input should", "it should", str(error["msg"]))
    value = error.get("input")
    given = f"={shown(value)}" if kind != "missing" and isinstance(value, str | int | float) else ""
    return f"Parameter {shown(name)[1:-1]}{given}: {said.rstrip('.')}."
