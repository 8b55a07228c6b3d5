"""The command `lrsclip serve`: the page of an archive, and its API."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from eval.command import add_subject, command_line, expanded, path, whole_number
from lrsclip_jax.errors import InputError, cli

EXAMPLES = """
examples:
  lrsclip serve INDEX
  lrsclip serve INDEX --port=8080 --background='https://tile.example.org/{z}/{x}/{y}.png'
  lrsclip serve INDEX --host=0.0.0.0 --token="$(openssl rand -hex 16)"

The page and its API answer at one address; /docs describes the API, GET /health tells whether the server works.
It needs no internet: the map shows the archive's own scenes, and a background map only if its URL is given.

Only this machine is answered, unless --host says otherwise; then every request needs the token, as the header
`Authorization: Bearer TOKEN` or by opening /?token=TOKEN once, which leaves a cookie. Use HTTPS in front of it where
others can listen in.

The content security policy of the page: own files alone, no inline code, no eval, no HTML from strings.

exit status: 0 done, 2 bad input (one line says what and where), 130 stopped by Ctrl-C
"""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.search.page") -> None:
    """Serves the page until it is stopped."""
    flags = parser(prog).parse_args(arguments)
    check(flags)
    from lrsclip_jax.search.page.serving import serve  # imports the web server, for which --help should not wait

    serve(flags)


def check(flags: argparse.Namespace) -> None:
    """Raises InputError for options that can't be."""
    if flags.token is not None and not re.fullmatch(r"[\x21-\x7e]{8,}", flags.token):
        raise InputError("--token: expected at least 8 letters, digits or signs without spaces")
    if flags.background is None:
        return
    if not re.match(r"https?://[\w.{}-]+(:\d+)?/", flags.background) or re.search(r"[\s;,'\"<>]", flags.background):
        raise InputError(f"--background={flags.background}: expected a URL such as https://host/{{z}}/{{x}}/{{y}}.png")
    if missing := [part for part in ("{z}", "{x}", "{y}") if part not in flags.background]:
        raise InputError(f"--background={flags.background}: {missing[0]} is missing in it")


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program."""
    parse = command_line(
        prog,
        "Serves a page that searches an archive by text and image and shows the answers on a map.",
        EXAMPLES,
        usage="INDEX [--host=HOST] [--port=PORT] [--token=TOKEN] [--background=URL] [--checkpoint=SRC]",
    )
    add_subject(parse, "index", metavar="INDEX", help="a folder that `lrsclip index` made", type=path)
    add = parse.add_argument
    add(
        "--host", default="127.0.0.1", metavar="HOST", help="the address to answer at (%(default)s: this machine alone)"
    )
    add("--port", type=whole_number(0, 65535), default=8600, metavar="PORT", help="0 for any free one (%(default)s)")
    add("--token", metavar="TOKEN", help="what requests must carry; needed with a --host that others reach")
    add("--background", metavar="URL", help="tiles of a map below the scenes, with {z}, {x} and {y}")
    add("--checkpoint", metavar="SRC", type=expanded, help="weights, where they have moved since the index was made")
    return parse


if __name__ == "__main__":
    cli(main)
