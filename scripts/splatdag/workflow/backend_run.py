"""Run of an upstream backend as a process of its own, and check of the files that it makes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from splatdag.workflow import backend_process
from splatdag.workflow.backend import Backend, check_installed, environment
from splatdag.workflow.contract import ContractBroken, Expected, check_contract
from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.publish import read_json, write_json
from splatdag.workflow.weights import Weights

REQUEST, RESULT = "request.json", "result.json"
_LONGEST_LINE = 2000
_LAST_LINES = 40
_ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b|error:", re.ASCII)
_NO_MEMORY = re.compile(r"out of memory|OutOfMemory|MemoryError|bad_alloc|Cannot allocate memory", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Result of a backend."""

    folder: Path
    """Folder of its files."""
    values: dict[str, Any]
    """Values that it wrote into `result.json`, without the digest."""
    sizes: dict[str, int]
    """Dimensions of the contract, by name."""
    weights: list[Weights]
    """Weights that it used, for the manifest."""
    seconds: float
    """Wall time; 0 where the files were there already."""
    host_mb: float
    """Largest resident memory of one of its processes, in MB (10⁶ bytes)."""


class BackendFailed(UserError):
    """Failure of a backend: it ended with an error, or its files are not those that the contract describes."""


def run_backend(
    backend: Backend,
    options: Mapping[str, Any],
    folder: Path,
    contract: Iterable[Expected],
    *,
    inputs: Mapping[str, str],
    device: str = "cpu",
    threads: int = 1,
    **known: int,
) -> Result:
    """Run an upstream backend, and check the files that it makes.

    Its output goes into the log line by line. It ends with this process, however that ends. Files that a finished
    attempt at the same request left in `folder` are used again.

    Args:
        backend: the backend, with an upstream.
        options: options of the request, as JSON values; paths in them are absolute.
        folder: working folder; after a success it holds the contract's files, which the stage publishes and removes.
        contract: files that the backend has to write.
        inputs: digests of the inputs, by name; files of an attempt with other inputs are not used.
        device: `cuda`, or `cpu`, which hides all GPUs.
        threads: CPU threads that it may use.
        known: dimensions of the contract that are known before the run.

    Raises:
        UserError: it is not installed, or failed, or the contract is broken; what, and what to do.
        Stopped: SIGTERM arrived.
    """
    upstream = backend.upstream
    if upstream is None:
        raise ValueError(f"{backend.name} is embedded")
    check_installed([backend])
    what = {"backend": backend.identity(), "options": options, "inputs": inputs, "device": device}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    contract = tuple(contract)
    with suppress(BackendFailed):
        values, sizes = _checked(backend, folder, digest, contract, known)
        logger.info("%s: done already, in %s", backend.name, folder)
        return Result(folder, values, sizes, list(backend.weights), 0.0, 0.0)
    if not (upstream.resumes and _digest_of_request(folder) == digest):
        shutil.rmtree(folder, ignore_errors=True)
    (folder / RESULT).unlink(missing_ok=True)
    checkout = upstream.checkout()
    write_json(
        folder / REQUEST,
        {
            "digest": digest,
            "checkout": checkout and str(checkout),
            "weights": {weights.name: str(weights.folder) for weights in backend.weights},
            "device": device,
            "threads": threads,
            "options": options,
        },
    )
    command = [str(upstream.python()), str(upstream.entry.absolute()), str((folder / REQUEST).absolute())]
    begin = time.perf_counter()
    try:
        code, tail = _run(backend.name, command, folder, environment(upstream, device, threads))
    except (Stopped, KeyboardInterrupt):
        if not upstream.resumes:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    seconds = time.perf_counter() - begin
    if code:
        (folder / RESULT).unlink(missing_ok=True)
        raise BackendFailed(_failure(backend, code, tail))
    values, sizes = _checked(backend, folder, digest, contract, known)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    return Result(folder, values, sizes, list(backend.weights), seconds, round(memory, 1))


def _digest_of_request(folder: Path) -> str | None:
    try:
        return read_json(folder / REQUEST).get("digest")
    except UserError:
        return None


def _checked(
    backend: Backend, folder: Path, digest: str, contract: tuple[Expected, ...], known: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the values of `result.json` and the dimensions, if the folder holds the whole result of the request.

    Raises:
        BackendFailed: it does not.
    """
    advice = f"; look at {folder}, and whether the checkout is at the revision that `snakemake check_checkpoints` names"
    try:
        values = read_json(folder / RESULT)
    except UserError as error:
        reason = str(error).removeprefix(f"{folder / RESULT}: ")
        raise BackendFailed(f"{backend.name} ended well, but its {RESULT}: {reason}{advice}") from None
    if values.pop("digest", None) != digest:
        raise BackendFailed(f"{backend.name} ended well, but its {RESULT} answers another request{advice}")
    try:
        sizes = check_contract(contract, folder, **known)
    except ContractBroken as error:
        raise BackendFailed(f"{backend.name} ended well, but {error}{advice}") from None
    return values, sizes


def _run(name: str, command: list[str], folder: Path, variables: dict[str, str]) -> tuple[int, list[str]]:
    """Run a command under its guardian and log its output; return its exit code and its last lines."""
    tail: deque[str] = deque(maxlen=_LAST_LINES)
    with _signals_held():  # so that none comes between the start of the process and the knowledge of it
        process = subprocess.Popen(
            [sys.executable, "-I", backend_process.__file__, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd=folder,
            env=variables,
            process_group=0,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    reader = threading.Thread(target=_log, args=(name, process.stdout, tail), daemon=True)
    reader.start()
    try:
        code = process.wait()
    except BaseException:
        with _signals_held():
            with suppress(BrokenPipeError):
                process.stdin.write(b".")
            process.wait()
        raise
    finally:
        process.stdin.close()
        if process.returncode >= 0:  # nobody is left who could write; but a guardian that was killed left somebody
            reader.join()
            process.stdout.close()
    return code, list(tail)


def _log(name: str, stream: IO[bytes], tail: deque[str]) -> None:
    """Log a backend's output, and keep its last lines in `tail`."""
    for line in _lines(stream):
        logger.info("[%s] %s", name, line)
        tail.append(line)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals that end a stage wait until the block has ended; a process started in it gets them held, too."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield lines as they come; of a progress bar, which overwrites itself, the last state."""
    left = b""
    while data := os.read(stream.fileno(), 1 << 16):
        *whole, left = (left + data).split(b"\n")
        left = left[-_LONGEST_LINE:]
        yield from filter(None, map(_printable, whole))
    if last := _printable(left):
        yield last


def _printable(line: bytes) -> str:
    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
    return _UNPRINTABLE.sub("", text).rstrip()[:_LONGEST_LINE]


def _failure(backend: Backend, code: int, tail: list[str]) -> str:
    """Return one line on a failed backend; a code below 0, or above 128, may stand for the signal that ended it."""
    number = -code if code < 0 else code - 128
    by_signal = number in set(signal.Signals)
    how = f"was ended by {signal.Signals(number).name}" if by_signal else f"ended with code {code}"
    errors = [line for line in tail if _ERROR.match(line)]
    said = (errors or tail or ["nothing"])[-1].strip()
    on_gpu = any(re.search("cuda|hip|gpu", line, re.IGNORECASE) for line in tail if _NO_MEMORY.search(line))
    needs = [
        f"{name} needs about {size:,} MB"
        for name, size in (("it", backend.host_mb), ("on a GPU it", backend.gpu_mb))
        if size is not None
    ]
    if on_gpu:
        advice = "; ".join(["no memory was left on the GPU: give it less at a time, or a larger GPU", *needs])
    elif number == signal.SIGKILL or any(_NO_MEMORY.search(line) for line in tail):
        advice = "; ".join(["was there enough memory? Give the job more (mem_mb)", *needs])
    else:
        advice = "the log has all it said"
    return f"{backend.name} {how}; the last it said: {said}; {advice}"
