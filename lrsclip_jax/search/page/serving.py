"""Starts the server: opens the index, takes the port, answers until a signal comes."""

from __future__ import annotations

import argparse
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING

from lrsclip_jax.errors import InputError
from lrsclip_jax.search.page.guard import App, is_loopback

if TYPE_CHECKING:
    import uvicorn

_LONGEST_ADDRESS = 1 << 17  # bytes of a request's head: a text of 2,000 words stands in it


def serve(flags: argparse.Namespace) -> None:
    """Serves the index of a parsed command line until SIGINT or SIGTERM."""
    if not is_loopback(flags.host) and flags.token is None:
        raise InputError(f"--host={flags.host} lets others in: give --token=TOKEN, which their requests must carry")
    try:
        import uvicorn

        from lrsclip_jax.search.page.app import app_of
        from lrsclip_jax.search.page.service import Service
    except ImportError as error:
        raise InputError(f"the page needs {error.name}: pip install 'lrsclip_jax[search]'") from None
    from lrsclip_jax import search

    service = Service(search.open(flags.index, flags.checkpoint))
    taken = listening(flags.host, flags.port)
    port = taken.getsockname()[1]
    print(greeting(service.facts, flags.host, port, flags.token is not None), flush=True)
    try:
        uvicorn.Server(settings(app_of(service, flags.token, flags.background))).run(sockets=[taken])
    except KeyboardInterrupt:
        if service.readiness.working:  # nothing stops JAX in its thread, and Python's own end would abort with it
            print("interrupted", file=sys.stderr, flush=True)
            os._exit(130)
        raise


def settings(app: App) -> uvicorn.Config:
    """Returns how an app is served."""
    import uvicorn

    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_level="warning",
        server_header=False,
        h11_max_incomplete_event_size=_LONGEST_ADDRESS,
        timeout_graceful_shutdown=3,
        limit_concurrency=512,
    )


def greeting(facts: dict, host: str, port: int, token: bool) -> str:
    """Returns what is printed at the start: the archive, and where to look at it."""
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{'localhost' if host in ('0.0.0.0', '::') else shown}:{port}/"
    said = f"{facts['tiles']:,} tiles of {facts['scenes']:,} scenes"
    door = "?token=… (your token) opens it once and for all" if token else "Ctrl-C ends it"
    return f"{said}: {address}{door if token else f'   {door}'}"


def listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; InputError where the port is taken or the host is not of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise InputError(f"--host={host}: no such host") from None
    taken = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix" and sys.platform != "cygwin":
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(128)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port} is in use: choose another --port, or stop what answers there") from None
        raise InputError(f"can't listen at {host}, port {port}: {error.strerror}") from None
    return taken
