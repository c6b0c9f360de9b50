"""What the Hub of tests answers to each request."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_store import CHUNK, Entry, Refused

if TYPE_CHECKING:
    from support.local_hub import LocalHub


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body_bytes: int


class HubHandler(BaseHTTPRequestHandler):
    """Answers one connection; `hub` is set in a derived class."""

    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        self.unread = int(self.headers.get("Content-Length") or 0)
        self.hub.requests.append(Request(self.command, url.path, self.unread))
        fault = self.hub.next_fault(self.command, url.path)
        self.lost = fault is not None and (fault.lose or fault.drop)
        try:
            if fault is not None and fault.before:
                fault.before()
            if fault is None or not (fault.drop or fault.status):
                self._route(url.path)
            elif fault.status:
                self._answer({"error": "as the test wants it"}, fault.status, fault.headers, fault.text)
        except Refused as refused:
            headers = {"X-Error-Message": refused.message} | ({"X-Error-Code": refused.code} if refused.code else {})
            self._answer({"error": refused.message}, refused.status, headers)
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True
        finally:
            if fault is not None:
                fault.dealt_with.set()
        if self.lost or self.unread:
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_GET

    def _route(self, path: str) -> None:
        for pattern, action in _ROUTES:
            if match := re.fullmatch(pattern, path):
                return action(self, *(unquote(part) if part else part for part in match.groups()))
        raise Refused(404, f"no such address: {self.command} {path}")

    def _body(self) -> bytes:
        data, self.unread = self.rfile.read(self.unread), 0
        return data

    def _json(self) -> Any:
        return json.loads(self._body() or b"{}")

    def _answer(
        self, value: Any = None, status: int = 200, headers: dict[str, str] | None = None, text: bytes | None = None
    ) -> None:
        data = text or json.dumps({} if value is None else value).encode()
        self._start(status, {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})})
        if self.command != "HEAD" and not self.lost:
            self.wfile.write(data)

    def _start(self, status: int, headers: dict[str, str]) -> None:
        if self.lost:
            return
        self.send_response(status)
        if self.unread:  # nobody is to ask again on this connection
            self.send_header("Connection", "close")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _check(self, key: str | None, write: bool) -> None:
        """Who asks must be allowed to; an unknown token is refused everywhere, as on the Hub."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        role = self.hub.tokens.get(given)
        if given and role is None:
            raise Refused(401, "Invalid credentials in Authorization header")
        repository = self.hub.store.repositories.get(key) if key else None
        if repository is not None and repository.private and role is None:
            raise Refused(401, "Repository not found", "RepoNotFound")
        if write and role is None:
            raise Refused(401, "Invalid username or password.")
        if write and role != "write":
            raise Refused(403, "you must use a write token")

    def _create(self) -> None:
        self._check(None, write=True)
        given = self._json()
        kind, repo_id = given.get("type") or "model", f"{given['organization']}/{given['name']}"
        key = f"{kind}/{repo_id}"
        made = self.hub.store.create(key, given.get("visibility") == "private" or bool(given.get("private")))
        self._answer({"url": f"{self.hub.url}/{kind}s/{repo_id}", "id": repo_id}, 200 if made else 409)

    def _validate(self) -> None:
        self._body()
        self._answer({"errors": [], "warnings": []})

    def _branch(self, kind: str, repo_id: str, branch: str) -> None:
        self._check(None, write=True)
        self._body()
        repository = self.hub.store.find(f"{kind}/{repo_id}")
        if branch in repository.branches:
            raise Refused(409, "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._answer()

    def _revision(self, kind: str, repo_id: str, revision: str) -> None:
        self._check(f"{kind}/{repo_id}", write=False)
        commit = self.hub.store.find(f"{kind}/{repo_id}").at(revision)
        names = [{"rfilename": path} for path in commit.files]
        self._answer({"_id": "1", "id": repo_id, "sha": commit.oid, "private": False, "siblings": names, "tags": []})

    def _tree(self, kind: str, repo_id: str, revision: str, folder: str | None) -> None:
        self._check(f"{kind}/{repo_id}", write=False)
        files = self.hub.store.find(f"{kind}/{repo_id}").at(revision).files
        prefix = f"{folder}/" if folder else ""
        below = {path: entry for path, entry in files.items() if path.startswith(prefix)}
        if prefix and not below:
            raise Refused(404, f"{folder} does not exist", "EntryNotFound")
        rows: dict[str, dict[str, Any]] = {}
        for path, entry in sorted(below.items()):
            first, *deeper = path.removeprefix(prefix).split("/")
            if deeper:
                rows[prefix + first] = {"type": "directory", "path": prefix + first, "oid": "0" * 40, "size": 0}
            if not deeper or self.query.get("recursive", "").lower() == "true":
                rows[path] = _row(path, entry)
        start = int(self.query.get("cursor", 0))
        page = list(rows.values())[start : start + self.hub.page_size]
        more = start + self.hub.page_size
        recursive = self.query.get("recursive", "")
        link = f'<{self.hub.url}{urlsplit(self.path).path}?recursive={recursive}&cursor={more}>; rel="next"'
        self._answer(page, headers={"Link": link} if more < len(rows) else {})

    def _preupload(self, kind: str, repo_id: str, revision: str) -> None:
        self._check(f"{kind}/{repo_id}", write=True)
        files = self.hub.store.find(f"{kind}/{repo_id}").at(revision).files
        rows = []
        for given in self._json()["files"]:
            there, large = files.get(given["path"]), given["size"] >= self.hub.lfs_from
            rows.append(
                {
                    "path": given["path"],
                    "uploadMode": "lfs" if large and b"\0" in base64.b64decode(given["sample"]) else "regular",
                    "shouldIgnore": False,
                    "oid": there and (there.sha256 if there.is_lfs else there.oid),
                }
            )
        self._answer({"files": rows})

    def _commit(self, kind: str, repo_id: str, branch: str) -> None:
        self._check(f"{kind}/{repo_id}", write=True)
        header, added = {}, {}
        for item in map(json.loads, self._body().splitlines()):
            value = item["value"]
            if item["key"] == "header":
                header = value
            elif item["key"] == "file":
                added[value["path"]] = self.hub.store.regular(base64.b64decode(value["content"]))
            else:
                assert item["key"] == "lfsFile", item["key"]
                added[value["path"]] = self.hub.store.large(value["oid"])
        key = f"{kind}/{repo_id}"
        oid = self.hub.store.commit(key, branch, added, header["summary"], header.get("parentCommit"))
        self._answer({"commitOid": oid, "commitUrl": f"{self.hub.url}/{kind}s/{repo_id}/commit/{oid}"})

    def _batch(self, kind: str | None, repo_id: str) -> None:
        self._check(None, write=True)
        rows = []
        for given in self._json()["objects"]:
            row, at = dict(given), f"{self.hub.url}/storage/{given['oid']}"
            if not self.hub.store.blob(given["oid"]).is_file():
                header = {}
                parts = -(-given["size"] // self.hub.part_size)
                if given["size"] >= self.hub.multipart_from:
                    header = {"chunk_size": str(self.hub.part_size)}
                    header |= {f"{n:05}": f"{at}/part/{n}?X-Signature=signed" for n in range(1, parts + 1)}
                href = f"{at}/complete" if header else f"{at}?X-Signature=signed"
                verify = {"href": f"{at}/verify", "header": {}}
                row["actions"] = {"upload": {"href": href, "header": header}, "verify": verify}
            rows.append(row)
        self._answer({"transfer": "basic", "objects": rows})

    def _storage(self, oid: str, part: str | None) -> None:
        name = f"{oid}-{part}" if part else ""
        size, self.unread = self.unread, 0
        sha256 = self.hub.store.keep(self.rfile, size, name)
        if not part and sha256 != oid:
            raise Refused(400, "not the content of that hash")
        self._answer(headers={"ETag": f'"{sha256}"'})

    def _complete(self, oid: str) -> None:
        parts = [f"{oid}-{part['partNumber']}" for part in self._json()["parts"]]
        if self.hub.store.join(oid, parts) != oid:
            self.hub.store.blob(oid).unlink()
            raise Refused(400, "the parts are not the content of that hash")
        self._answer()

    def _verify(self, oid: str) -> None:
        size = self._json()["size"]
        blob = self.hub.store.blob(oid)
        self._answer(status=200 if blob.is_file() and blob.stat().st_size == size else 404)

    def _resolve(self, kind: str | None, repo_id: str, revision: str, path: str) -> None:
        key = f"{kind or 'model'}/{repo_id}"
        self._check(key, write=False)
        commit = self.hub.store.find(key).at(revision)
        entry = commit.files.get(path)
        if entry is None:
            raise Refused(404, "Entry not found", "EntryNotFound")
        etag = entry.sha256 if entry.is_lfs else entry.oid
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{etag}"', "Access-Control-Allow-Origin": "*"}
        if entry.is_lfs:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(entry.size)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]) if wanted and wanted[2] else entry.size - 1, entry.size - 1)
        headers["Content-Length"] = str(last - first + 1)
        self._start(206 if wanted else 200, headers)
        with self.hub.store.blob(entry.sha256).open("rb") as file:
            file.seek(first)
            left = 0 if self.command == "HEAD" or self.lost else last - first + 1
            while left > 0:
                data = file.read(min(CHUNK, left))
                self.wfile.write(data)
                left -= len(data)


def _row(path: str, entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "file", "path": path, "oid": entry.oid, "size": entry.size}
    return row | ({"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}} if entry.is_lfs else {})


_REPO = r"/api/(model|dataset)s/([^/]+/[^/]+)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    ("/api/repos/create", HubHandler._create),
    ("/api/validate-yaml", HubHandler._validate),
    (rf"{_REPO}/branch/([^/]+)", HubHandler._branch),
    (rf"{_REPO}/revision/([^/]+)", HubHandler._revision),
    (rf"{_REPO}/tree/([^/]+)(?:/(.+))?", HubHandler._tree),
    (rf"{_REPO}/preupload/([^/]+)", HubHandler._preupload),
    (rf"{_REPO}/commit/([^/]+)", HubHandler._commit),
    (r"/(?:(dataset)s/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", HubHandler._batch),
    (r"/storage/([0-9a-f]{64})(?:/part/(\d+))?", HubHandler._storage),
    (r"/storage/([0-9a-f]{64})/complete", HubHandler._complete),
    (r"/storage/([0-9a-f]{64})/verify", HubHandler._verify),
    (r"/(?:(dataset)s/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", HubHandler._resolve),
]
