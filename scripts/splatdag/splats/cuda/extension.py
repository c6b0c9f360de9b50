"""gsplat's CUDA module: compiled once per version of gsplat, Python and torch and per GPU architecture, for all jobs.

gsplat's wheel brings sources, which gsplat compiles when it is first used: every process for itself, in a folder that
all share, again after each installation. Here one process compiles and the others wait; jobs load what it made.
"""

from __future__ import annotations

import fcntl
import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch

from splatdag.workflow.digests import file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete, write_text
from splatdag.workflow.stage import FILE_ONLY
from splatdag.workflow.user_cache import user_cache

logger = logging.getLogger(__name__)
_NAME = "gsplat_cuda"
"""Name that gsplat's build gives the file and its init function."""
_IMPORTED = "gsplat.csrc"
"""Name under which gsplat looks for its module before it compiles one."""
_BUILD = "from gsplat.cuda._backend import _C; raise SystemExit(_C is None)"
_PROCESS_MB = 2_000
"""Memory (MB) of one nvcc on gsplat's largest file."""
_USUAL_HOME = Path("/usr/local/cuda")


def ensure_extension() -> Path | None:
    """Make gsplat's module ready for the current CUDA device; call before gsplat is imported.

    Returns:
        The file that was loaded.

    Raises:
        UserError: gsplat is not installed, or there is no module for this device and none can be compiled here.
    """
    if _IMPORTED in sys.modules:
        return None
    package = importlib.util.find_spec("gsplat")
    if package is None:
        raise UserError("gsplat is not installed; pip install -r envs/core.txt")
    found = importlib.machinery.PathFinder.find_spec("csrc", package.submodule_search_locations)
    if found is not None and found.origin is not None:
        try:
            return _load(_IMPORTED, Path(found.origin))
        except ImportError as error:
            logger.warning("%s, which gsplat came with, does not fit this torch (%s)", found.origin, error)
    architecture = device_architecture()
    path = built(architecture)
    tried = _recorded_digest(path)
    try:
        return _load(_NAME, path)
    except ImportError as error:
        logger.warning("%s can't be loaded (%s)", path, error)
    try:
        return _load(_NAME, built(architecture, unless=tried))
    except ImportError as error:
        raise UserError(f"{path}: compiled anew, and still can't be loaded: {error}") from None


def _load(name: str, path: Path) -> Path:
    """Load a compiled module and put it where gsplat's `from gsplat import csrc` finds it."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_IMPORTED] = module
    return path


def device_architecture() -> str:
    """Compute capability of the current CUDA device, such as `9.0`; at most the highest that this torch knows.

    A newer device runs the code for that one by way of PTX.
    """
    known = [divmod(int(number), 10) for number in re.findall(r"\bsm_(\d+)", " ".join(torch.cuda.get_arch_list()))]
    major, minor = min([torch.cuda.get_device_capability(), *([max(known)] if known else [])])
    return f"{major}.{minor}"


def listed_architectures() -> list[str]:
    """The architectures that TORCH_CUDA_ARCH_LIST names, for a machine without a GPU.

    Raises:
        UserError: one of them is not a number.
    """
    listed = re.split(r"[;\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip(" ;"))
    found = []
    for word in filter(None, listed):
        number = re.fullmatch(r"(\d+\.\d)[a-z]?(\+PTX)?", word)
        if number is None:
            raise UserError(f"TORCH_CUDA_ARCH_LIST: {word!r}; expected numbers such as '8.0 9.0'")
        found.append(number[1])
    return found


def built(architecture: str, unless: str | None = None) -> Path:
    """The compiled module for an architecture; compiled by one process while others wait, where there is none.

    Args:
        architecture: compute capability, such as `9.0`.
        unless: digest of a module that is not good enough.

    Raises:
        UserError: it can't be compiled here; says what is missing, or where the compiler's words are.
    """
    folder = cache_folder(architecture)
    path = folder / f"{_NAME}.so"
    if _intact(path, unless):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock") as alone:
        if not _intact(path, unless):
            for leftover in folder.glob("build-*") if alone else []:
                shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed
            check_toolkit(architecture)
            _compile(path, architecture)
    return path


def cache_folder(architecture: str) -> Path:
    """Return the folder of an architecture's module, named after all that it depends on except gsplat's file times."""
    parts = [
        f"gsplat-{importlib.metadata.version('gsplat')}",
        f"{sys.implementation.cache_tag}{sys.abiflags}",
        platform.machine(),
        f"torch-{torch.__version__}",
        f"cuda-{torch.version.cuda}",
        f"sm-{architecture}",
        *(name.lower() for name in ("FAST_COMPILE", "NO_FAST_MATH") if os.environ.get(name) == "1"),
    ]
    return user_cache() / re.sub(r"[^\w.+-]", "-", "_".join(parts))


def _intact(path: Path, unless: str | None) -> bool:
    """Tell whether the file is what was compiled: loading a truncated one can kill the process."""
    recorded = _recorded_digest(path)
    return path.is_file() and recorded not in (None, unless) and file_digest(path) == recorded


def _recorded_digest(path: Path) -> str | None:
    record = path.with_suffix(".digest")
    return record.read_text(encoding="utf-8").strip() if record.is_file() else None


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock, waiting for it; false on a file system without locks, where several may compile, each aside."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another job, which is compiling gsplat's kernels")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            yield False
            return
        yield True


def check_toolkit(architecture: str) -> None:
    """Look for what compiling needs, where torch's build will: nvcc of torch's CUDA version and a C++ compiler.

    Raises:
        UserError: one is missing or does not fit.
    """
    cuda = str(torch.version.cuda)
    major = cuda.partition(".")[0]
    here = f"gsplat's kernels (compute capability {architecture}, torch {torch.__version__}) can't be compiled here"
    elsewhere = (
        f"compile them once on a node that has it, by `TORCH_CUDA_ARCH_LIST={architecture} python -m"
        " splatdag.splats.kernels --device-count 1`, or install a gsplat wheel with compiled kernels (see its site)"
    )
    instead = f"install the CUDA {major} toolkit, or {elsewhere}"
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    on_path = shutil.which("nvcc")
    nvcc = Path(home) / "bin" / "nvcc" if home else Path(on_path) if on_path else _USUAL_HOME / "bin" / "nvcc"
    if not nvcc.is_file():
        where = f"CUDA_HOME is {home}, which has no bin/nvcc" if home else f"no nvcc on PATH or in {_USUAL_HOME}"
        raise UserError(f"{here}: {where}; {instead}")
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    release = re.search(r"release (\d+)\.\d+", said.stdout)
    if release is None:
        raise UserError(f"{here}: {nvcc} --version does not say its release; {instead}")
    if release[1] != major:
        raise UserError(f"{here}: {nvcc} is of CUDA {release[0].split()[1]}, torch of {cuda}; {instead}")
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise UserError(f"{here}: no C++ compiler ({compiler}); install g++, or {elsewhere}")


def _compile(path: Path, architecture: str) -> None:
    """Have gsplat compile its module in a folder of its own, and publish it."""
    begin = time.monotonic()
    processes = _processes()
    logger.info(
        "compiling gsplat's kernels for compute capability %s, %d files at a time, once per version (about a minute)",
        architecture,
        processes,
    )
    aside = Path(tempfile.mkdtemp(prefix="build-", dir=path.parent))
    log = path.parent / "build.log"
    environment = os.environ | {
        "TORCH_EXTENSIONS_DIR": str(aside),
        "TORCH_CUDA_ARCH_LIST": f"{architecture}+PTX",
        "MAX_JOBS": str(processes),
        "VERBOSE": "1",
        "PATH": os.pathsep.join([_ninja_folder(), os.environ.get("PATH", os.defpath)]),
    }
    try:
        code = _run([sys.executable, "-c", _BUILD], environment, log)
        made = aside / _NAME / path.name
        if code != 0 or not made.is_file():
            said = log.read_text(encoding="utf-8", errors="replace")
            logger.error("%s", said, extra=FILE_ONLY)
            raise UserError(
                f"gsplat's kernels did not compile for compute capability {architecture}: {_first_error(said)};"
                f" all that the compiler said is in {log}"
            )
        digest = file_digest(made)
        with complete(path) as temporary:
            made.rename(temporary)
        write_text(path.with_suffix(".digest"), digest)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    logger.info("compiled in %.0f s, kept in %s", time.monotonic() - begin, path.parent)


def _processes() -> int:
    """Return how many files to compile at a time: MAX_JOBS, or as many as CPUs and memory allow."""
    given = os.environ.get("MAX_JOBS", "")
    if given.isdigit() and int(given):
        return int(given)
    memory_mb = psutil.virtual_memory().available / 1e6
    allowed = os.environ.get("SLURM_MEM_PER_NODE", "")
    if allowed.isdigit() and int(allowed):
        memory_mb = min(memory_mb, int(allowed))
    return max(1, min(len(os.sched_getaffinity(0)), int(memory_mb // _PROCESS_MB)))


def _ninja_folder() -> str:
    """Return the folder of the program ninja, to add to PATH, where torch looks and an environment may be missing."""
    spec = importlib.util.find_spec("ninja")
    if spec is None:
        return str(Path(sys.executable).parent)
    import ninja

    return str(ninja.BIN_DIR)


def _run(command: list[str], environment: dict[str, str], log: Path) -> int:
    """Run a command and all that it starts, with their output in a file; nothing of it outlives an exception."""
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                _kill_session(process.pid)
                process.wait()


def _kill_session(leader: int) -> None:
    """Kill all processes of a session; ninja gives each compiler a process group of its own."""
    for number in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getsid(number) == leader:
                os.kill(number, signal.SIGKILL)


def _first_error(said: str) -> str:
    """The compiler's first error; without one, what Python ended with."""
    found = re.search(r"^.*(?:\berror\s*:|\bfatal\s*:).*$", said, re.MULTILINE)
    line = found[0] if found else (said.strip().splitlines() or ["the build said nothing"])[-1]
    return " ".join(line.split())[:300]
