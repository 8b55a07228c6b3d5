"""A stand-in of the Hugging Face Hub that takes models: users, repositories, uploads in one commit."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USERS = {"hf_of_me": {"name": "me", "orgs": [{"name": "my-lab"}]}}
COMMIT = "c0ffee" * 6 + "c0de"


class WritableHub:
    """What tests look at and change: repositories {name: {"private": …, "files": …}}, requests, and what fails."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {"me/public": {"private": False, "files": {}}}
        self.requests: list[str] = []
        self.fails_at = ""  # the end of a path whose connection breaks
        self.refuses_at = ""  # of one that is answered by 403
        self.url = ""


@contextmanager
def serving() -> Iterator[WritableHub]:
    hub = WritableHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.requests.append(f"{self.command} {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            user = USERS.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
            if hub.fails_at and path.endswith(hub.fails_at):
                self.close_connection = True
                return self.connection.close()
            if user is None:
                return self.answer(401, {"error": "Invalid credentials"})
            if hub.refuses_at and path.endswith(hub.refuses_at):
                return self.answer(403, {"error": "Forbidden"})
            return self.answer(*self.of(path, body, user))

        do_POST = do_HEAD = do_GET

        def of(self, path: str, body: bytes, user: dict[str, Any]) -> tuple[int, Any]:
            if path == "/api/whoami-v2":
                return 200, user
            if path == "/api/validate-yaml":
                return 200, {"errors": [], "warnings": []}
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization') or user['name']}/{asked['name']}"
                if name in hub.repositories:
                    return 409, {"error": "exists", "url": f"{hub.url}/{name}"}
                private = bool(asked.get("private")) or asked.get("visibility") == "private"
                hub.repositories[name] = {"private": private, "files": {}}
                return 200, {"url": f"{hub.url}/{name}", "id": name, "name": name}
            _, _, kind, *parts = path.split("/")
            name, rest = "/".join(parts[:2]), parts[2:]
            found = hub.repositories.get(name)
            if kind != "models" or found is None:
                return 404, {"error": "Repository not found"}
            if rest[:1] == ["preupload"]:
                paths = (file["path"] for file in json.loads(body)["files"])
                return 200, {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]}
            if rest[:1] == ["commit"]:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        found["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                return 200, {"commitUrl": f"{hub.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
            return 200, {"id": name, "sha": COMMIT, "private": found["private"], "siblings": []}

        def answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
