"""A Hub on this machine for tests: the part of its HTTP interface that uploads and downloads use, with faults.

Made by watching what huggingface_hub 2.4.0 asks for. It has LFS storage and no Xet.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.hub_handler import HubHandler, Request
from support.hub_store import Repository, Store


@dataclass
class Fault:
    """What goes wrong with the next requests that match."""

    method: str
    path: str
    """Regular expression, looked for in the path."""
    times: int = 1
    status: int = 0
    """Answer with this instead of doing what was asked."""
    headers: dict[str, str] | None = None
    text: bytes | None = None
    """Body of that answer."""
    before: Callable[[], None] | None = None
    """Called before the request is looked at: waits, or moves a branch."""
    lose: bool = False
    """Do what was asked, and end the connection without an answer."""
    drop: bool = False
    """End the connection without doing anything."""
    dealt_with: threading.Event = field(default_factory=threading.Event)
    """Set once a request that matched was answered or given up."""


class LocalHub:
    """A server on a port of its own, in this process.

    Args:
        folder: for blobs.
        lfs_from: files of so many bytes or more that are no text go to LFS.
        multipart_from: LFS files of so many bytes or more are sent in parts of `part_size`.
        page_size: entries of a listing's page.
    """

    def __init__(
        self,
        folder: Path,
        lfs_from: int = 1_000,
        multipart_from: int = 100_000,
        part_size: int = 40_000,
        page_size: int = 3,
    ) -> None:
        self.store = Store(folder)
        self.lfs_from, self.multipart_from, self.part_size = lfs_from, multipart_from, part_size
        self.page_size = page_size
        self.tokens = {"hf_writer": "write", "hf_reader": "read"}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        handler = type("Handler", (HubHandler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> LocalHub:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, token: str | None = "hf_writer") -> dict[str, str]:
        """What makes huggingface_hub talk to this Hub."""
        found = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        return found | ({"HF_TOKEN": token} if token else {})

    def fail(self, method: str, path: str, **how: Any) -> Fault:
        self.faults.append(Fault(method, path, **how))
        return self.faults[-1]

    def repository(self, repo_id: str, kind: str = "dataset") -> Repository:
        return self.store.find(f"{kind}/{repo_id}")

    def contents(self, repo_id: str, branch: str = "main") -> dict[str, bytes]:
        """The files of a branch."""
        files = self.repository(repo_id).at(branch).files
        return {path: self.store.blob(entry.sha256).read_bytes() for path, entry in files.items()}

    def sent(self) -> int:
        """Bytes of files and commits that were sent here so far."""
        return sum(r.body_bytes for r in self.requests if r.method == "PUT" or "/commit/" in r.path)

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self.store.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None
