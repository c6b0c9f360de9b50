"""Python processes whose slow imports are done: children of a process that has imported them and done nothing else."""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock


def run_module(
    module: str,
    *arguments: object,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float = 300,
    data_limit: int = resource.RLIM_INFINITY,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS` to its end.

    The process has its own working directory, environment, output and exit code. It can't tell whether the module
    imports all that it needs, nor what a variable does that torch or Snakemake reads where it is imported; and a
    training in it ends with other last bits than one in a process that was started anew.
    """
    words, cwd, env = [module, *map(str, arguments)], cwd or Path.cwd(), dict(os.environ if env is None else env)
    if env.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):  # other modules than those that are imported
        command = [sys.executable, "-m", *words]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    _start_server()
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdout", "stderr")]
        given = (words, cwd, env, streams, data_limit)
        process = multiprocessing.get_context("forkserver").Process(target=_be, args=given)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout, *(stream.read_bytes() for stream in streams))
        return subprocess.CompletedProcess(words, process.exitcode, *(stream.read_text() for stream in streams))


@functools.cache
def _start_server() -> None:
    forkserver.set_forkserver_preload(["support.preloaded"])
    paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths))):
        forkserver.ensure_running()


def _be(words: list[str], cwd: Path, env: dict[str, str], streams: list[Path], data_limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    sys.argv, sys.path = list(words), [str(cwd), *sys.path]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
