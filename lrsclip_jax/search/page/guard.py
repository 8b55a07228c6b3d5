"""Who may ask, and what a browser may do with the answers: the layer around every request.

Without a token only names of this machine itself are answered: a page elsewhere whose name leads to 127.0.0.1 (DNS
rebinding) is refused by the Host header. With one, every request carries it as `Authorization: Bearer …` or as the
cookie that `/?token=…` sets. The cookie is no copy of the token, and a browser keeps it for the one host.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "lrsclip_page"
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.IGNORECASE)
# Answered to anyone who reaches the server: no word of the archive is in it.
_OPEN = ("/health",)
_BACK = "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=0><title>One moment</title><p>One moment …"
_ASK = (  # {rest}: the search that was asked for
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<link rel=icon href=data:,><link rel=stylesheet href=/static/page.css><title>Token needed</title>"
    "<body class=door><form method=get action=/><h1>This archive asks for its token</h1>"
    "<p>Whoever started the page has it.</p>{rest}"
    "<label>Token <input type=password name=token autofocus required></label>"
    "<button>Open</button></form>"
)


def is_loopback(host: str) -> bool:
    """Returns whether a host that a server listens on is reached from its own machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def policy(background: str | None) -> str:
    """Returns the content security policy: own files alone, no inline code, no HTML from strings.

    Args:
      background: the URL of a background map's tiles, whose origin may then be asked for images.
    """
    images = "'self' blob: data:"  # heat maps; Leaflet's empty picture of a tile that is no longer wanted
    if background:
        parts = urlsplit(background)
        host = re.sub(r"\{s\}", "*", parts.netloc)
        images += f" {parts.scheme}://{host}"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src {images}",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types default",
        )
    )


class Guard:
    """ASGI middleware that lets requests in as the module says and sets the headers of every answer.

    Args:
      app: what answers.
      token: None: only loopback names are answered, and everything is.
      background: as for `policy`.
    """

    def __init__(self, app: App, token: str | None = None, background: str | None = None):
        self._app = app
        self._token = token
        self._cookie = token and hmac.new(token.encode(), b"lrsclip page", hashlib.sha256).hexdigest()
        self._headers = [
            (name.encode(), value.encode())
            for name, value in {
                "content-security-policy": policy(background),
                "cross-origin-opener-policy": "same-origin",
                "cross-origin-resource-policy": "same-origin",
                "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
                # Public tile servers want to know the site that asks, and get no more than that.
                "referrer-policy": "strict-origin-when-cross-origin" if background else "no-referrer",
                "x-content-type-options": "nosniff",
                "x-frame-options": "DENY",
            }.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on; websockets are closed."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        answer = self._refusal(scope, headers)
        if answer is None:
            await self._app(scope, receive, sending)
            return
        status, kind, body, more = answer
        length = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        cache = [(b"cache-control", b"no-store")]
        await sending({"type": "http.response.start", "status": status, "headers": [*length, *cache, *more]})
        await sending({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, bytes, list] | None:
        """What is answered instead of the app; None where the app may answer."""
        found = _HOST.fullmatch(headers.get("host", ""))
        if not found or (self._token is None and found[1].lower() not in _LOCAL):
            return _said(421, "This server does not answer to that host name.")
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
        navigation = scope["method"] == "GET" and mode == "navigate"
        if site not in ("none", "same-origin") and not navigation:
            return _said(403, "A page of another site asked for this.")
        if self._token is None or scope["path"] in _OPEN or scope["path"] == "/static/page.css":
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token")
        if given is not None and scope["path"] == "/":
            return self._door(given, [pair for pair in query if pair[0] != "token"], headers)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self._token):
            return None
        if _same(_cookie(headers.get("cookie", "")), self._cookie or ""):
            return None
        if scope["path"] != "/":
            return _said(401, "This archive asks for its token.", [(b"www-authenticate", b"Bearer")])
        if site == "cross-site":  # a strict cookie stays away from a link in a mail; the next request brings it
            return 200, "text/html; charset=utf-8", _BACK.encode(), []
        return _asked(query)

    def _door(self, given: str, rest: list, headers: dict[str, str]) -> tuple[int, str, bytes, list]:
        """The token in an address becomes a cookie, and the address loses it."""
        if not _same(given, self._token or ""):
            return _asked(rest)
        secure = "; Secure" if headers.get("x-forwarded-proto") == "https" else ""
        cookie = f"{COOKIE}={self._cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000{secure}"
        target = f"/?{urlencode(rest)}" if rest else "/"
        return 303, "text/plain", b"", [(b"location", target.encode()), (b"set-cookie", cookie.encode())]


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _asked(rest: list[tuple[str, str]]) -> tuple[int, str, bytes, list]:
    fields = "".join(f'<input type=hidden name="{escape(name)}" value="{escape(value)}">' for name, value in rest)
    body = _ASK.replace("{rest}", fields).encode()
    return 401, "text/html; charset=utf-8", body, [(b"www-authenticate", b"Bearer")]


def _said(status: int, text: str, more: list | None = None) -> tuple[int, str, bytes, list]:
    return status, "application/json", f'{{"error":"{text}"}}'.encode(), more or []
