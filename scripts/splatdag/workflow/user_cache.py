"""What is remembered between processes of one user: compiled kernels, one folder per state of their sources."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_WITH_KERNELS = ("samples", "splats")


def use_kernel_cache() -> None:
    """Point numba at a folder named after the content of all modules with kernels; call before importing numba.

    Numba itself looks only at the file that a kernel is called from, so that an edit in a file it calls into
    would run the old code.
    """
    digest = hashlib.blake2b(digest_size=8)
    for area in _WITH_KERNELS:
        for path in sorted((_PACKAGE / area).rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    os.environ.setdefault("NUMBA_CACHE_DIR", str(user_cache() / f"kernels-{digest.hexdigest()}"))


@functools.cache
def user_cache() -> Path:
    """A folder that can be written to and may be deleted at any time: `~/.cache/splatdag`, or a temporary one."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "splatdag"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="splatdag-"))
    except OSError:
        return Path(tempfile.mkdtemp(prefix="splatdag-"))
