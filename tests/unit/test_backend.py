"""Running an upstream backend: what it gets, what comes of it, and that nothing of it stays behind."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from splatdag.workflow import backend_process
from splatdag.workflow.backend import Backend, Installation, Upstream, check_installed, parts
from splatdag.workflow.backend_run import BackendFailed, Result, run_backend
from splatdag.workflow.contract import Array, Expected, Json, Npz
from splatdag.workflow.errors import UserError
from splatdag.workflow.weights import Weights

ENTRY = Path(__file__).parents[1] / "support" / "echo_backend.py"
CONTRACT = (
    Expected(
        "predictions.npz",
        Npz(
            {
                "image_names": Array(("S",), "U"),
                "extrinsic": Array(("S", 3, 4), "float32"),
                "depth": Array(("S", "H", "W"), "float32"),
            }
        ),
    ),
    Expected("result.json", Json({"cwd": str, "argv": list})),
)
GIVEN = {"how": "well", "shape": [2, 4, 6]}


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *names, "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of weights are remembered beside the test."""
    monkeypatch.setattr("splatdag.workflow.weights.user_cache", lambda: tmp_path / "cache")


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    """The small upstream with everything that it needs in place."""
    checkout = tmp_path / "upstream"
    checkout.mkdir()
    (checkout / "echo_model.py").write_text("")
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "x")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.bin").write_bytes(b"weights")
    return Backend(
        "echo",
        rules=("align_world",),
        weights=(
            Weights(
                name="lab/echo-1B",
                source="https://example.org/lab/echo-1B",
                revision="1",
                licence="CC-BY-NC-4.0",
                licence_url="https://example.org/licence",
                commercial=False,
                folder=weights,
                files={"model.bin": "9a129038"},
            ),
        ),
        upstream=Upstream(
            repository="https://example.org/lab/echo.git",
            revision=git(checkout, "rev-parse", "HEAD").strip(),
            entry=ENTRY,
            python_version="3.10",
            requirements=("numpy<2", "-e", "{checkout}"),
            modules=("json", "echo_model"),
            key="upstreams.echo",
            installed=Installation(checkout=str(checkout), python=sys.executable),
        ),
        host_mb=900,
        gpu_mb=4_000,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "state" / "echo"


def run(backend: Backend, folder: Path, how: str = "well", **more: Any) -> Result:
    inputs = more.pop("inputs", {"photos": "ab12"})
    return run_backend(backend, {**GIVEN, "how": how}, folder, CONTRACT, inputs=inputs, threads=3, **more)


def changed(backend: Backend, **changes: Any) -> Backend:
    """The backend with another upstream or installation."""
    assert backend.upstream is not None
    installed = {key: changes.pop(key) for key in ("checkout", "python", "variables") if key in changes}
    upstream = replace(backend.upstream, installed=backend.upstream.installed.model_copy(update=installed), **changes)
    return replace(backend, upstream=upstream)


def attempts(folder: Path) -> int:
    return len((folder / "attempts").read_text())


def failure(backend: Backend, folder: Path, how: str) -> str:
    with pytest.raises(BackendFailed) as caught:
        run(backend, folder, how)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_backend_gets_its_request_and_gives_files_and_a_result(backend, folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        result = run(backend, folder)
    assert result.folder == folder
    assert (folder / "predictions.npz").is_file()
    assert result.sizes == {"S": 2, "H": 4, "W": 6}
    assert [weights.name for weights in result.weights] == ["lab/echo-1B"]
    assert result.seconds > 0
    assert 5 < result.host_mb < 100_000
    request = json.loads((folder / "request.json").read_text())
    assert result.values["request"] == request
    assert request["options"] == GIVEN
    assert request["checkout"] == str(tmp_path / "upstream")
    assert request["weights"] == {"lab/echo-1B": str(tmp_path / "weights")}
    assert (request["device"], request["threads"]) == ("cpu", 3)
    assert result.values["cwd"] == str(folder)
    lines = [record.message for record in caplog.records]
    assert lines == ["[echo] well: [2, 4, 6]", "[echo] 100 %"], "a progress bar is its last state"


def test_paths_may_be_relative_to_the_working_directory(backend, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(changed(backend, checkout="upstream"), folder.relative_to(tmp_path)).values["cwd"] == str(folder)


def test_its_environment_has_neither_our_python_nor_secrets(backend, folder, tmp_path, monkeypatch):
    ours = {
        **{"PYTHONPATH": "/ours", "PYTHONHOME": "/nowhere", "VIRTUAL_ENV": "/ours/.venv", "SLURM_JWT": "secret-1"},
        **{"HF_TOKEN": "secret-2", "AWS_SECRET_ACCESS_KEY": "secret-3", "NVIDIA_API_KEY": "secret-4"},
    }
    for name, value in {**ours, "CUDA_VISIBLE_DEVICES": "1", "LC_ALL": "C.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    seen = run(backend, folder).values["environment"]
    assert not [value for value in seen.values() if "secret" in value or "/ours" in value]
    assert {"PYTHONHOME", "VIRTUAL_ENV"}.isdisjoint(seen)
    assert seen["PYTHONPATH"] == str(tmp_path / "upstream")
    assert (seen["LC_ALL"], seen["HF_HUB_OFFLINE"], seen["OMP_NUM_THREADS"]) == ("C.UTF-8", "1", "3")
    assert seen["CUDA_VISIBLE_DEVICES"] == "", "the CPU was asked for"
    assert run(backend, folder, device="cuda").values["environment"]["CUDA_VISIBLE_DEVICES"] == "1"

    passed = changed(backend, variables=("HF_TOKEN", "HF_HUB_OFFLINE"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    seen = run(passed, folder, inputs={}).values["environment"]
    assert (seen["HF_TOKEN"], seen["HF_HUB_OFFLINE"]) == ("secret-2", "0")
    assert "SLURM_JWT" not in seen


def test_the_same_request_is_answered_once_and_another_anew(backend, folder):
    run(backend, folder)
    assert run(backend, folder).seconds == 0
    assert attempts(folder) == 1
    for more in ({"inputs": {"photos": "cd34"}}, {"device": "cuda"}):
        assert run(backend, folder, **more).seconds > 0
    (folder / "predictions.npz").unlink()
    run(backend, folder, **more)
    assert attempts(folder) == 1, "in an empty folder"


def test_other_weights_or_an_edited_script_are_another_request(backend, folder, tmp_path):
    run(backend, folder)
    newer = replace(backend, weights=tuple(w.model_copy(update={"revision": "2"}) for w in backend.weights))
    assert run(newer, folder).seconds > 0
    edited = tmp_path / "edited.py"
    edited.write_text(ENTRY.read_text() + "\n# edited\n")
    assert run(changed(newer, entry=edited), folder).seconds > 0


def test_one_that_resumes_finds_the_files_of_an_attempt_at_the_same_request(backend, folder):
    resuming = changed(backend, resumes=True)
    for expected in (1, 2):
        failure(resuming, folder, "exit")
        assert attempts(folder) == expected
    run(resuming, folder)
    assert attempts(folder) == 1, "another request begins in an empty folder"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "echo ended with code 1; the last it said: ValueError: no such model: tiny; the log has all it said"),
        ("exit", "echo ended with code 3; the last it said: half done; the log has all it said"),
        (
            "memory",
            "ended with code 1; the last it said: MemoryError; was there enough memory? Give the job more (mem_mb); it",
        ),
        ("gpu memory", "no memory was left on the GPU: give it less at a time, or a larger GPU; it needs about 900 MB"),
        ("killed", "echo was ended by SIGKILL; the last it said: 100 %; was there enough memory?"),
        ("no file", "echo ended well, but predictions.npz is missing; look at {folder}"),
        ("wrong shape", "echo ended well, but predictions.npz: depth is [3, 2, 2], expected [S=3, H=4, W=6]; look at"),
        ("nan", "echo ended well, but predictions.npz: depth has values that are NaN or infinite; look at"),
        ("no result", "echo ended well, but its result.json: No such file or directory; look at"),
        ("garbage", "echo ended well, but its result.json: not JSON: "),
        ("another request", "echo ended well, but its result.json answers another request; look at"),
    ],
)
def test_every_failure_is_one_line_and_the_next_attempt_is_not_hindered(backend, folder, how, message):
    with pytest.raises(BackendFailed) as caught:
        run(backend, folder, how, H=4, W=6)
    assert message.format(folder=folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder.parent.parent / "predictions.npz").exists()
    run(backend, folder)


def test_what_it_wrote_stays_for_a_look_after_a_failure(backend, folder):
    failure(backend, folder, "another request")
    assert (folder / "predictions.npz").is_file()


def test_an_embedded_backend_has_no_process(folder):
    with pytest.raises(ValueError, match="embedded"):
        run(Backend("ours", rules=()), folder)


def problem(backend: Backend) -> str:
    with pytest.raises(UserError) as caught:
        check_installed([backend])
    return str(caught.value)


def test_what_is_not_installed_stops_it_before_anything_is_written(backend, folder, tmp_path):
    weights = backend.weights[0].model_copy(update={"folder": None})
    bare = replace(changed(backend, checkout=None, python=None), weights=(weights,))
    message = (
        "echo can't be run: checkout: not set (upstreams.echo.checkout); interpreter: not set (upstreams.echo.python);"
        " lab/echo-1B: not set (upstreams.echo.weights); `snakemake check_checkpoints` says what to do"
    )
    assert problem(bare) == message
    with pytest.raises(UserError, match=re.escape(message)):
        run(bare, folder)
    assert not folder.parent.exists()
    nowhere = str(tmp_path / "nowhere")
    assert f"checkout: missing: {nowhere}" in problem(changed(backend, checkout=nowhere))
    assert f"interpreter: missing: {nowhere}" in problem(changed(backend, python=nowhere))
    assert "interpreter: /bin/false is no Python" in problem(changed(backend, python="/bin/false"))
    assert f"{sys.executable} has no module torchless" in problem(changed(backend, modules=("json", "torchless")))


def test_a_checkout_at_another_commit_is_named_with_both(backend, tmp_path):
    assert parts(backend)[0].state == f"found, {backend.upstream.revision[:7]}"
    checkout = tmp_path / "upstream"
    (checkout / "echo_model.py").write_text("edited = True\n")
    assert parts(backend)[0].state == f"found, {backend.upstream.revision[:7]} with edits"
    git(checkout, "commit", "-q", "-a", "-m", "y")
    newer = git(checkout, "rev-parse", "HEAD")[:7]
    assert f"is at {newer}, expected {backend.upstream.revision[:7]}" in problem(backend)


def test_a_checkout_without_git_has_no_revision_also_inside_a_repository(backend, tmp_path):
    inside = tmp_path / "upstream" / "unpacked"
    inside.mkdir()
    (inside / "echo_model.py").touch()
    part = parts(changed(backend, checkout=str(inside)))[0]
    assert (part.state, part.problem) == ("found, revision unknown (no git repository)", "")


def test_of_a_package_the_version_counts_and_there_is_no_checkout(backend):
    version = __import__("numpy").__version__
    package = changed(backend, package="numpy", revision=version, modules=("numpy",), checkout=None)
    assert [part.what for part in parts(package)] == ["interpreter", "lab/echo-1B"]
    assert not [part for part in parts(package) if part.problem]
    other = changed(package, revision="0.1")
    assert problem(other).startswith(
        f"echo can't be run: interpreter: {sys.executable} has numpy {version}, expected 0.1;"
    )


def test_weights_are_known_by_their_digest(backend, tmp_path):
    check_installed([backend])
    file = tmp_path / "weights" / "model.bin"
    file.write_bytes(b"other")
    assert f"lab/echo-1B: {file}: its SHA-256 starts with d9298a10, not 9a129038" in problem(backend)
    file.unlink()
    assert f"lab/echo-1B: missing: {file}" in problem(backend)
    check_installed([replace(backend, without="it is left out")])


def test_only_backends_of_jobs_that_run_have_to_be_there(backend):
    bare = changed(backend, python=None)
    check_installed([bare], rules={"train_capture", "compare"})
    with pytest.raises(UserError, match="interpreter: not set") as caught:
        check_installed([backend, bare, replace(bare, name="other")], rules={"align_world"})
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["echo", "other"]


def test_install_lines_make_what_the_config_names(backend, tmp_path):
    upstream = changed(backend, python="/envs/echo/bin/python").upstream
    clone = str(tmp_path / "upstream")
    assert upstream.install_lines() == [
        f"git clone https://example.org/lab/echo.git {clone}",
        f"git -C {clone} checkout {upstream.revision}",
        "python3.10 -m venv /envs/echo",
        f"/envs/echo/bin/python -m pip install 'numpy<2' -e {clone}",
    ]


STAGE = """
import pickle
from pathlib import Path

from splatdag.workflow import backend_process
from splatdag.workflow.backend_run import run_backend
from splatdag.workflow.stage import Job, run


def main(given: Path, out: Path, job: Job) -> None:
    \"\"\"Run a backend and publish.

    Args:
        given: pickled arguments.
        out: file to publish.
        job: how to run.
    \"\"\"
    backend, options, folder, contract, backend_process.__file__ = pickle.loads(given.read_bytes())
    result = run_backend(backend, options, folder, contract, inputs={})
    (result.folder / "predictions.npz").replace(out)


if __name__ == "__main__":
    run(main)
"""


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_the_end_of(processes: list[psutil.Process]) -> None:
    for _ in range(6_000):
        if not any(map(is_alive, processes)):
            return
        time.sleep(0.01)
    pytest.fail(f"still alive: {processes}")


class Stage:
    """A stage in a process of its own, whose backend waits for ever and has a worker in a session of its own."""

    def __init__(self, backend: Backend, folder: Path, tmp_path: Path, guardian: Path) -> None:
        (tmp_path / "waiting.py").write_text(STAGE)
        pids = tmp_path / "pids.json"
        options = {"how": "wait", "shape": [1, 1, 1], "pids": str(pids)}
        (tmp_path / "given").write_bytes(pickle.dumps((backend, options, folder, CONTRACT, str(guardian))))
        self.out, self.log = tmp_path / "out.npz", tmp_path / "stage.log"
        command = [sys.executable, "-m", "waiting", "--given", str(tmp_path / "given"), "--out", str(self.out)]
        self.process = subprocess.Popen(
            [*command, "--log", str(self.log)], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's & ignores
        )  # fmt: skip
        while not pids.exists():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        self.started = [psutil.Process(pid) for pid in json.loads(pids.read_text())]

    def alive(self) -> list[psutil.Process]:
        """Guardian, backend and worker, as far as they live."""
        return [process for process in self.started if is_alive(process)]


@pytest.fixture
def waiting(backend, folder, tmp_path):
    """Start a stage with a backend that waits; what is left is ended after the test."""
    stages: list[Stage] = []

    def start(guardian: str = backend_process.__file__, **changes: Any) -> Stage:
        stages.append(Stage(changed(backend, **changes), folder, tmp_path, Path(guardian)))
        return stages[-1]

    yield start
    for stage in stages:
        stage.process.kill()
        stage.process.wait()
        for process in stage.alive():
            process.kill()


@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize("everybody", [False, True])
def test_a_stage_that_is_stopped_ends_its_backend_and_says_that_it_can_go_on(waiting, folder, resumes, everybody):
    stage = waiting(resumes=resumes)
    assert len(stage.alive()) == 3
    if everybody:  # as Slurm does it
        for process in stage.started[:2]:
            process.send_signal(signal.SIGTERM)
    stage.process.send_signal(signal.SIGTERM)
    _, said = stage.process.communicate()
    assert stage.process.returncode == 75, said
    assert said.splitlines()[-1].endswith("told to stop (SIGTERM); nothing was published, run the same command again")
    assert stage.alive() == []
    assert not stage.out.exists()
    assert folder.exists() == resumes, "only what can be gone on with is kept"


def test_a_backend_that_does_not_stop_is_ended(waiting, tmp_path, monkeypatch):
    impatient = tmp_path / "impatient.py"
    source = Path(backend_process.__file__).read_text()
    impatient.write_text(source.replace("GRACE_SECONDS = 10.0", "GRACE_SECONDS = 0.1"))
    assert impatient.read_text() != source
    entry = tmp_path / "deaf.py"
    entry.write_text(f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{ENTRY.read_text()}")
    stage = waiting(str(impatient), entry=entry)
    stage.process.send_signal(signal.SIGTERM)
    stage.process.communicate()
    assert stage.process.returncode == 75
    assert stage.alive() == []


def test_a_stage_that_is_killed_leaves_no_orphan(waiting):
    stage = waiting()
    assert len(stage.alive()) == 3
    stage.process.kill()
    wait_for_the_end_of(stage.started)


def test_a_guardian_that_is_killed_takes_the_backend_with_it_and_the_stage_says_so(waiting):
    stage = waiting()
    guardian, backend, _ = stage.started
    guardian.kill()
    _, said = stage.process.communicate()
    wait_for_the_end_of([backend])
    assert stage.process.returncode == 2
    assert "failed: echo was ended by SIGKILL; the last it said: 100 %; was there enough memory?" in said


def test_ctrl_c_ends_it_too(waiting, folder):
    stage = waiting()
    os.killpg(stage.process.pid, signal.SIGINT)
    stage.process.communicate()
    assert stage.process.returncode == 130
    assert stage.alive() == []
    assert not folder.exists()
