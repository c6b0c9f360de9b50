"""A page in a headless Chromium, driven over its debugging pipe, and the web viewer that comes with Rerun's wheel."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from support.waiting import LIMIT_S, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe", "--window-size=1500,900",
)  # fmt: skip

_AS_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in enumerate(ends, start=3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Starts a program with two pipes as descriptors 3 and 4, where Chromium expects them."""


class Page:
    """One page; commands of the DevTools protocol go through two pipes."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._left, self._number, self._session = b"", 0, ""
        self._events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer.get("method", ""))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            part = os.read(self._answers, 1 << 16)
            assert part, "Chromium ended"
            self._left += part
        first, _, self._left = self._left.partition(b"\0")
        return json.loads(first)

    def open(self, url: str) -> None:
        """Show a page, and wait until it is loaded."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._events:
            self._events.append(self._next().get("method", ""))

    def screenshot(self) -> np.ndarray:
        """What is shown, [H, W, 3] uint8."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with a profile of its own in `folder`."""
    assert CHROMIUM is not None
    ours, theirs = os.pipe(), os.pipe()
    command = [sys.executable, "-c", _AS_3_AND_4, str(ours[0]), str(theirs[1]), CHROMIUM, *FLAGS]
    command.append(f"--user-data-dir={folder}")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(ours[0], theirs[1]), **quiet)
    os.close(ours[0])
    os.close(theirs[1])
    try:
        yield Page(ours[1], theirs[0])
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        os.close(ours[1])
        os.close(theirs[0])


@contextmanager
def web_viewer(recording: Path) -> Iterator[str]:
    """Serve a recording with the wheel's own web viewer; gives the address of the page."""
    ports = [_free_port(), _free_port()]
    command = [str(Path(sys.executable).with_name("rerun")), "--serve-web", "--bind", "127.0.0.1"]
    command += ["--port", str(ports[0]), "--web-viewer-port", str(ports[1]), str(recording)]
    # `rerun` is a script that starts the program proper: the two are one session, to be ended together.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    page = f"http://127.0.0.1:{ports[1]}/"

    def answers() -> bool:
        with suppress(OSError):
            urllib.request.urlopen(page, timeout=LIMIT_S).close()
            return True
        return False

    try:
        wait_until(answers)
        yield f"{page}?renderer=webgl&url={quote(f'rerun+http://127.0.0.1:{ports[0]}/proxy', safe='')}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
