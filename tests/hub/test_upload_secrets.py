"""Tokens and passwords are in nothing that an upload writes, says or is started with."""

import threading
from contextlib import suppress
from pathlib import Path

from support.processes import run_module
from support.uploads import REPO, environment, receipt, record, start

SECRET = "hf_Planted" + "Secret4711"


def test_the_token_and_signatures_are_in_nothing_that_is_written(hub, upload, run_dir, tmp_path):
    """A server that tells the token back, failures with tracebacks, a success: all that is written is searched."""
    hub.tokens = {SECRET: "write"}
    echo = {"X-Error-Message": f"no thanks, {SECRET}"}
    said = []
    for fault, more in (
        (("POST", "/commit/", {"status": 400, "headers": echo}), ["--debug"]),
        (("POST", "/commit/", {"status": 503, "headers": echo, "times": 2}), ["--debug", "--patience-s", "1"]),
        (("PUT", "/storage/", {"status": 503, "headers": echo}), ["--debug"]),
        (("POST", "/preupload/", {"status": 403, "headers": echo}), ["--debug"]),
    ):
        hub.fail(fault[0], fault[1], **fault[2])
        done = upload(*more, token=SECRET)
        said.append(done.stdout + done.stderr)
        hub.faults.clear()
        record(run_dir / "rerun" / "capture.rrd", seed=len(said))
    assert upload(token=SECRET).returncode == 0
    assert "Traceback" in said[0]
    assert "[secret]" in "".join(said), "it would have been there"
    ours = [path for path in tmp_path.rglob("*") if path.is_file() and (tmp_path / "hub") not in path.parents]
    assert {"upload.log", "room.json"} <= {path.name for path in ours}
    written = {str(path): path.read_text(errors="replace") for path in ours}
    written |= {f"on the Hub: {path}": data.decode(errors="replace") for path, data in hub.contents(REPO).items()}
    written |= {f"said {index}": text for index, text in enumerate(said)}
    for where, text in written.items():
        assert SECRET not in text, where
        assert "X-Signature=signed" not in text, where


def test_a_password_in_the_address_of_the_hub_is_in_nothing_that_is_written_or_said(hub, command, tmp_path):
    def tried(address):
        places = environment(hub) | {"HF_ENDPOINT": address}
        return run_module(*command[2:], "--repo-id", REPO, "--patience-s", "0", env=places)

    hub.tokens["Basic dXNlcjpodW50ZXIy"] = "write"  # as a proxy may want it
    failed, done = tried("http://user:hunter2@127.0.0.1:9"), tried(hub.url.replace("//", "//user:hunter2@"))
    assert (failed.returncode, done.returncode) == (1, 0), failed.stderr + done.stderr
    assert "at http://127.0.0.1:9: " in failed.stderr
    assert receipt(tmp_path)["endpoint"] == hub.url
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"hunter2" in path.read_bytes() for path in written)
    assert "hunter2" not in failed.stderr + done.stderr


def test_the_token_is_in_no_command_line(hub, command):
    arrived, go_on = threading.Event(), threading.Event()
    hub.fail("POST", "/commit/", before=lambda: (arrived.set(), go_on.wait(300)))
    process = start(command, hub)
    assert arrived.wait(300)
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended, or is another user's
            lines.append(path.read_bytes())
    go_on.set()
    process.communicate(timeout=300)
    assert not any(b"hf_writer" in line for line in lines)
