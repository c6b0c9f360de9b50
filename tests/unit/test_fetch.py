"""A download is complete or absent, whatever the server does: here a real one, on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from splatdag.scene.measure import Pair, measure
from splatdag.splats import fetch_lpips
from splatdag.splats.lpips import NoLpips
from splatdag.splats.lpips_weights import OFFLINE, WEIGHTS, backbone_path, to_fetch
from splatdag.workflow.errors import UserError
from splatdag.workflow.fetch import fetch, wait_for_fetch
from splatdag.workflow.stage import Job

BODY = os.urandom(3_000_000)
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `BODY`, cut off after so many bytes of each connection."""

    ranges = True
    cuts: list[int]
    """Bytes after which the next connections are cut; then none is."""
    asked: list[str]
    """The header Range of each request."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        begin = int(match[1]) if self.server.ranges and (match := re.fullmatch(r"bytes=(\d+)-", wanted)) else 0
        if begin >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(BODY) - begin))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(BODY)
        self.wfile.write(BODY[begin : begin + cut])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.cuts, made.asked = [], []
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "weights.pth"


def partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def is_whole(path: Path) -> bool:
    return path.read_bytes() == BODY and [other.name for other in path.parent.iterdir()] == [path.name]


def test_a_file_is_downloaded_once(server: Server, path: Path) -> None:
    for _ in range(2):
        fetch(server.address, path, DIGEST[:8])
    assert is_whole(path)
    assert server.asked == [""]


def test_after_a_cut_the_rest_is_asked_for(server: Server, path: Path) -> None:
    server.cuts = [1_000_000, 500_000]
    fetch(server.address, path, DIGEST)
    assert is_whole(path)
    assert server.asked == ["", "bytes=1000000-", "bytes=1500000-"]


def test_the_next_call_goes_on_where_a_killed_one_was(server: Server, path: Path) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(BODY[:2_000_000])
    fetch(server.address, path, DIGEST)
    assert is_whole(path)
    assert server.asked == ["bytes=2000000-"]


@pytest.mark.parametrize("left", [b"other" * 1000, BODY, BODY + b"more"])
def test_what_does_not_fit_is_downloaded_from_the_start(server: Server, path: Path, left: bytes) -> None:
    path.parent.mkdir()
    partial(path).write_bytes(left)
    fetch(server.address, path, DIGEST)
    assert is_whole(path)


def test_a_server_without_ranges_begins_anew(server: Server, path: Path) -> None:
    server.ranges, server.cuts = False, [1_000_000, 2_000_000]
    fetch(server.address, path, DIGEST)
    assert is_whole(path)


def test_a_connection_that_brings_nothing_more_ends_it_and_what_is_there_is_kept(server: Server, path: Path) -> None:
    server.cuts = [1_000_000, 0]
    with pytest.raises(UserError, match="weights.pth: cut off"):
        fetch(server.address, path, DIGEST)
    assert not path.exists()
    assert partial(path).stat().st_size == 1_000_000


def test_another_file_is_refused_and_nothing_of_it_stays(server: Server, path: Path) -> None:
    with pytest.raises(UserError, match=f"its SHA-256 starts with {DIGEST[:8]}, not 12345678"):
        fetch(server.address, path, "12345678")
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("address", "reason"),
    [("http://127.0.0.1:1/weights.pth", "refused"), ("http://no-such-host.invalid/weights.pth", "[Nn]ame|resolution")],
)
def test_without_a_network_it_is_one_line(path: Path, address: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"weights.pth: .*({reason})") as caught:
        fetch(address, path, DIGEST)
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.fixture
def fetch_alex(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Run the stage with weights that a server has under this name; gives what its receipt says."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv(OFFLINE)

    def run(name: str) -> dict[str, Any]:
        monkeypatch.setitem(WEIGHTS, "alex", name)
        receipt = tmp_path / "receipt.json"
        fetch_lpips.main("alex", receipt, Job(), f"http://127.0.0.1:{server.server_port}")
        return json.loads(receipt.read_text())

    return run


def test_weights_of_lpips_are_fetched_where_it_looks_for_them_and_asked_for_no_more(fetch_alex) -> None:
    name = f"alexnet-{DIGEST[:8]}.pth"
    assert fetch_alex(name) == {"net": "alex", "file": name, "problem": None}
    assert is_whole(backbone_path("alex"))
    assert not to_fetch("alex")


@pytest.mark.parametrize("offline", [False, True])
def test_where_weights_can_not_be_fetched_the_stage_ends_well_and_says_why(
    fetch_alex, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if offline:
        monkeypatch.setenv(OFFLINE, "1")
    problem = fetch_alex("alexnet-12345678.pth")["problem"]
    assert ("SPLATDAG_OFFLINE is set" if offline else "another file") in problem
    assert not backbone_path("alex").exists()
    assert to_fetch("alex") is not offline


def test_a_metric_that_can_not_be_measured_is_null_and_says_why() -> None:
    image = torch.rand((12, 12, 3), generator=torch.Generator().manual_seed(0))
    found = measure([Pair("a", image, image)], torch.zeros(3), NoLpips("no weights"))
    assert found["mean"]["lpips"] is found["baseline"]["lpips"] is found["views"][0]["lpips"] is None
    assert found["lpips_left_out"] == "no weights"


def test_two_at_a_time_download_it_once(server: Server, path: Path) -> None:
    both = [threading.Thread(target=fetch, args=(server.address, path, DIGEST)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert is_whole(path)
    assert server.asked == [""]


def test_who_needs_it_waits_for_it_and_not_for_what_a_killed_one_left(path: Path, monkeypatch) -> None:
    import fcntl

    wait_for_fetch(path)
    path.parent.mkdir()
    partial(path).touch()
    wait_for_fetch(path)
    with partial(path).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            fcntl.flock(held, fcntl.LOCK_UN)

        monkeypatch.setattr("time.sleep", sleep)
        wait_for_fetch(path)
        assert len(waits) == 1
        fcntl.flock(held, fcntl.LOCK_EX)
        wait_for_fetch(path, seconds=0)
