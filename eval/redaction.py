"""Takes secrets out of texts that are kept or shown: keys of servers, and what addresses hold of them."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

MARK = "…"
_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)  # of environment variables
_SHORTEST = 6  # a shorter value is a word of its own ("true", "none")
_USER = re.compile(r"(?<=://)[^\s/@?#\"']+@")
_TELLING = r"[\w.-]*(?:key|token|secret|sig|signature|passw\w*|auth\w*)"
_QUERY = re.compile(rf"([?&]{_TELLING}=|--token[= ])[^&\s\"'#)]+", re.IGNORECASE)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Returns a text without secrets, each replaced by "…".

    Args:
      text: of a message or a log, such as what a server says.
      secrets: to be taken out, as they are. In addition the values of environment variables that are called as keys
        are, in addresses user:password@ and the values of ?key= and the like, and the value of an option --token.
    """
    kept = [value for name, value in os.environ.items() if _NAMES.search(name) and len(value) >= _SHORTEST]
    text = without(text, (*secrets, *kept))
    return _QUERY.sub(rf"\g<1>{MARK}", _USER.sub(f"{MARK}@", text))


def secrets_of(address: str) -> list[str]:
    """Returns what an address holds of secrets: password, "user:password" and its base64, values of ?key= and the like.

    Raises ValueError where it is no address.
    """
    parts = urlsplit(address)
    found = [value for name, value in parse_qsl(parts.query) if re.fullmatch(_TELLING, name, re.IGNORECASE)]
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        found += [unquote(parts.password or ""), pair, b64encode(pair.encode()).decode()]
    return list(filter(None, found))


def without(text: str, secrets: Iterable[str]) -> str:
    """Returns a text with "…" in place of each of the secrets, the longest first."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, MARK)
    return text
