"""The hub's HTTP interface, as far as fetching a checkpoint needs it, on this machine."""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "google/paligemma-tiny"


@dataclass
class Hub:
    """What it holds, and what goes wrong. ``asked`` are the requests: method, path, Range."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main", "float16", COMMIT)
    token: str | None = None
    gated: bool = False
    break_after: int | None = None
    hold_after: int | None = None
    wrong_bytes: bool = False
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.held, self.go_on = threading.Event(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fetched(self, name: str) -> list[str]:
        """The Range of each request for a file's bytes."""
        return [asked for method, path, asked in self.asked if method == "GET" and path.endswith(f"/{name}")]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None: ...

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def _serve(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append((self.command, path, self.headers.get("Range", "")))
            repository = f"(?:/api/models)?/{NAME}"
            if not re.match(repository, path):
                self._refuse(401, "RepoNotFound", "Repository not found")
            elif hub.token and self.headers.get("authorization") != f"Bearer {hub.token}":
                self._refuse(401, "RepoNotFound", "Invalid username or password.")
            elif hub.gated and "/resolve/" in path:
                self._refuse(403, "GatedRepo", "Access to this model is restricted.")
            elif found := re.fullmatch(rf"{repository}/(?:revision|tree|resolve)/([^/]+)(?:/(.*))?", path):
                self._of_revision(found[1], found[2], "/tree/" in path)
            else:
                self._refuse(404, "EntryNotFound", "Entry not found")

        def _of_revision(self, revision: str, name: str | None, tree: bool) -> None:
            if revision not in hub.revisions:
                self._refuse(404, "RevisionNotFound", "Invalid rev id")
            elif tree:
                rows = [{"type": "file", "path": each, "size": len(data), "oid": _etag(each, data)} for each, data in hub.files.items()]
                self._send(json.dumps(rows).encode())
            elif not name:
                siblings = [{"rfilename": each} for each in hub.files]
                self._send(json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode())
            elif name not in hub.files:
                self._refuse(404, "EntryNotFound", "Entry not found")
            else:
                self._file(name, hub.files[name])

        def _file(self, name: str, data: bytes) -> None:
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(name, data)}"', "Accept-Ranges": "bytes"}
            if self.command == "HEAD":
                self._send(data, headers)
                return
            start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
            rest = data[start:]
            if hub.wrong_bytes and name.endswith(".safetensors"):
                rest = bytes(len(rest))
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send_response(206 if start else 200)
            for key, value in {**headers, "Content-Length": str(len(rest))}.items():
                self.send_header(key, value)
            self.end_headers()
            if hub.break_after is not None and name.endswith(".safetensors"):
                self.wfile.write(rest[: hub.break_after])
                self.close_connection = True
                return
            if hub.hold_after is not None and len(rest) > hub.hold_after:
                self.wfile.write(rest[: hub.hold_after])
                hub.held.set()
                hub.go_on.wait()
                self.close_connection = True
                return
            self.wfile.write(rest)

        def _send(self, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(200)
            for key, value in {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _refuse(self, status: int, code: str, message: str) -> None:
            self.send_response(status)
            for key, value in {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0"}.items():
                self.send_header(key, value)
            self.end_headers()

    return Handler


def _etag(name: str, data: bytes) -> str:
    """Large files are named by their SHA-256, small ones by git's own sum."""
    return hashlib.sha256(data).hexdigest() if name.endswith(".safetensors") else hashlib.sha1(data).hexdigest()
