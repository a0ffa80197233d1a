"""A small server on 127.0.0.1 that answers as the Hugging Face Hub does, or goes wrong as asked."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote

from hub_server_writing import answer_post, store_object

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HTML = b"<!doctype html><title>Log in to the network</title>"


@dataclass
class FakeHub:
    """Serves `repositories` while it is used as a context manager.

    `trouble` makes answers go wrong: "html" (a login page with status 200), "html body" (the same
    in place of a file whose headers were right), "body" (right headers, wrong bytes), "cut" (the
    connection ends in the middle of the file, and nothing of the rest comes), "cut once" (what is
    asked for afterwards comes), "hang up" (no answer at all), "hang" (an answer only when the
    server ends), "gated", "denied" (401), or an HTTP status as a number.
    """

    repositories: dict[str, dict[str, bytes]]
    revisions: tuple[str, ...] = ("main", COMMIT)
    trouble: str | int | None = None
    trouble_left: int = 10**6
    """How many answers go wrong yet."""
    retry_after: str | None = None
    """What an answer with a status as its trouble says of it."""
    readers: dict[str, str] = field(default_factory=dict)
    """Private repositories, and the token that may read each."""
    writers: set[str] = field(default_factory=set)
    """Tokens that may write."""
    elsewhere: str | None = None
    """Where the content of files is: another server, to which is redirected."""
    bytes_per_second: int | None = None
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    ranges: list[str] = field(default_factory=list)
    """The Range headers of GET requests for files."""
    heads: dict[str, str] = field(default_factory=dict)
    """The last commit of repositories that were pushed to."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files that were uploaded, by SHA-256."""
    meanwhile: Callable[[], None] | None = None
    """Called once before a commit is taken: somebody else is faster."""

    def __enter__(self) -> FakeHub:
        hub = self
        self.ended = threading.Event()

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False  # who hangs is not waited for
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def head_of(self, repo: str) -> str:
        """The commit that the branches of a repository are at."""
        return self.heads.get(repo, COMMIT)

    def take_trouble(self) -> str | int | None:
        """What goes wrong with this answer."""
        if self.trouble is None or self.trouble_left < 1:
            return None
        self.trouble_left -= 1
        return self.trouble


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:  # the name that http.server calls
        self._answer()

    def do_GET(self) -> None:  # the name that http.server calls
        self._answer()

    def do_POST(self) -> None:  # the name that http.server calls
        self._answer()

    def do_PUT(self) -> None:  # the name that http.server calls
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Keep standard error quiet; `requests` has it all."""

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        self.hub.tokens.add(self.headers.get("Authorization"))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        of_the_body = ("body", "html body", "cut", "cut once")
        self.trouble = None if self.hub.trouble in of_the_body else self.hub.take_trouble()
        if self.trouble == "hang":
            self.hub.ended.wait(60)
        if self.trouble in ("hang up", "hang"):
            self.close_connection = True
        elif self.trouble == "html":
            self.send(200, HTML, {"Content-Type": "text/html"})
        elif self.trouble == "denied":
            message = "Invalid credentials in Authorization header"
            self.send(401, b"", {"X-Error-Message": message})
        elif self.trouble == "gated":
            self.send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif isinstance(self.trouble, int):
            after = self.hub.retry_after
            self.send(self.trouble, b"", {} if after is None else {"Retry-After": after})
        elif self.command == "POST":
            answer_post(self)
        elif self.command == "PUT":
            store_object(self)
        else:
            self._serve()

    def _serve(self) -> None:
        path, _, _ = self.path.partition("?")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._list(found[1], unquote(found[2]))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self._describe(found[1], unquote(found[2] or "main"))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], unquote(found[2]), unquote(found[3]))
        else:
            self.send(404, b"")

    def may_not(self, repo: str) -> bool:
        """Whether a repository is missing or closed to who asks; if so, say it."""
        token = self.hub.readers.get(repo)
        closed = token is not None and self.headers.get("Authorization") != f"Bearer {token}"
        if repo not in self.hub.repositories or closed:
            # The Hub does not tell a missing repository from a private one.
            self.send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return True
        return False

    def _missing(self, repo: str, revision: str) -> bool:
        """Whether the repository or the revision is missing; if so, say it."""
        if self.may_not(repo):
            return True
        if revision not in (*self.hub.revisions, self.hub.head_of(repo)):
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return True
        return False

    def _list(self, repo: str, revision: str) -> None:
        if self._missing(repo, revision):
            return
        files = []
        for name, content in self.hub.repositories[repo].items():
            file = {"type": "file", "path": name, "size": len(content), "oid": _etag(content)[:40]}
            if name.endswith(".safetensors"):
                file["lfs"] = {"oid": _etag(content), "size": len(content), "pointerSize": 134}
            files.append(file)
        self.send_json(files)

    def _describe(self, repo: str, revision: str) -> None:
        if not self._missing(repo, revision):
            self.send_json({"_id": "1", "id": repo, "sha": self.hub.head_of(repo), "tags": []})

    def _file(self, repo: str, revision: str, name: str) -> None:
        if self._missing(repo, revision):
            return
        commit = self.hub.head_of(repo)
        content = self.hub.repositories[repo].get(name)
        if content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self.send(404, b"", headers)
            return
        headers = {
            "ETag": f'"{_etag(content)}"',
            "X-Linked-ETag": f'"{_etag(content)}"',
            "X-Linked-Size": str(len(content)),
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        if self.hub.elsewhere is not None:
            self.send(302, b"", {**headers, "Location": self.hub.elsewhere + self.path})
            return
        if self.command != "GET":
            self.send(200, content, headers)
            return
        wanted = self.headers.get("Range")
        self.hub.ranges.append(wanted or "")
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        first, last = (int(found[1]), int(found[2] or len(content))) if found else (0, len(content))
        part = content[first : last + 1]
        trouble = self.hub.take_trouble()
        if trouble == "cut once":
            trouble = "cut" if len(self.hub.ranges) == 1 else None
        if trouble == "cut":
            self._cut(part, headers, 206 if found else 200)
        elif trouble == "body":
            self.send(200, bytes(len(content)), headers)
        elif trouble == "html body":
            self.send(200, HTML, {"Content-Type": "text/html"})
        else:
            self.send(206 if found else 200, part, headers)

    def _cut(self, content: bytes, headers: dict[str, str], status: int) -> None:
        """Send half of the file at the first request, and nothing of the rest afterwards."""
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status == 200:
            self.wfile.write(content[: len(content) // 2])
        self.close_connection = True

    def send_json(self, value: object, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for header, value in (headers or {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        step = self.hub.bytes_per_second
        if step is None:
            self.wfile.write(body)
            return
        for start in range(0, len(body), max(step // 10, 1)):
            self.wfile.write(body[start : start + max(step // 10, 1)])
            time.sleep(0.1)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
