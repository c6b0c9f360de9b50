"""Backends of stages: what each is, what it needs, and whether that is on this machine."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatdag.workflow.errors import UserError
from splatdag.workflow.options import Options
from splatdag.workflow.weights import Weights

_PASSED_ON = (
    *("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "PATH", "LD_LIBRARY_PATH", "CC", "CXX"),
    *("CUDA_*", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"),
    *("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR"),
)
"""Environment variables that every upstream gets. Others may be secrets, or meant for our own Python."""
_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Environment variables set for every upstream: nothing is downloaded while a GPU waits; weights were checked."""


class Installation(Options):
    """Installation of an upstream on this machine."""

    checkout: str | None = None
    """Folder of its git checkout."""
    python: str | None = None
    """Python interpreter of its own environment."""
    weights: str | None = None
    """Folder of its weights."""
    variables: tuple[str, ...] = ()
    """Names of environment variables that it gets beside the usual ones; secrets are passed on only by name."""


@dataclass(frozen=True)
class Upstream:
    """A program that others publish, driven by a script of ours under its own Python.

    The script gets the path of `request.json` as its argument and runs in that file's folder, with the checkout on
    PYTHONPATH. The request holds `digest`, `checkout`, `weights` (name to folder), `device`, `threads` and `options`.
    The script writes its files into the folder and, last, `result.json` with the same `digest` and any other values.
    """

    repository: str
    """Address to clone."""
    revision: str
    """Commit that the script was written for, or version of the package."""
    entry: Path
    """The script."""
    python_version: str
    """Version of Python for its environment, such as `3.10`."""
    requirements: tuple[str, ...]
    """Arguments of `pip install` in its environment; `{checkout}` stands for the checkout."""
    modules: tuple[str, ...]
    """Top-level modules that its Python must find."""
    key: str
    """Key of its installation in the config, such as `upstreams.vggt`."""
    installed: Installation
    """Installation on this machine."""
    package: str = ""
    """Name of the distribution, where pip installs it and there is no checkout."""
    variables: tuple[str, ...] = ()
    """Names of environment variables that it gets in every installation, beside `Installation.variables`."""
    resumes: bool = False
    """True if the script continues from files of an earlier attempt; else each attempt begins in an empty folder."""

    def checkout(self) -> Path | None:
        """Return the folder of the checkout, absolute; None where there is none."""
        checkout = self.installed.checkout
        return Path(checkout).absolute() if checkout and not self.package else None

    def python(self) -> Path | None:
        """Return its interpreter, absolute; a link is not resolved, since Python finds its environment by the link."""
        return Path(self.installed.python).absolute() if self.installed.python else None

    def install_lines(self) -> list[str]:
        """Return shell commands that make checkout and environment where the config expects them, or in this folder."""
        clone = str(self.checkout() or self.repository.rstrip("/").rpartition("/")[2].removesuffix(".git"))
        python = self.python() or Path(f"{clone}-env", "bin", "python").absolute()
        requirements = [requirement.format(checkout=clone) for requirement in self.requirements]
        fetch = [["git", "clone", self.repository, clone], ["git", "-C", clone, "checkout", self.revision]]
        make = [
            [f"python{self.python_version}", "-m", "venv", str(python.parent.parent)],
            [str(python), "-m", "pip", "install", *requirements],
        ]
        return [shlex.join(words) for words in (make if self.package else fetch + make)]


@dataclass(frozen=True)
class Backend:
    """One way to do the work of a stage: embedded, which is code of ours, or an upstream."""

    name: str
    rules: tuple[str, ...]
    """Rules in whose jobs it works."""
    weights: tuple[Weights, ...] = ()
    upstream: Upstream | None = None
    """Program that does the work; None if the backend is embedded."""
    host_mb: int | None = None
    """Memory that it needs beside its inputs, in MB; None where nobody has measured it."""
    gpu_mb: int | None = None
    """GPU memory that it needs, in MB."""
    proven: bool = False
    """Whether it was seen to work with its real weights."""
    proof: str = ""
    """Evidence that it works, with the date or the test; if it is not proven, the evidence so far."""
    without: str = ""
    """Consequence of missing weights, if that is no error: `LPIPS is left out`."""

    def identity(self) -> dict[str, Any]:
        """Return what its results depend on (name, revision, script, weights), for digests of requests and rules."""
        upstream = self.upstream
        return {
            "name": self.name,
            "revision": upstream and upstream.revision,
            "entry": upstream and hashlib.sha256(upstream.entry.read_bytes()).hexdigest(),
            "weights": [[weights.name, weights.revision, weights.files] for weights in self.weights],
        }


def environment(upstream: Upstream, device: str = "cpu", threads: int = 1) -> dict[str, str]:
    """Return environment variables for an upstream's Python: those passed on, and paths with its own folders first."""
    named = {*upstream.variables, *upstream.installed.variables}
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in named or any(fnmatch.fnmatchcase(name, pattern) for pattern in _PASSED_ON)
    }
    checkout, python = upstream.checkout(), upstream.python()
    own = str(Path(sys.executable).parent)
    paths = [str(python.parent)] if python else []
    paths += [path for path in passed.get("PATH", os.defpath).split(os.pathsep) if path not in ("", own, *paths)]
    settings = {"PATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}
    if checkout:
        settings["PYTHONPATH"] = str(checkout)
    if device == "cpu":
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return {**_SETTINGS, **passed, **settings}


@dataclass(frozen=True)
class Part:
    """Requirement of a backend on this machine, and whether it is met."""

    what: str
    """Name of the requirement: `checkout`, `interpreter`, or that of weights."""
    state: str
    """State in a word or two: `found, 3.10.4`, `missing`."""
    problem: str = ""
    """Reason why it can't be used, with its path or key; empty where it can."""


def parts(backend: Backend) -> list[Part]:
    """Check checkout, interpreter and weights of a backend on this machine, as far as it needs them."""
    upstream = backend.upstream
    own = [] if upstream is None else [*([] if upstream.package else [_checkout(upstream)]), _interpreter(upstream)]
    return [*own, *(_weights(weights, upstream) for weights in backend.weights)]


def _weights(weights: Weights, upstream: Upstream | None) -> Part:
    if weights.folder is None and upstream is not None:
        return _not_set(weights.name, upstream, "weights")
    return Part(weights.name, *weights.check())


def _not_set(what: str, upstream: Upstream, key: str) -> Part:
    return Part(what, "not set", f"not set ({upstream.key}.{key})")


def _checkout(upstream: Upstream) -> Part:
    folder = upstream.checkout()
    if folder is None:
        return _not_set("checkout", upstream, "checkout")
    if not folder.is_dir():
        return Part("checkout", "missing", f"missing: {folder}")
    try:
        revision, edits = _git(upstream, "rev-parse", "HEAD"), _git(upstream, "status", "--porcelain", "-uno")
    except OSError:
        return Part("checkout", "found, revision unknown (no git)")
    if not revision:
        return Part("checkout", "found, revision unknown (no git repository)")
    if revision.startswith(upstream.revision):
        return Part("checkout", f"found, {revision[:7]}" + (" with edits" if edits else ""))
    difference = f"is at {revision[:7]}, expected {upstream.revision[:7]}"
    return Part("checkout", f"at {revision[:7]}", f"{folder} {difference}")


def _git(upstream: Upstream, *words: str) -> str:
    """Return the output of git in a checkout, also one of another user; empty if the folder itself is no repository."""
    folder = upstream.checkout()
    assert folder is not None
    command = ["git", "--no-optional-locks", "-c", f"safe.directory={folder}", "-C", str(folder), *words]
    variables = environment(upstream) | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(command, capture_output=True, text=True, env=variables).stdout.strip()


_LOOK = """
import importlib.metadata, importlib.util, json, platform, sys
package, *modules = sys.argv[1:]
try:
    version = importlib.metadata.version(package) if package else ""
except importlib.metadata.PackageNotFoundError:
    version = None
absent = [module for module in modules if importlib.util.find_spec(module) is None]
print(json.dumps([platform.python_version(), version, absent]))
"""


def _interpreter(upstream: Upstream) -> Part:
    python = upstream.python()
    if python is None:
        return _not_set("interpreter", upstream, "python")
    if not python.is_file() or not os.access(python, os.X_OK):
        return Part("interpreter", "missing", f"missing: {python}")
    command = [str(python), "-c", _LOOK, upstream.package, *upstream.modules]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment(upstream), cwd="/")
        version, package, absent = json.loads(done.stdout)
    except (OSError, ValueError) as error:
        return Part("interpreter", "does not run", f"{python} is no Python that runs ({type(error).__name__})")
    if absent:
        return Part("interpreter", "incomplete", f"{python} has no module {', '.join(absent)}")
    if upstream.package and package != upstream.revision:
        difference = f"has {upstream.package} {package}, expected {upstream.revision}"
        return Part("interpreter", f"has {package}", f"{python} {difference}")
    return Part("interpreter", f"found, {version}")


def check_installed(backends: Iterable[Backend], rules: Collection[str] | None = None) -> None:
    """Stop before any work, and before a GPU is waited for, where a backend can't be run.

    Args:
        backends: those that a config names; those that can be done without (`without`) are not checked.
        rules: rules whose jobs are to run, if not all; the backends of other rules are not checked.

    Raises:
        UserError: a line per backend: what is missing, and what to do.
    """
    needed = [
        backend
        for backend in backends
        if not backend.without and (rules is None or any(rule in rules for rule in backend.rules))
    ]
    problems = {backend.name: [part for part in parts(backend) if part.problem] for backend in needed}
    lines = [
        f"{name} can't be run: {'; '.join(f'{part.what}: {part.problem}' for part in missing)};"
        " `snakemake check_checkpoints` says what to do"
        for name, missing in problems.items()
        if missing
    ]
    if lines:
        raise UserError("\n".join(lines))
