"""Cache of one user, shared by processes: compiled kernels, in one folder per state of their sources, and digests."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from splatdag.workflow.lock import lock

logger = logging.getLogger(__name__)

COMPILED_WITH = ("torch", "numba", "gsplat")
"""Packages whose update makes it necessary to compile again."""
_PACKAGE = Path(__file__).resolve().parent.parent
_WITH_KERNELS = ("samples", "splats/cpu")
"""Folders of all modules with kernels and of what these import (a test looks)."""


def use_kernel_cache() -> None:
    """Point numba at a folder named after the content of all modules with kernels; call before importing numba.

    Numba itself looks only at the file that a kernel is called from, so that an edit in a file it calls into
    would run the old code.
    """
    digest = hashlib.blake2b(str(_PACKAGE).encode(), digest_size=8)  # numba keeps kernels apart by their folder too
    for area in _WITH_KERNELS:
        for path in sorted((_PACKAGE / area).rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    os.environ.setdefault("NUMBA_CACHE_DIR", str(user_cache() / f"kernels-{digest.hexdigest()}"))


def ensure_kernels() -> None:
    """Compile all kernels, in a process of its own, before this one calls any.

    A kernel that a process has just compiled differs in the last bit from one that it loads, so a run that compiled
    would not be the same as one that did not. The lock lets one of several jobs compile and the others wait.
    """
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    done = folder / "complete"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        lock(file, wait=True)
        if not done.exists():
            logger.info("compiling the CPU kernels, once per version (about half a minute)")
            subprocess.run(
                [sys.executable, "-m", "splatdag.commands.compile_kernels"], check=True, stdout=subprocess.DEVNULL
            )


@functools.cache
def user_cache() -> Path:
    """Return a folder that is writable and may be deleted at any time: `~/.cache/splatdag`, or a temporary one."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "splatdag"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        pass
    folder = Path(tempfile.gettempdir()) / f"splatdag-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


if __name__ == "__main__":  # at installation, so that no job has to wait
    use_kernel_cache()
    ensure_kernels()
