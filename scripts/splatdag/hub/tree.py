"""Tree of published files, contents to publish in it, and a folder on disk as such a tree."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from splatdag.hub.layout import Scene
from splatdag.hub.rrd_files import HEADER_BYTES
from splatdag.workflow.publish import complete


@dataclass(frozen=True)
class Content:
    """A file's content that is to be published."""

    source: Path | bytes
    size: int
    """Size in bytes."""
    sha256: str
    """SHA-256 in hexadecimal digits."""

    def git_oid(self) -> str:
        """Compute the SHA-1 by which git names the content; reads the whole file."""
        data = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def text_content(text: str) -> Content:
    """Encode a page's text as content."""
    data = text.encode()
    return Content(data, len(data), hashlib.sha256(data).hexdigest())


class Tree(Protocol):
    """Published tree in its present state."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return names and sizes (bytes) of the files in a folder; empty if it is not there."""

    def has(self, path: str, content: Content) -> bool:
        """Tell whether that file is there with that content."""

    def text(self, path: str) -> str | None:
        """Read a page; None if it is not there."""

    def head(self, path: str) -> bytes:
        """Read the first bytes of a recording, which hold its version."""


class FolderTree:
    """Folder on this machine that stands in for the Hub."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def sizes(self, folder: str) -> dict[str, int]:
        """Implement `Tree.sizes`."""
        files = (self.root / folder).glob("[!.]*")
        return {path.name: path.stat().st_size for path in files if path.is_file()}

    def has(self, path: str, content: Content) -> bool:
        """Implement `Tree.has` by size and SHA-256; one file under two names needs no reading."""
        there = self.root / path
        if not there.is_file() or there.stat().st_size != content.size:
            return False
        if isinstance(content.source, Path) and there.samefile(content.source):
            return True
        with there.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == content.sha256

    def text(self, path: str) -> str | None:
        """Implement `Tree.text`."""
        there = self.root / path
        return there.read_text(encoding="utf-8") if there.is_file() else None

    def head(self, path: str) -> bytes:
        """Implement `Tree.head`."""
        with (self.root / path).open("rb") as file:
            return file.read(HEADER_BYTES)

    def write(self, changes: Mapping[str, Content], scene: Scene) -> None:
        """Put files in their places: recordings as links to the same data where the file system has them."""
        for path, content in changes.items():
            with complete(self.root / path) as temporary:
                if isinstance(content.source, bytes):
                    temporary.write_bytes(content.source)
                else:
                    _link_or_copy(content.source, temporary)


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
