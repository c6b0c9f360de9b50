"""The Hub, through huggingface_hub: its tree at one commit, and commits that are made once whatever goes wrong.

An upload looks at the branch, works out what is missing there, and commits that on top of what it saw. After every
failure it looks again: a commit whose answer was lost is then found, one that is still under way can't land on top of
ours (the Hub refuses a commit whose parent is not the branch's head), and a branch that others moved is read anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_url, set_client_factory
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from splatdag.hub.failures import Patience, refuse_long_waits
from splatdag.hub.layout import Scene
from splatdag.hub.options import UploadOptions
from splatdag.hub.pages import readable_size
from splatdag.hub.rrd_files import HEADER_BYTES
from splatdag.hub.tree import Content, Tree
from splatdag.workflow.lock import lock
from splatdag.workflow.user_cache import user_cache

logger = logging.getLogger(__name__)


class HubTree:
    """A repository's tree at one commit."""

    def __init__(self, hub: Hub, commit: str, scene: Scene) -> None:
        self.hub, self.commit = hub, commit
        self._files = {**hub.listed("", commit), **hub.listed(scene.folder, commit)}

    def sizes(self, folder: str) -> dict[str, int]:
        """Implement `Tree.sizes`."""
        inside = {path: file.size for path, file in self._files.items() if path.rpartition("/")[0] == folder}
        return {path.rpartition("/")[2]: size for path, size in inside.items()}

    def has(self, path: str, content: Content) -> bool:
        """Implement `Tree.has` by size and hash: SHA-256 of large files, git's SHA-1 of others."""
        file = self._files.get(path)
        if file is None or file.size != content.size:
            return False
        return file.lfs.sha256 == content.sha256 if file.lfs else file.blob_id == content.git_oid()

    def text(self, path: str) -> str | None:
        """Implement `Tree.text`."""
        return self.hub.read(path, self.commit).decode(errors="replace") if path in self._files else None

    def head(self, path: str) -> bytes:
        """Implement `Tree.head`."""
        return self.hub.head_of(path, self.commit, self._files[path].blob_id)


class Hub:
    """One branch of a repository."""

    def __init__(self, options: UploadOptions, token: str) -> None:
        assert options.repo_id is not None
        self.options, self.repo_id = options, options.repo_id
        self.api = HfApi(token=token)
        self._repo: dict[str, Any] = {"repo_id": options.repo_id, "repo_type": options.repo_type}
        self._headers = build_hf_headers(token=token)
        self._heads: dict[str, bytes] = {}
        self._sent: dict[tuple[str, str], CommitOperationAdd] = {}
        set_client_factory(lambda: _client(options.timeout_s, options.patience_s))

    @property
    def address(self) -> str:
        """Address of the server, without a password that it may hold, since it is shown and written to files."""
        scheme, _, rest = self.api.endpoint.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    @property
    def root(self) -> str:
        """Prefix of the addresses of files on the branch."""
        prefix = "datasets/" if self.options.repo_type == "dataset" else ""
        return f"{self.address}/{prefix}{self.repo_id}/resolve/{quote(self.options.branch, safe='')}"

    def tree(self, scene: Scene) -> HubTree:
        """Read the tree of the branch as it is now; repository and branch are made if they are not there."""
        return HubTree(self, self._head(), scene)

    def _head(self) -> str:
        while True:
            try:
                info = self.api.repo_info(**self._repo, revision=self.options.branch, timeout=self.options.timeout_s)
                return str(info.sha)
            except RevisionNotFoundError:
                self.api.create_branch(**self._repo, branch=self.options.branch, exist_ok=True)
                logger.info("made the branch %s", self.options.branch)
            except RepositoryNotFoundError as error:
                if error.response.status_code == 401:
                    raise
                self.api.create_repo(**self._repo, private=self.options.private, exist_ok=True)
                logger.info("made the %s repository %s", self.options.repo_type, self.repo_id)

    def listed(self, folder: str, commit: str) -> dict[str, RepoFile]:
        """List files by path: those in the root, or all below a folder; none if it is not there."""
        try:
            found = self.api.list_repo_tree(
                **self._repo, path_in_repo=folder or None, revision=commit, recursive=bool(folder)
            )
            return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}
        except EntryNotFoundError:
            return {}

    def read(self, path: str, commit: str, first_bytes: int | None = None) -> bytes:
        """Read a file of a commit, or its first bytes."""
        url = hf_hub_url(**self._repo, filename=path, revision=commit, endpoint=self.api.endpoint)
        ranged = {"Range": f"bytes=0-{first_bytes - 1}"} if first_bytes else {}
        response = get_session().get(url, headers=self._headers | ranged)
        hf_raise_for_status(response)
        return bytes(response.content)

    def head_of(self, path: str, commit: str, blob: str) -> bytes:
        """Read the first bytes of a recording, which hold its version, once per content."""
        if blob not in self._heads:
            self._heads[blob] = self.read(path, commit, HEADER_BYTES)
        return self._heads[blob]

    def commit(self, changes: Mapping[str, Content], parent: str, message: str) -> str:
        """Send files that the Hub's storage lacks and commit if the branch is still at `parent`; returns the commit."""
        operations = [self._operation(path, content) for path, content in changes.items()]
        info = self.api.create_commit(
            **self._repo,
            operations=operations,
            commit_message=message,
            revision=self.options.branch,
            parent_commit=parent,
        )
        return info.oid

    def _operation(self, path: str, content: Content) -> CommitOperationAdd:
        """Return a file's operation, the same object in all attempts, since it knows whether the file was sent."""
        operation = self._sent.get((path, content.sha256))
        if operation is None:
            operation = CommitOperationAdd(path_in_repo=path, path_or_fileobj=content.source)
            operation.upload_info.sha256 = bytes.fromhex(content.sha256)
            self._sent[path, content.sha256] = operation
        return operation

    def publish(self, scene: Scene, changes_of: Callable[[Tree], dict[str, Content]], message: str) -> str:
        """Commit the changes of a scene once; returns the commit at which the branch has all of them.

        Raises:
            UserError: token, repository or branch are not right.
            HubFailure: the Hub did not take it in time.
        """
        patience = Patience(self.options, self.address)
        with self._alone():
            while True:
                try:
                    tree = self.tree(scene)
                    changes = changes_of(tree)
                    if not changes:
                        logger.info("%s: %s", scene, patience.nothing_to_do)
                        return tree.commit
                    logger.info("%s: committing %s", scene, _told(changes))
                    return self.commit(changes, tree.commit, message)
                except Exception as error:
                    patience.after(error)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other uploads on this machine from the branch meanwhile: theirs would be refused and repeated."""
        what = f"{self.api.endpoint} {self.options.repo_type} {self.repo_id} {self.options.branch}"
        path = user_cache() / "hub" / f"{hashlib.blake2b(what.encode(), digest_size=8).hexdigest()}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            if not lock(file):
                logger.info("waiting for another upload to %s", self.repo_id)
                lock(file, wait=True)
            yield  # where there are no locks, the Hub refuses the later one of two commits


def _client(timeout_s: float, patience_s: float) -> httpx2.Client:
    """Return a client whose requests all have a time limit; huggingface_hub's own may wait for ever."""
    timeout = httpx2.Timeout(timeout_s).as_dict()

    def limit(request: httpx2.Request) -> None:
        given = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = timeout | {key: value for key, value in given.items() if value is not None}

    hooks: dict[str, list[Callable[..., Any]]] = {"request": [limit], "response": [refuse_long_waits(patience_s)]}
    return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None)


def _told(changes: Mapping[str, Content]) -> str:
    names = [path if path.endswith("README.md") else path.rpartition("/")[2] for path in changes]
    return f"{', '.join(names)} ({readable_size(sum(content.size for content in changes.values()))})"
