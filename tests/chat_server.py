"""A real HTTP server in this process that speaks OpenAI's chat completions, and as badly as a test wants."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    """What came in: the body, the text of the user's message, and when."""

    body: Mapping[str, Any]
    prompt: str
    headers: Mapping[str, str]
    at: float


@dataclass(frozen=True)
class Reply:
    """What goes out, after so many seconds; with `drop` the connection closes instead, `raw` is the whole body."""

    text: str = "a river between green fields"
    finish: str = "stop"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    drop: bool = False
    message: str = "as the test wants it"
    raw: bytes | None = None


class ChatServer:
    """Serves `reply(call, times that this prompt came before)` as a context manager, and remembers all calls."""

    def __init__(self, reply: Callable[[Call, int], Reply] = lambda call, before: Reply()):
        self._reply = reply
        self._lock = threading.Lock()
        self._in_flight = 0
        self.calls: list[Call] = []
        self.answered: Counter[str] = Counter()
        self.most_in_flight = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients hang up in these tests
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def asked(self) -> Counter[str]:
        """How often each prompt came."""
        return Counter(call.prompt for call in self.calls)

    def __enter__(self) -> ChatServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def _counted(self, call: Call):
        with self._lock:
            before = self.asked[call.prompt]
            self.calls.append(call)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            yield before
        finally:
            with self._lock:
                self._in_flight -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                content = body["messages"][-1]["content"]
                prompt = content if isinstance(content, str) else content[-1]["text"]
                call = Call(body, prompt, dict(self.headers), time.monotonic())
                if self.path != "/v1/chat/completions":
                    self._send(Reply(status=404), {"error": {"message": f"no {self.path} here"}})
                    return
                with server._counted(call) as before:
                    reply = server._reply(call, before)
                    time.sleep(reply.seconds)
                if reply.drop:
                    self.close_connection = True
                elif reply.status != 200:
                    self._send(reply, {"error": {"message": reply.message}})
                else:
                    self._send(reply, _completion(body["model"], reply))
                    with server._lock:
                        server.answered[prompt] += 1

            def _send(self, reply: Reply, answer: Mapping[str, Any]) -> None:
                data = json.dumps(answer).encode() if reply.raw is None else reply.raw
                self.send_response(reply.status)
                for name, value in {"content-type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                if "transfer-encoding" not in reply.headers:
                    self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _completion(model: str, reply: Reply) -> Mapping[str, Any]:
    message = {"role": "assistant", "content": reply.text}
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
