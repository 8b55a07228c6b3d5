"""An HTTP server of a folder that answers requests for ranges, counts its bytes, and can stall in the middle of one."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Served:
    """What a test may look at and change: bytes sent, requests, the names of files that stall, the ETag of all."""

    def __init__(self, url: str):
        self.url, self.sent, self.requests = url, 0, 0
        self.stalls: set[str] = set()
        self.etag = "one"
        self.over = threading.Event()


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serves a folder on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer(head=True)

        def do_GET(self):
            self.answer(head=False)

        def answer(self, head):
            served.requests += 1
            path = folder / unquote(urlsplit(self.path).path).lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
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
            self.send_header("ETag", f'"{served.etag}"')
            self.end_headers()
            if head:
                return
            part = data[start:stop]
            if path.name in served.stalls and start > 0:
                part = part[:50]
            served.sent += len(part)
            try:
                self.wfile.write(part)
                self.wfile.flush()
                if path.name in served.stalls and start > 0:
                    served.over.wait(60)
                    self.close_connection = True
            except OSError:  # the client has given up
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Served(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.over.set()
        server.shutdown()
        server.server_close()
