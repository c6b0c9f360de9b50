"""Every stage ends in the way its exit code says, in one line for a user and with all details in its log."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TOY = '''
"""A toy."""
import logging
import time
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.options import Options
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


class Nested(Options):
    width: int = Field(3, ge=1)
    """Width (pixels)."""


class ToyOptions(Options):
    presets: ClassVar = {"plain": {}, "big": {"steps": 99, "nested": {"width": 50}}}
    auto: ClassVar = {"cpu": "plain", "gpu": "big"}
    preset: str = "plain"
    """Preset."""
    steps: int = Field(7, gt=0, le=1000)
    """Steps (count)."""
    rate: float = 0.5
    """Rate (per step)."""
    nested: Nested = Nested()
    """More."""


def main(out: Path, options: ToyOptions, job: Job, end: str = "well", device_count: int = 0) -> None:
    """A toy stage.

    Args:
        out: file to write.
        options: of the toy.
        job: how to run.
        end: how to end.
        device_count: GPUs.
    """
    assert options.preset != "auto"
    logger.info("working with %d steps, width %d", options.steps, options.nested.width)
    if end == "user error":
        raise UserError("row 3: the\\n  photo is missing")
    if end == "stopped":
        raise Stopped("state saved after step 5")
    if end == "bug":
        secret = {}
        secret["nothing"]
    if end == "memory":
        raise MemoryError
    if end == "file":
        Path(out / "nowhere").read_text()
    if end == "sleep":
        time.sleep(60)
    if end == "deaf":
        try:
            time.sleep(60)
        except Exception:
            logger.info("a library swallowed it")
    out.write_text(f"{options.steps} {options.rate} {options.nested.width} {job.threads}")


if __name__ == "__main__":
    run(main)
'''
TRACEBACK = "Traceback (most recent call last)"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "toy", "--out", str(folder / "out.txt"), *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup has it ignored
    )


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    process = start(folder, *arguments, **environment)
    out, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def wait_until_it_works(process: subprocess.Popen[str], folder: Path) -> None:
    assert process.stderr is not None
    process.stderr.readline()
    while "working with" not in (folder / "toy.log").read_text():
        assert process.poll() is None


def test_a_stage_that_ends_well_says_so_and_exits_with_0(toy: Path) -> None:
    done = run(toy, "--log", "toy.log")
    assert done.returncode == 0
    assert done.stdout == ""
    assert re.fullmatch(r"\[toy\] working with 7 steps, width 3\n\[toy\] finished in [\d.]+ s\n", done.stderr)
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"{time} started toy \(process \d+\)\n{time} --out \S+/out\.txt --log toy\.log\n"
        rf"{time} working with 7 steps, width 3\n{time} finished in [\d.]+ s\n",
        (toy / "toy.log").read_text(),
    )


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("user error", 2, "failed: row 3: the photo is missing"),
        ("stopped", 75, "stopped: state saved after step 5"),
        ("bug", 1, "failed: KeyError: 'nothing'"),
        ("memory", 1, "failed: out of memory; give the job more memory or lower data size (data_factor)"),
        ("file", 1, "failed: No such file or directory: {out}/nowhere"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_an_end_has_its_exit_code_and_one_line_with_a_traceback_only_on_request(
    toy: Path, end: str, code: int, message: str, debug: bool
) -> None:
    done = run(toy, "--log", "toy.log", "--end", end, *(["--debug"] if debug else []))
    message = message.format(out=toy / "out.txt")
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == f"[toy] {message}"
    assert (TRACEBACK in done.stderr) == debug
    if not debug:
        assert done.stderr.splitlines() == ["[toy] working with 7 steps, width 3", f"[toy] {message}"]
    log = (toy / "toy.log").read_text()
    assert log.splitlines()[-1].endswith(f" {message}")
    assert end in ("memory", "file") or (TRACEBACK in log) == (debug or end == "bug")
    assert not (toy / "out.txt").exists()


def test_a_bug_leaves_its_place_in_the_log_file(toy: Path) -> None:
    run(toy, "--log", "toy.log", "--end", "bug")
    assert 'secret["nothing"]' in (toy / "toy.log").read_text()


def test_each_attempt_adds_a_header_to_the_log(toy: Path) -> None:
    run(toy, "--log", "deep/toy.log", "--end", "bug")
    run(toy, "--log", "deep/toy.log")
    log = (toy / "deep" / "toy.log").read_text()
    assert len(re.findall(r" started toy \(process \d+\)$", log, re.MULTILINE)) == 2
    assert log.index("failed: KeyError") < log.index("finished in")


@pytest.mark.parametrize(
    ("flags", "chosen", "result"),
    [
        ([], "plain on a CPU", "7 0.5 3"),
        (["--device-count", "0"], "plain on a CPU", "7 0.5 3"),
        (["--device-count", "2"], "big on a GPU", "99 0.5 50"),
        (["--device_count=2", "--steps=7"], "big on a GPU", "7 0.5 50"),
        (["--device-count=1", "--nested.width", "3", "--rate=0.1"], "big on a GPU", "99 0.1 3"),
        (["--device-count=1", "--config", "options.yaml"], "big on a GPU", "7 0.5 50"),
    ],
)
def test_the_preset_auto_is_chosen_by_the_devices_and_told(
    toy: Path, flags: list[str], chosen: str, result: str
) -> None:
    """Flags win over it, those that say what is the default without a preset, too."""
    (toy / "options.yaml").write_text("{preset: auto, steps: 7}")
    preset = [] if "--config" in flags else ["--preset=auto"]
    done = run(toy, "--log", "toy.log", *preset, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"[toy] preset auto is {chosen}"
    assert f" preset auto is {chosen}\n" in (toy / "toy.log").read_text()
    assert (toy / "out.txt").read_text() == f"{result} 2"


def test_a_stage_works_without_a_log(toy: Path) -> None:
    assert run(toy).returncode == 0
    assert (toy / "out.txt").read_text() == "7 0.5 3 2"


def test_under_a_folder_named_logs_the_terminal_shows_which_job_speaks(toy: Path) -> None:
    done = run(toy, "--log", "results/logs/captures/room/toy.log")
    assert done.stderr.startswith("[captures/room/toy] working")


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        pytest.param(["--steps", "0"], r"command line\S*steps: .*greater than 0, not 0", id="too small"),
        pytest.param(["--steps", "1001"], r"command line\S*steps: .*less than or equal to 1000, not 1001", id="large"),
        pytest.param(
            ["--nested.width", "0"],
            r"command line: .*nested: .* width Input should be greater than or equal to 1",
            id="nested",
        ),
        pytest.param(["--threads", "0"], r"command line\S*threads: .*greater than or equal to 1, not 0", id="threads"),
    ],
)
def test_a_value_out_of_range_is_one_line(toy: Path, flags: list[str], shown: str) -> None:
    done = run(toy, "--log", "toy.log", *flags)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.match(shown, done.stderr)
    assert not (toy / "out.txt").exists()


@pytest.mark.parametrize("flags", [["--steps", "many"], ["--stepz", "3"], ["--end"]])
def test_a_flag_that_cannot_be_read_exits_with_2_and_is_named_without_a_traceback(toy: Path, flags: list[str]) -> None:
    done = run(toy, *flags)
    assert done.returncode == 2
    assert TRACEBACK not in done.stderr
    assert flags[0] in done.stderr + done.stdout


@pytest.mark.parametrize("preset", [["--preset", "big"], ["--preset=big"]])
def test_a_preset_changes_the_defaults_and_flags_win_over_it(toy: Path, preset: list[str]) -> None:
    run(toy, *preset, "--nested.width", "4")
    assert (toy / "out.txt").read_text() == "99 0.5 4 2"
    run(toy, "--steps", "5", *preset)
    assert (toy / "out.txt").read_text() == "5 0.5 50 2"


def test_flags_may_have_underscores_and_dashes(toy: Path) -> None:
    (toy / "toy.py").write_text(
        TOY.replace("    rate: float", "    learning_rate: float").replace("s.rate", "s.learning_rate")
    )
    for flag in ("--learning-rate", "--learning_rate"):
        assert run(toy, flag, "0.25").returncode == 0
        assert (toy / "out.txt").read_text() == "7 0.25 3 2"


def test_a_second_process_on_the_same_log_is_refused_in_one_line(toy: Path) -> None:
    first = start(toy, "--log", "toy.log", "--end", "sleep")
    try:
        wait_until_it_works(first, toy)
        before = (toy / "toy.log").read_text()
        second = run(toy, "--log", "toy.log")
        assert second.returncode == 2
        assert second.stderr == "toy.log: another process is running this stage; wait for it or stop it\n"
        assert (toy / "toy.log").read_text() == before
        assert not (toy / "out.txt").exists()
    finally:
        first.kill()
        first.communicate()
    assert run(toy, "--log", "toy.log").returncode == 0


def test_a_log_that_cannot_be_opened_is_one_line(toy: Path) -> None:
    (toy / "file").write_text("")
    done = run(toy, "--log", "file/toy.log")
    assert done.returncode in (1, 2)
    assert TRACEBACK not in done.stderr
    assert "file" in done.stderr


def test_a_log_that_cannot_grow_is_said_once_and_costs_no_work(toy: Path) -> None:
    """A limit of file sizes stands in for a full disk: there is room for the header, and not for all that follows."""
    assert run(toy, "--log", "toy.log").returncode == 0
    room = (toy / "toy.log").stat().st_size + 110
    done = subprocess.run(
        [sys.executable, "-m", "toy", "--out", "out", "--log", "toy.log"],
        cwd=toy, capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert TRACEBACK not in done.stderr
    assert done.stderr.count("toy.log: File too large; the log is not whole, the work goes on") == 1


def test_a_log_whose_disk_is_full_from_the_start_is_one_line_with_its_path(toy: Path) -> None:
    (toy / "toy.log").symlink_to("/dev/full")
    done = run(toy, "--log", "toy.log")
    assert done.returncode == 2
    assert done.stderr == "--log: No space left on device: toy.log\n"


def stopped_by_sigterm(toy: Path, end: str, number: int = signal.SIGTERM) -> tuple[int, str]:
    process = start(toy, "--log", "toy.log", "--end", end)
    wait_until_it_works(process, toy)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_stop_a_plain_stage_with_75(toy: Path, number: int) -> None:
    code, errors = stopped_by_sigterm(toy, "sleep", number)
    assert code == 75
    assert errors.splitlines() == [
        "[toy] stopped: told to stop (SIGTERM); nothing was published, run the same command again"
    ]
    assert (toy / "toy.log").read_text().endswith(errors.removeprefix("[toy] "))
    assert not (toy / "out.txt").exists()


def test_sigterm_is_not_swallowed_by_a_library_that_catches_every_exception(toy: Path) -> None:
    code, _ = stopped_by_sigterm(toy, "deaf")
    assert code == 75
    assert not (toy / "out.txt").exists()


def test_no_environment_variable_is_logged(toy: Path) -> None:
    done = run(toy, "--log", "toy.log", "--end", "bug", "--debug", SECRET_TOKEN="hf_abcdefgh", HF_TOKEN="hf_ijklmnop")
    written = done.stdout + done.stderr + (toy / "toy.log").read_text()
    assert not re.search("SECRET_TOKEN|HF_TOKEN|hf_abcdefgh|hf_ijklmnop", written)
