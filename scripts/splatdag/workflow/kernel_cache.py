"""Where numba keeps compiled kernels: one folder per state of their sources."""

from __future__ import annotations

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
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_writable_cache() / "splatdag" / f"kernels-{digest.hexdigest()}"))


def _writable_cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        (folder / "splatdag").mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return folder if os.access(folder / "splatdag", os.W_OK) else Path(tempfile.gettempdir())
