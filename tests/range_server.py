"""An HTTP server of a folder that answers requests for ranges, counts its bytes, and can stall in the middle of one.

It is a process of its own: GDAL, in the test's process, may hold Python's lock while it waits for an answer.
"""

import multiprocessing
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_bool
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class Served:
    """What a test may look at and change: bytes sent, the files' ETag, whether they stall, how often they break."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        kinds = {"port": "i", "sent": "q", "etag": "i", "drops": "i"}
        self._values = {name: context.Value(kind, 0) for name, kind in kinds.items()}
        self._stalls = context.Value(c_bool, False)
        self._ready = context.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._values['port'].value}"

    @property
    def sent(self) -> int:
        return self._values["sent"].value

    @sent.setter
    def sent(self, count: int) -> None:
        self._values["sent"].value = count

    def stall(self, yes: bool = True) -> None:
        """Files whose name begins with "stall" send but the first 50 bytes of a range that is not their first."""
        self._stalls.value = yes

    def drop(self, times: int) -> None:
        """The next answers of files whose name begins with "drop" end in the middle, as a lost connection does."""
        self._values["drops"].value = times

    def change(self) -> None:
        """Gives all files another ETag."""
        self._values["etag"].value += 1


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serves a folder on a free port of this machine."""
    served = Served()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(folder, served._values, served._stalls, served._ready), daemon=True
    )
    process.start()
    try:
        assert served._ready.wait(60)
        yield served
    finally:
        process.kill()
        process.join()


def _serve(folder: Path, values: dict[str, Any], stalls: Any, ready: Any) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer(head=True)

        def do_GET(self):
            self.answer(head=False)

        def answer(self, head):
            path = folder / unquote(urlsplit(self.path).path).lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            tag = f'"{values["etag"].value}"'
            if self.headers.get("If-None-Match") == tag:
                self.send_response(304)
                self.send_header("ETag", tag)
                self.end_headers()
                return
            data = path.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start, stop = 0, len(data)
            if asked:
                start, stop = int(asked[1]), min(int(asked[2] or stop) + 1, stop)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", tag)
            self.end_headers()
            if head:
                return
            stall = stalls.value and start > 0 and path.name.startswith("stall")
            part = data[start : start + 50] if stall else data[start:stop]
            if drops := path.name.startswith("drop") and values["drops"].value > 0:
                values["drops"].value -= 1
                part = part[: len(part) // 2]
            with values["sent"].get_lock():
                values["sent"].value += len(part)
            try:
                self.wfile.write(part)
                if stall:
                    threading.Event().wait(60)
                self.close_connection = self.close_connection or drops
            except OSError:  # the client has given up
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    values["port"].value = server.server_port
    ready.set()
    server.serve_forever()
