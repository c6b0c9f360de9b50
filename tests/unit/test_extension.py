"""gsplat's compiled module, without a GPU: a stand-in for gsplat "compiles" by copying a module that psutil brings."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from support.waiting import wait_until

from splatdag.splats import kernels
from splatdag.splats.cuda import extension
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job
from splatdag.workflow.user_cache import user_cache

[MODULE] = Path(psutil.__file__).parent.glob("_psutil_linux*.so")

BACKEND = """
import os, shutil, subprocess, sys, time
from pathlib import Path
root, aside = Path(os.environ["FAKE"]), Path(os.environ["TORCH_EXTENSIONS_DIR"])
with (root / "builds").open("a") as log:
    log.write(os.environ["TORCH_CUDA_ARCH_LIST"] + "\\n")
if (root / "broken").exists():
    print("[3/28] nvcc -c Adam.cu -Werror all-warnings")
    print("nvcc fatal   : Unsupported gpu architecture 'compute_90'")
    raise RuntimeError("Error building extension 'gsplat_cuda'")
compiler = None
if (root / "slow").exists():  # ninja starts each compiler in a process group of its own
    compiler = subprocess.Popen(["/bin/sleep", "600"], process_group=0)
    (root / "compiler").write_text(str(compiler.pid))
(root / "backend").write_text(str(os.getpid()))
(aside / "_psutil_linux").mkdir()
while (root / "slow").exists() and aside.exists():
    time.sleep(0.05)
if compiler is not None:
    compiler.kill()
made = aside / "_psutil_linux" / "_psutil_linux.so"
shutil.copy(os.environ["MODULE"], made)
if (root / "garbage").exists():
    made.write_bytes(b"no module")
_C = 1
"""

JOB = """
import logging, signal, sys
from pathlib import Path
import torch
from splatdag.splats import kernels
from splatdag.splats.cuda import extension
from splatdag.workflow import stage
torch.version.cuda = "13.0"
torch.cuda.get_device_capability = lambda: (9, 0)
torch.cuda.get_arch_list = lambda: ["sm_90"]
extension._NAME = "_psutil_linux"
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
signal.signal(signal.SIGTERM, stage._raise_stopped)
extension.ensure_extension()
from gsplat import csrc
print("loaded", csrc.__file__)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with a stand-in for gsplat, a toolkit of CUDA 13, a GPU of capability 9.0 and a cache of its own."""
    package = tmp_path / "site" / "gsplat"
    (package / "cuda").mkdir(parents=True)
    for path in (package / "__init__.py", package / "cuda" / "__init__.py"):
        path.touch()
    (package / "cuda" / "_backend.py").write_text(BACKEND)
    record = tmp_path / "site" / "gsplat-1.5.3.dist-info" / "METADATA"
    record.parent.mkdir()
    record.write_text("Metadata-Version: 2.1\nName: gsplat\nVersion: 1.5.3\n")
    for name, said in (("nvcc", "Cuda compilation tools, release 13.0, V13.0.88"), ("c++", "")):
        program = tmp_path / "toolkit" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
    for variable in ("CUDA_HOME", "CUDA_PATH", "CXX", "MAX_JOBS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("MODULE", str(MODULE))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "toolkit" / "bin"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90", "sm_90a", "sm_120"])
    monkeypatch.setattr(extension, "_NAME", "_psutil_linux")
    monkeypatch.setattr(extension, "_USUAL_HOME", tmp_path / "none")
    user_cache.cache_clear()
    with_gsplat = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "gsplat"}
    yield tmp_path
    user_cache.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "gsplat"]:
        del sys.modules[name]
    sys.modules.update(with_gsplat)


def builds(machine):
    log = machine / "builds"
    return log.read_text().splitlines() if log.exists() else []


def as_a_new_process():
    for name in [name for name in sys.modules if name.split(".")[0] == "gsplat"]:
        del sys.modules[name]


def kept(machine):
    """What is left in the cache, but for the lock and the log."""
    return sorted(p.name for p in machine.glob("cache/splatdag/gsplat*/*") if p.name not in ("lock", "build.log"))


COMPLETE = ["_psutil_linux.digest", "_psutil_linux.so"]


def test_what_was_compiled_once_is_what_gsplat_imports_in_every_later_process(machine):
    path = extension.ensure_extension()
    assert builds(machine) == ["9.0+PTX"]
    assert kept(machine) == COMPLETE
    assert path.read_bytes() == MODULE.read_bytes()
    from gsplat import csrc

    assert csrc.__file__ == str(path)
    for file in (machine / "site").rglob("*"):
        os.utime(file)  # a re-installed wheel
    as_a_new_process()
    assert extension.ensure_extension() == path
    assert importlib.import_module("gsplat.csrc").__file__ == str(path)
    assert len(builds(machine)) == 1


def test_another_gsplat_torch_or_gpu_gets_a_module_of_its_own(machine, monkeypatch):
    paths = {extension.ensure_extension()}
    for name in ("torch", "gpu", "gsplat", "option"):
        with monkeypatch.context() as changed:
            if name == "torch":
                changed.setattr(torch, "__version__", "2.14.0+cu131")
            elif name == "gpu":
                changed.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
            elif name == "option":
                changed.setenv("NO_FAST_MATH", "1")
            else:
                record = machine / "site" / "gsplat-1.5.3.dist-info" / "METADATA"
                record.write_text(record.read_text().replace("1.5.3", "1.6.0"))
            as_a_new_process()
            paths.add(extension.ensure_extension())
    assert len(paths) == 5
    assert builds(machine) == ["9.0+PTX", "9.0+PTX", "8.0+PTX", "9.0+PTX", "9.0+PTX"]


@pytest.mark.parametrize(("device", "architecture"), [((9, 0), "9.0"), ((8, 6), "8.6"), ((12, 1), "12.0")])
def test_a_gpu_newer_than_torch_gets_the_newest_that_torch_knows(machine, monkeypatch, device, architecture):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: device)
    assert extension.device_architecture() == architecture


def test_architectures_are_listed_as_torch_takes_them(monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0; 9.0a 12.0+PTX")
    assert extension.listed_architectures() == ["8.0", "9.0", "12.0"]
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "")
    assert extension.listed_architectures() == []
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0 Hopper")
    with pytest.raises(UserError, match="TORCH_CUDA_ARCH_LIST: 'Hopper'; expected numbers"):
        extension.listed_architectures()


def test_a_module_that_gsplat_came_with_is_taken_and_needs_no_compiler(machine):
    (machine / "site" / "gsplat" / "csrc.py").write_text("made_by = 'the wheel'")
    shutil.rmtree(machine / "toolkit")
    extension.ensure_extension()
    from gsplat import csrc

    assert csrc.made_by == "the wheel"
    assert builds(machine) == []


def test_a_module_that_gsplat_came_with_and_that_does_not_fit_is_compiled_anew(machine):
    (machine / "site" / "gsplat" / "csrc.abi3.so").write_bytes(b"for another torch")
    assert extension.ensure_extension().parent.parent == user_cache()
    assert len(builds(machine)) == 1


@pytest.mark.parametrize("damage", ["truncated", "unreadable"])
def test_a_damaged_module_is_compiled_anew_once(machine, damage):
    path = extension.built("9.0")
    if damage == "truncated":
        path.write_bytes(MODULE.read_bytes()[: MODULE.stat().st_size // 2])
    else:  # by this machine, though it is what was compiled
        path.write_bytes(b"no module")
        path.with_suffix(".digest").write_text(extension.file_digest(path))
    assert extension.ensure_extension().read_bytes() == MODULE.read_bytes()
    assert len(builds(machine)) == 2


def test_a_compiler_that_makes_what_cannot_be_loaded_is_not_asked_for_ever(machine):
    (machine / "garbage").touch()
    with pytest.raises(UserError, match="compiled anew, and still can't be loaded"):
        extension.ensure_extension()
    assert len(builds(machine)) == 2


def test_on_a_node_without_a_gpu_all_listed_architectures_are_compiled(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0 9.0")
    receipt = machine / "any.json"
    kernels.main(Job(), receipt, device_count=1)
    assert sorted(builds(machine)) == ["8.0+PTX", "9.0+PTX"]
    said = json.loads(receipt.read_text())
    assert (said["backend"], said["device"], said["architectures"]) == ("cuda", None, ["8.0", "9.0"])
    assert said["packages"]["gsplat"] == "1.5.3"
    shutil.rmtree(machine / "toolkit")
    extension.ensure_extension()  # on a node with such a GPU and without a toolkit
    assert len(builds(machine)) == 2


def without_nvcc(machine, monkeypatch):
    (machine / "toolkit" / "bin" / "nvcc").unlink()


def wrong_home(machine, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "/opt/other")


def older_toolkit(machine, monkeypatch):
    (machine / "toolkit" / "bin" / "nvcc").write_text("#!/bin/sh\necho release 12.4, V12.4.131\n")


def dumb_nvcc(machine, monkeypatch):
    (machine / "toolkit" / "bin" / "nvcc").write_text("#!/bin/sh\nexit 1\n")


def without_a_c_compiler(machine, monkeypatch):
    (machine / "toolkit" / "bin" / "c++").unlink()


MISSING = [
    (without_nvcc, "no nvcc on PATH or in .*; install the CUDA 13 toolkit, or"),
    (wrong_home, "CUDA_HOME is /opt/other, which has no bin/nvcc; install the CUDA 13 toolkit"),
    (older_toolkit, "bin/nvcc is of CUDA 12.4, torch of 13.0; install the CUDA 13 toolkit"),
    (dumb_nvcc, "bin/nvcc --version does not say its release"),
    (without_a_c_compiler, r"no C\+\+ compiler \(c\+\+\); install g\+\+, or compile them once"),
]


@pytest.mark.parametrize(("change", "message"), MISSING)
def test_what_is_missing_to_compile_is_said_in_one_line_at_once(machine, monkeypatch, change, message):
    change(machine, monkeypatch)
    with pytest.raises(UserError, match=message) as refused:
        extension.ensure_extension()
    assert "compute capability 9.0, torch 2" in str(refused.value)
    assert "TORCH_CUDA_ARCH_LIST=9.0 python -m splatdag.splats.kernels --device-count 1" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert builds(machine) == []
    assert kept(machine) == []


def test_without_gsplat_one_line_says_how_to_install_it(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(UserError, match="^gsplat is not installed; pip install -r envs/core.txt$"):
        extension.ensure_extension()
    assert builds(machine) == []


def test_a_compilation_that_fails_leaves_the_compiler_s_words_and_no_module(machine):
    (machine / "broken").touch()
    reason = r"9\.0: nvcc fatal : Unsupported gpu architecture 'compute_90'; all that the compiler said is in (\S+)"
    with pytest.raises(UserError, match=reason) as refused:
        extension.ensure_extension()
    log = Path(re.search(reason, str(refused.value))[1])
    assert "[3/28] nvcc -c Adam.cu" in log.read_text()
    assert "RuntimeError: Error building extension" in log.read_text()
    assert kept(machine) == []
    (machine / "broken").unlink()
    extension.ensure_extension()
    assert kept(machine) == COMPLETE


def job():
    return subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(number):
    """Whether a process has ended; one that nobody waits for stays as a zombie."""
    try:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_of_two_jobs_one_compiles_and_the_other_waits_and_loads(machine):
    (machine / "slow").touch()
    jobs = [job(), job()]
    heard = [process.stdout.readline() for process in jobs]
    assert sorted(line.split()[0] for line in heard) == ["compiling", "waiting"]
    (machine / "slow").unlink()
    said = [process.communicate(timeout=300)[0] for process in jobs]
    assert [process.returncode for process in jobs] == [0, 0], said
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert all(text.splitlines()[-1].startswith("loaded ") for text in said)
    assert len(builds(machine)) == 1
    assert kept(machine) == COMPLETE


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_killed_while_it_compiles_leaves_no_half_module_and_the_next_one_succeeds(machine, signal_number):
    (machine / "slow").touch()
    doomed = job()
    wait_until(lambda: list(machine.glob("cache/splatdag/gsplat*/build-*/_psutil_linux")))
    doomed.send_signal(signal_number)
    said = doomed.communicate(timeout=300)[0] if signal_number == signal.SIGTERM else doomed.wait(300)
    left = [name for name in kept(machine) if not name.startswith("build-")]
    assert left == []
    assert (kept(machine) == []) is (signal_number == signal.SIGTERM), said
    compiler = int((machine / "compiler").read_text())
    if signal_number == signal.SIGTERM:
        wait_until(lambda: ended(compiler))
    else:
        backend = int((machine / "backend").read_text())
        for number in (compiler, backend):
            os.kill(number, signal.SIGKILL)
        wait_until(lambda: ended(backend))
    (machine / "slow").unlink()
    extension.ensure_extension()
    assert kept(machine) == COMPLETE
    assert len(builds(machine)) == 2
