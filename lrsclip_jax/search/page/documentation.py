"""The page /docs: the server's OpenAPI description as plain HTML, without scripts, so that it works offline."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: API</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/page.css">
</head>
<body class="paper">
<main>
<h1>{title}</h1>
<p>{about}</p>
<p><a href="/openapi.json">openapi.json</a> says the same to programs. <a href="/">The page</a></p>
{paths}
</main>
</body>
</html>
"""


def page(openapi: Mapping[str, Any]) -> str:
    """Returns the HTML of an OpenAPI description."""
    info = openapi["info"]
    paths = "".join(
        _operation(method, path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    )
    return _FRAME.format(title=escape(info["title"]), about=escape(info.get("description", "")), paths=paths)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(map(_parameter, operation.get("parameters", ())))
    table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    return (
        f'<section><h2><span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code></h2>'
        f"<p><strong>{escape(operation.get('summary', ''))}.</strong> {escape(operation.get('description', ''))}</p>"
        f"{table}</section>"
    )


def _parameter(parameter: Mapping[str, Any]) -> str:
    schema = parameter.get("schema", {})
    notes = [] if not parameter.get("required") else ["required"]
    if schema.get("default") not in (None, []):
        notes.append(f"default {schema['default']}")
    kind = f"<small>{escape(_kind(schema))}{escape(''.join(f', {note}' for note in notes))}</small>"
    said = parameter.get("description") or schema.get("description") or ""
    return f"<tr><th scope=row><code>{escape(parameter['name'])}</code></th><td>{escape(said)} {kind}</td></tr>"


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema's type in words."""
    if "anyOf" in schema:
        return " or ".join(_kind(some) for some in schema["anyOf"] if some.get("type") != "null")
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"{_kind(schema.get('items', {}))}, may be given several times"
    names = {"integer": "whole number", "string": "text", "number": "number"}
    kind = {"date": "date"}.get(schema.get("format", ""), names.get(schema.get("type", ""), "value"))
    low, high = schema.get("minimum"), schema.get("maximum")
    return f"{kind} from {low} to {high}" if low is not None and high is not None else kind
