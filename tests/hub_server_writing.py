"""How the Hub of `hub_server` answers who makes repositories and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import unquote


def answer_post(request: Any) -> None:
    """Do what is asked for, if the token may write; `request` is the handler."""
    hub = request.hub
    token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
    if token not in hub.writers:
        request.send(403 if token else 401, b"")
        return
    path, _, _ = request.path.partition("?")
    if path == "/api/repos/create":
        _create(request)
    elif path == "/api/validate-yaml":
        request.send_json({"errors": [], "warnings": []})
    elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
        _batch(request)
    elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/([^/]+)", path):
        if not request.may_not(found[1]):
            _of_repository(request, found[1], found[2], unquote(found[3]))
    else:
        request.send(404, b"")


def store_object(request: Any) -> None:
    """Take a large file whose place was told by `_batch`."""
    sha256 = hashlib.sha256(request.body).hexdigest()
    if request.path != f"/upload/{sha256}":
        request.send(400, b"")
        return
    request.hub.objects[sha256] = request.body
    request.send(200, b"")


def _create(request: Any) -> None:
    wanted = json.loads(request.body)
    repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
    is_there = repo in request.hub.repositories
    if not is_there:
        request.hub.repositories[repo] = {".gitattributes": b""}
        if wanted.get("private") or wanted.get("visibility") == "private":
            request.hub.readers[repo] = next(iter(request.hub.writers))
    request.send_json({"url": f"{request.hub.url}/{repo}"}, 409 if is_there else 200)


def _batch(request: Any) -> None:
    objects = []
    for wanted in json.loads(request.body)["objects"]:
        entry = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in request.hub.objects:
            entry["actions"] = {"upload": {"href": f"{request.hub.url}/upload/{wanted['oid']}"}}
        objects.append(entry)
    request.send_json({"transfer": "basic", "objects": objects})


def _of_repository(request: Any, repo: str, action: str, revision: str) -> None:
    if action == "branch":
        is_there = revision in request.hub.revisions
        request.hub.revisions += () if is_there else (revision,)
        request.send_json({}, 409 if is_there else 200)
    elif action == "preupload":
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(request.body)["files"]
        ]
        request.send_json({"files": files})
    elif action == "commit":
        _commit(request, repo)
    else:
        request.send(404, b"")


def _commit(request: Any, repo: str) -> None:
    hub = request.hub
    if hub.meanwhile is not None:
        hub.meanwhile()
        hub.meanwhile = None
    lines = [json.loads(line) for line in request.body.splitlines()]
    (header,) = [line["value"] for line in lines if line["key"] == "header"]
    if header.get("parentCommit") not in (None, hub.head_of(repo)):
        request.send(412, b"")
        return
    files = hub.repositories[repo]
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = hub.objects[value["oid"]]
    commit = hashlib.sha1(request.body).hexdigest()
    hub.heads[repo] = commit
    request.send_json({"commitUrl": f"{hub.url}/{repo}/commit/{commit}", "commitOid": commit})
