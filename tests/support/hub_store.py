"""What a Hub keeps: blobs on disk, and repositories whose commits are whole trees."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Entry:
    """A file of a commit."""

    sha256: str
    oid: str
    """SHA-1 by which git names the content, or the pointer to it."""
    size: int
    is_lfs: bool


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    message: str
    files: dict[str, Entry]


@dataclass
class Repository:
    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        oid = self.branches.get(revision, revision)
        if oid not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, branch: str = "main") -> list[Commit]:
        """The commits of a branch, newest first, without the one that made the repository."""
        found, oid = [], self.branches[branch]
        while self.commits[oid].parent:
            found.append(self.commits[oid])
            oid = self.commits[oid].parent
        return found

    def commit(self, branch: str, added: dict[str, Entry], message: str, parent: str | None = None) -> str:
        """Commit files on top of a branch, which must be at `parent` if one is given."""
        head = self.branches.get(branch)
        if parent and head != parent:
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = {**(self.commits[head].files if head else {}), **added}
        oid = hashlib.sha1(f"{head} {message} {sorted(files.items())}".encode()).hexdigest()
        self.commits[oid] = Commit(oid, head, message, files)
        self.branches[branch] = oid
        return oid


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Store:
    """Blobs and repositories (by `<type>/<owner>/<name>`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.repositories: dict[str, Repository] = {}
        self.lock = threading.RLock()

    def blob(self, sha256: str) -> Path:
        return self.folder / sha256

    def keep(self, stream: BinaryIO, size: int, name: str = "") -> str:
        """Write a blob as it arrives; under `name` (a part of one), else under its hash, which is given back."""
        partial = self.folder / f"partial-{threading.get_ident()}"
        digest = hashlib.sha256()
        with partial.open("wb") as file:
            while size > 0:
                data = stream.read(min(CHUNK, size))
                if not data:
                    raise ConnectionError("the client went away")
                file.write(data)
                size -= len(data)
                if not name:
                    digest.update(data)
        partial.replace(self.blob(name or digest.hexdigest()))
        return name or digest.hexdigest()

    def join(self, sha256: str, parts: list[str]) -> str:
        """Put parts together; the hash of the whole."""
        digest = hashlib.sha256()
        with self.blob(sha256).open("wb") as whole:
            for part in parts:
                data = self.blob(part).read_bytes()
                digest.update(data)
                whole.write(data)
        return digest.hexdigest()

    def regular(self, data: bytes) -> Entry:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blob(sha256).write_bytes(data)
        return Entry(sha256, git_oid(data), len(data), False)

    def large(self, sha256: str) -> Entry:
        if not self.blob(sha256).is_file():
            raise Refused(400, f"LFS object {sha256} was never uploaded")
        size = self.blob(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Entry(sha256, git_oid(pointer.encode()), size, True)

    def find(self, key: str) -> Repository:
        if key not in self.repositories:
            raise Refused(404, "Repository not found", "RepoNotFound")
        return self.repositories[key]

    def create(self, key: str, private: bool = False) -> bool:
        """Make a repository; False if it is there. Tests look on from other threads: it is seen whole or not at all."""
        with self.lock:
            if key in self.repositories:
                return False
            repository = Repository(private)
            repository.commit("main", {".gitattributes": self.regular(b"*.rrd filter=lfs\n")}, "initial commit")
            self.repositories[key] = repository
            return True

    def commit(self, key: str, branch: str, added: dict[str, Entry], message: str, parent: str | None = None) -> str:
        """As `Repository.commit`, one after the other."""
        with self.lock:
            return self.find(key).commit(branch, added, message, parent)
