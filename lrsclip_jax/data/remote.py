"""Rasters at an address, read by GDAL with requests for ranges of bytes: https://, http://, s3:// and gs://."""

from __future__ import annotations

import os
import re

_SCHEME = re.compile(r"(https?|s3|gs)://[^/]", re.IGNORECASE)
# A server that does not answer, or sends nothing for a while, ends a request. Who sets them in the environment knows
# better.
_OPTIONS = {
    "GDAL_CACHEMAX": 256_000_000,  # bytes of decoded blocks; GDAL would take a twentieth of the memory
    "GDAL_HTTP_CONNECTTIMEOUT": 15,
    "GDAL_HTTP_LOW_SPEED_TIME": 20,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 1,
}


def is_address(source: str) -> bool:
    """Returns whether a source is an address and no path."""
    return bool(_SCHEME.match(source))


def gdal_options() -> dict[str, str | int]:
    """Returns GDAL's settings for reading many scenes: neighbours are not looked for, and no request lasts for ever."""
    told = {name: value for name, value in _OPTIONS.items() if name not in os.environ}
    return {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", **told}


def network_reason(error: BaseException) -> str:
    """Returns why GDAL could not read what lies at an address, in one line."""
    said = []
    found: BaseException | None = error
    while found is not None:
        said.append(" ".join(str(found).split()))
        found = found.__cause__ or found.__context__
    if any("Read error" in words or "got 0 bytes" in words for words in said):
        return "the server stopped in the middle of it, or sent too little"
    telling = [words for words in said if re.search(r"HTTP|CURL|response|timed? ?out|resolve|connect", words)]
    return (telling or said)[-1][:200] or "no answer"
