"""A small server on 127.0.0.1 that answers as the Hugging Face Hub does when a file is fetched."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HTML = b"<!doctype html><title>Log in to the network</title>"


@dataclass
class FakeHub:
    """Serves `repositories` while it is used as a context manager.

    `trouble` makes every answer go wrong: "html" (a login page with status 200), "body" (right
    headers, wrong bytes), "cut" (the connection ends in the middle of the file), "hang up" (no
    answer at all), "gated", "denied" (401), or an HTTP status as a number.
    """

    repositories: dict[str, dict[str, bytes]]
    revisions: tuple[str, ...] = ("main", COMMIT)
    trouble: str | int | None = None
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    def __enter__(self) -> FakeHub:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:  # the name that http.server calls
        self._answer()

    def do_GET(self) -> None:  # the name that http.server calls
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Keep standard error quiet; `requests` has it all."""

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        self.hub.tokens.add(self.headers.get("Authorization"))
        trouble = self.hub.trouble
        if trouble == "hang up":
            self.close_connection = True
        elif trouble == "html":
            self._send(200, HTML, {"Content-Type": "text/html"})
        elif trouble == "denied":
            message = "Invalid credentials in Authorization header"
            self._send(401, b"", {"X-Error-Message": message})
        elif trouble == "gated":
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif isinstance(trouble, int):
            self._send(trouble, b"")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/?]+)(\?.*)?", self.path):
            self._list(found[1], unquote(found[2]))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)", self.path):
            self._file(found[1], unquote(found[2]), unquote(found[3]))
        else:
            self._send(404, b"")

    def _missing(self, repo: str, revision: str) -> bool:
        """Whether the repository or the revision is missing; if so, say it."""
        if repo not in self.hub.repositories:
            # The Hub does not tell a missing repository from a private one.
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in self.hub.revisions:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def _list(self, repo: str, revision: str) -> None:
        if self._missing(repo, revision):
            return
        files = [
            {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
            for name, content in self.hub.repositories[repo].items()
        ]
        self._send(200, json.dumps(files).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, revision: str, name: str) -> None:
        if self._missing(repo, revision):
            return
        content = self.hub.repositories[repo].get(name)
        if content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            self._send(404, b"", headers)
            return
        headers = {
            "ETag": f'"{_etag(content)}"',
            "X-Linked-ETag": f'"{_etag(content)}"',
            "X-Linked-Size": str(len(content)),
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if self.hub.trouble == "cut" and self.command == "GET":
            self._cut(content, headers)
        elif self.hub.trouble == "body":
            self._send(200, bytes(len(content)), headers)
        else:
            self._send(200, content, headers)

    def _cut(self, content: bytes, headers: dict[str, str]) -> None:
        """Send half of the file at the first request, and nothing of the rest afterwards."""
        resumed = "Range" in self.headers
        self.send_response(206 if resumed else 200)
        for header, value in headers.items():
            self.send_header(header, value)
        half = len(content) // 2
        self.send_header("Content-Length", str(len(content) - half if resumed else len(content)))
        self.end_headers()
        if not resumed:
            self.wfile.write(content[:half])
        self.close_connection = True

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for header, value in (headers or {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
