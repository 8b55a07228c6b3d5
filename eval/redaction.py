"""Takes secrets out of texts that are kept or shown: keys of servers, and what addresses hold of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

MARK = "…"
_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW", re.IGNORECASE)  # of environment variables
_SHORTEST = 6  # a shorter value is a word of its own ("true", "none")
_USER = re.compile(r"(?<=://)[^\s/@?#\"']+@")
_QUERY = re.compile(r"([?&][\w.-]*(?:key|token|secret|sig|signature|passw\w*|auth\w*)=)[^&\s\"'#)]+", re.IGNORECASE)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Returns a text without secrets, each replaced by "…".

    Args:
      text: any text, such as what a server says.
      secrets: to be taken out, as they are. In addition the values of environment variables that are called as keys
        are, and in addresses user:password@ and the values of ?key= and the like.
    """
    kept = [value for name, value in os.environ.items() if _NAMES.search(name) and len(value) >= _SHORTEST]
    for secret in sorted({*kept, *filter(None, secrets)}, key=len, reverse=True):
        text = text.replace(secret, MARK)
    return _QUERY.sub(rf"\g<1>{MARK}", _USER.sub(f"{MARK}@", text))
