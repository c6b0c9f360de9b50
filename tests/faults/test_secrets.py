"""No secret, and no other value of the environment, is in what a run of every area leaves or says."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from areas import RULES, TARGETS, write_project
from jobs import HANGS, jobs_of
from support.local_hub import LocalHub

pytestmark = pytest.mark.faults
VARIABLES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "OPENAI_API_KEY",
    "DATABASE_PASSWORD",
    "NO_SECRET_AT_ALL",
)
"""The last is no secret: where its value is, the environment was dumped."""
RUNS: list[tuple[int, tuple[str, ...]]] = [
    (1, ("--verbose", *TARGETS)),
    (0, ("status",)),
    (0, ("compare", "captures", "--report", "results/report.html")),
    (0, ("-n", "-p", "--forceall", *TARGETS)),
]
"""Arguments of Snakemake, and how it ends; in the first a capture fails."""
SPY = """
import json, os, pathlib, sys, time

place = pathlib.Path(os.environ["NOTED"])
(place / str(time.time_ns())).write_text(json.dumps([" ".join(sys.orig_argv), dict(os.environ)]))
"""
"""Notes command line and environment of every Python process, also of one that is gone at once."""
SAID = "said by "
"""Begins the names of what was written to the terminal."""


@dataclass
class Ran:
    """A run of every area, with what it wrote and which commands it started."""

    folder: Path
    planted: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)
    commands: set[str] = field(default_factory=set)
    knew: set[str] = field(default_factory=set)
    """Variables that processes which it started had."""

    def snakemake(self, *arguments: str, environment: dict[str, str]) -> int:
        """Run Snakemake and watch its processes, those of Python by what they note; its exit code."""
        noted, spy = self.folder.parent / "noted", self.folder.parent / "spy"
        for folder in (noted, spy):
            folder.mkdir()
        (spy / "sitecustomize.py").write_text(SPY)
        environment = environment | {"NOTED": str(noted), "PYTHONPATH": str(spy)}
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        output = self.folder.parent / f"output-{len(self.said)}"
        with output.open("w") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(psutil.Process(process.pid), ended))
        watcher.start()
        try:
            return process.wait(HANGS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            ended.set()
            watcher.join()
            self.said[f"{SAID}snakemake {' '.join(arguments)}"] = output.read_text()
            output.unlink()
            for note in noted.iterdir():
                started, had = json.loads(note.read_text())
                self.commands.add(started)
                self.knew |= {name for name in VARIABLES if had.get(name) == self.planted[name]}
            for folder in (noted, spy):  # the environment is in the notes
                shutil.rmtree(folder)

    def _watch(self, root: psutil.Process, ended: threading.Event) -> None:
        while not ended.wait(0.5):
            with suppress(psutil.Error):
                for child in root.children(recursive=True):
                    with suppress(psutil.Error):
                        self.commands.add(" ".join(child.cmdline()))


def run_every_area(root: Path, new_project: Callable[[Path], Path]) -> Ran:
    """A run of every area that uploads to a Hub which tells the token back, with a capture that fails, and a report."""
    planted = {name: f"{name[:3].lower()}_{secrets.token_hex(16)}" for name in (*VARIABLES, "token file")}
    for name in ("project", "home", "tmp"):
        (root / name).mkdir()
    ran = Ran(root / "project", planted)
    write_project(new_project(ran.folder))
    config = json.loads((ran.folder / "config" / "config.yaml").read_text())
    config["sharing"]["upload"] = {"repo_id": "lab/recordings", "include_samples": True}
    (ran.folder / "config" / "config.yaml").write_text(json.dumps(config))
    (ran.folder / "data" / "broken").mkdir()
    (ran.folder / "data" / "broken" / "one.jpg").write_bytes(b"no photo")
    with (ran.folder / "config" / "captures.tsv").open("a") as sheet:
        sheet.write("broken\t../data/broken\t\t\n")
    token = root / "home" / ".cache" / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.write_text(planted["token file"])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    environment = kept | {name: planted[name] for name in VARIABLES}
    environment |= {"HOME": str(root / "home"), "TMPDIR": str(root / "tmp")}
    with LocalHub(root / "hub") as hub:
        environment |= hub.environment(planted["HF_TOKEN"])
        hub.tokens = {planted["HF_TOKEN"]: "write"}
        hub.fail("POST", "/commit/", status=503, headers={"X-Error-Message": f"no thanks, {planted['HF_TOKEN']}"})
        for code, arguments in RUNS:
            assert ran.snakemake(*arguments, environment=environment) == code, list(ran.said.values())[-1]
        assert len(hub.repository("lab/recordings").history()) > 1
    command = [sys.executable, "-m", "splatdag.commands.doctor"]
    doctor = subprocess.run(command, cwd=ran.folder, env=environment, capture_output=True, text=True, check=True)
    ran.said[f"{SAID}the doctor"] = doctor.stdout + doctor.stderr
    token.unlink()
    return ran


def spellings(value: str) -> list[bytes]:
    """A value as it is, in UTF-16, in hexadecimal numbers, and within text in base64, which has three ways to begin."""
    plain = value.encode()
    encoded = (base64.b64encode(b"x" * skipped + plain)[4 if skipped else 0 : -4] for skipped in range(3))
    return [plain, value.encode("utf-16-le"), plain.hex().encode(), *encoded]


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """What is in a file, unpacked too."""
    data = path.read_bytes()
    yield str(path), data
    if data.startswith(b"\x1f\x8b"):
        yield f"{path}, unpacked", gzip.decompress(data)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield f"{path}: {name}", archive.read(name)


def holders(ran: Ran, *values: str) -> set[str]:
    """Where one of the values is: files and their names, what was said, command lines."""
    wanted = [spelling for value in values for spelling in spellings(value)]
    texts: list[tuple[str, bytes]] = [(where, said.encode()) for where, said in ran.said.items()]
    texts += [(f"command {command}", command.encode()) for command in ran.commands]
    found = {where for where, text in texts if any(spelling in text for spelling in wanted)}
    for path in ran.folder.parent.rglob("*"):
        if any(spelling in os.fsencode(path.name) for spelling in wanted):
            found.add(f"name of {path}")
        if path.is_file():
            found |= {name for name, data in contents(path) if any(spelling in data for spelling in wanted)}
    return found


def check_ran(ran: Ran) -> None:
    """Fail unless every rule's stage ran, knew the secrets, and there was reason to tell them."""
    said = [ran.said[f"{SAID}snakemake {' '.join(arguments)}"] for _, arguments in RUNS]
    assert [rule for rule in RULES if not re.search(rf"rule {rule}:", said[0])] == []
    stages = {job.module for job in jobs_of(said[-1])}
    assert [stage for stage in stages if not any(f"-m {stage} " in command for command in ran.commands)] == []
    assert ran.knew == set(VARIABLES)
    assert "only one photo" in said[0], "the log of what failed"
    logs = [log.read_text() for log in (ran.folder / "logs" / "sharing").rglob("*.log")]
    assert any("[secret]" in log for log in logs), "the token that the Hub told back"
    known = holders(ran, "max_steps", "captures/apple")
    for kind in ("/.snakemake/log/", "/.snakemake/metadata/", "/logs/", "/manifest.json", "/report.html", "command "):
        assert any(kind in where for where in known), kind


@pytest.mark.slow
def test_secrets_of_the_environment_are_in_nothing_that_a_run_of_every_area_leaves_or_says(
    tmp_path: Path, new_project: Callable[[Path], Path]
) -> None:
    ran = run_every_area(tmp_path, new_project)
    check_ran(ran)
    assert holders(ran, *ran.planted.values()) == set()


def test_a_secret_is_found_packed_encoded_in_names_and_in_command_lines(tmp_path: Path) -> None:
    secret, folder = "hf_" + secrets.token_hex(16), tmp_path / "project"
    folder.mkdir()
    for skipped in range(3):
        encoded = base64.b64encode(b"'" * skipped + secret.encode() + b"', 'more'")
        (folder / f"encoded-{skipped}").write_bytes(b"{" + encoded + b"}")
    (folder / "packed.gz").write_bytes(gzip.compress(b"token=" + secret.encode()))
    with zipfile.ZipFile(folder / "packed.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", f"token={secret}")
    (folder / f"of-{secret}").touch()
    (folder / "innocent").write_text("hf_")
    ran = Ran(folder, {}, {"said by it": f"({secret})"}, {f"curl {secret}"})
    assert holders(ran, secret) == {
        *(f"{folder}/encoded-{skipped}" for skipped in range(3)),
        f"{folder}/packed.gz, unpacked",
        f"{folder}/packed.npz: inside",
        f"name of {folder}/of-{secret}",
        "said by it",
        f"command curl {secret}",
    }
