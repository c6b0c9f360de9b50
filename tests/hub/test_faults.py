"""What goes wrong on the way to the Hub: each ends with the right tree, no commit twice, and a clear line."""

import re
import signal
import threading
from functools import partial
from pathlib import Path

import pytest
from support.processes import run_module
from support.uploads import FOLDER, REPO, environment, receipt, receipt_of, start
from support.waiting import wait_until

RECORDINGS = {f"{FOLDER}/rerun_files/{name}.rrd" for name in ("capture", "evaluation_nvs_epoch_0010", "tiny")}


def is_right(hub, run_dir, commits=1):
    """Everything is there, byte by byte, and was committed so many times."""
    there = hub.contents(REPO)
    for path in RECORDINGS:
        assert there[path] == (run_dir / "rerun" / Path(path).name).read_bytes()
    assert f"{FOLDER}/README.md" in there
    assert len([c for c in hub.repository(REPO).history() if c.message.startswith("single/room")]) == commits


PASSING = {
    "commit 503": ("POST", "/commit/", {"status": 503, "times": 2}, "the Hub answered 503"),
    "commit 500": ("POST", "/commit/", {"status": 500}, "the Hub answered 500"),
    "commit 429": ("POST", "/commit/", {"status": 429, "headers": {"Retry-After": "1"}}, "answered 429"),
    "commit 429 by rate limit": (
        "POST", "/commit/", {"status": 429, "headers": {"RateLimit": '"api";r=0;t=1'}}, "answered 429",
    ),
    "commit not sent": ("POST", "/commit/", {"drop": True}, "the connection failed"),
    "commit answer lost": ("POST", "/commit/", {"lose": True}, "the commit before had arrived"),
    "look 502": ("GET", "/revision/", {"status": 502}, "the Hub answered 502"),
    "look lost": ("GET", "/revision/", {"drop": True}, "the connection failed"),
    "listing 504": ("GET", "/tree/", {"status": 504}, "HTTP Error 504"),
    "storage 503": ("PUT", "/storage/", {"status": 503}, "HTTP Error 503"),
    "storage lost": ("PUT", "/storage/", {"drop": True}, "thrown while requesting PUT"),
    "part lost": ("PUT", "/part/3", {"drop": True}, "thrown while requesting PUT"),
    "batch 500": ("POST", "/batch", {"status": 500}, "HTTP Error 500"),
    "card checked by a proxy": ("POST", "/validate-yaml", {"status": 502, "text": b"<html>"}, "what is no JSON"),
    "commit answered by a proxy": ("POST", "/commit/", {"status": 200, "text": b"<html>"}, "what is no JSON"),
    "repository made, answer lost": ("POST", "/repos/create", {"lose": True}, "the connection failed"),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSING)
def test_a_fault_that_passes_costs_one_more_attempt_and_no_commit(hub, upload, run_dir, tmp_path, case):
    method, path, how, message = PASSING[case]
    hub.fail(method, path, **how)
    done = upload()
    assert done.returncode == 0, done.stderr
    assert message in done.stderr
    is_right(hub, run_dir)
    assert receipt(tmp_path)["commit"] == hub.repository(REPO).branches["main"]


def test_a_commit_that_takes_longer_than_the_patience_for_an_answer_is_not_made_twice(hub, upload, run_dir):
    go_on = threading.Event()
    late = hub.fail("POST", "/commit/", before=lambda: go_on.wait(300))
    done = upload("--timeout-s", "1")
    assert done.returncode == 0, done.stderr
    assert "the Hub did not answer in time" in done.stderr
    go_on.set()  # the first one arrives now, and is refused: its parent is no longer the head
    assert late.dealt_with.wait(300)
    is_right(hub, run_dir)


def test_a_hub_that_never_answers_does_not_hold_the_job_for_ever(hub, upload, tmp_path):
    go_on = threading.Event()
    hub.fail("GET", "/revision/", before=lambda: go_on.wait(300), times=9)
    done = upload("--timeout-s", "0.5", "--patience-s", "0")
    assert done.returncode == 1
    assert "the Hub did not answer in time (attempt 1); run the same command again later" in done.stderr
    go_on.set()
    assert not receipt_of(tmp_path).exists()


def test_a_branch_that_others_move_is_looked_at_again_and_keeps_what_is_theirs(hub, upload, run_dir):
    upload("--selection", "none", "--rrd-glob", "tiny.rrd")
    theirs = iter(range(9))

    def move():
        name = f"theirs/{next(theirs)}.txt"
        hub.store.commit(f"dataset/{REPO}", "main", {name: hub.store.regular(name.encode())}, "theirs")

    hub.fail("POST", "/commit/", before=move, times=2)
    done = upload()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the branch has moved") == 2
    is_right(hub, run_dir, commits=2)
    assert {"theirs/0.txt", "theirs/1.txt"} <= set(hub.contents(REPO))
    puts = [request.path for request in hub.requests if request.method == "PUT"]
    assert len(puts) == len(set(puts)), "no file was sent twice"


def test_a_scene_page_that_changed_meanwhile_is_made_of_what_is_there_now(hub, upload, run_dir):
    def add():
        other = hub.store.regular((run_dir / "rerun" / "tiny.rrd").read_bytes())
        path = f"{FOLDER}/rerun_files/evaluation_pose_epoch_0005.rrd"
        hub.store.commit(f"dataset/{REPO}", "main", {path: other}, "another uploader's")

    hub.fail("POST", "/commit/", before=add)
    assert upload().returncode == 0
    assert "evaluation_pose_epoch_0005.rrd" in hub.contents(REPO)[f"{FOLDER}/README.md"].decode()


REFUSED = {
    "no token": (None, "HF_TOKEN: not set in the environment", 0),
    "empty token": (" ", "HF_TOKEN: not set in the environment", 0),
    "wrong token": ("hf_nobody", "HF_TOKEN: .* does not accept this token \\(401\\)", 1),
    "token that may only read": ("hf_reader", "HF_TOKEN: this token may not write to lab/recordings", 3),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_token_that_will_not_do_is_one_line_before_anything_is_sent(hub, upload, tmp_path, case):
    token, message, requests = REFUSED[case]
    done = upload(token=token)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert re.search(message, line)
    assert len(hub.requests) == requests
    assert hub.sent() == 0
    assert not receipt_of(tmp_path).exists()


def test_a_token_that_may_only_read_sends_nothing_to_a_repository_that_is_there(hub, upload):
    hub.store.create(f"dataset/{REPO}")
    done = upload(token="hf_reader")
    assert done.returncode == 2, done.stderr
    assert "this token may not write to lab/recordings (403)" in done.stderr
    assert hub.sent() == 0


def test_a_token_file_is_not_used(hub, command, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_writer")
    env = environment(hub, None) | {"HF_HOME": str(tmp_path / "home"), "HF_TOKEN_PATH": str(tmp_path / "home/token")}
    done = run_module(*command[2:], "--repo-id", REPO, env=env)
    assert done.returncode == 2
    assert "HF_TOKEN: not set in the environment" in done.stderr


ENDING = {
    "busy for an hour": ("POST", "/commit/", {"status": 429, "headers": {"Retry-After": "3600"}},
                         "asks to wait 3600 s .attempt 1."),
    "storage busy for an hour": ("POST", "/batch", {"status": 429, "headers": {"Retry-After": "3600"}},
                                 "asks to wait 3600 s .attempt 1."),
    "down": ("POST", "/commit/", {"status": 503, "times": 99}, "the Hub answered 503 .* .attempt 3."),
    "connection": ("GET", "/revision/", {"drop": True, "times": 99}, "the connection failed .* .attempt 3."),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDING)
def test_a_fault_that_stays_ends_the_job_and_the_next_run_ends_right(hub, upload, run_dir, tmp_path, case):
    method, path, how, message = ENDING[case]
    fault = hub.fail(method, path, **how)
    done = upload("--patience-s", "3")
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.search(f"failed: HubFailure: {REPO}, branch main, at {hub.url}: .*{message}; run the same command", last)
    assert "Traceback" not in done.stderr
    assert not receipt_of(tmp_path).exists()
    fault.times = 0
    before = {request.path for request in hub.requests if request.method == "PUT"}
    assert upload().returncode == 0
    is_right(hub, run_dir)
    after = [request.path for request in hub.requests if request.method == "PUT"]
    assert len(after) == len(set(after)), f"what had arrived is not sent again: {before}"


def test_a_hub_that_is_not_there_is_named(upload, hub):
    hub.server.shutdown()
    hub.server.server_close()
    done = upload("--patience-s", "0")
    assert done.returncode == 1
    assert re.search(f"at {hub.url}: the connection failed", done.stderr)


def test_storage_that_the_client_can_not_use_is_named(hub, command):
    env = {key: value for key, value in environment(hub).items() if key != "HF_HUB_DISABLE_XET"}
    done = run_module(*command[2:], "--repo-id", REPO, env=env)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].endswith("has no Xet storage; set HF_HUB_DISABLE_XET=1 in the environment")


def test_an_uploader_that_is_killed_while_it_sends_leaves_nothing_and_the_next_ends_right(
    hub, command, upload, run_dir, tmp_path
):
    arrived, go_on = threading.Event(), threading.Event()
    hub.fail("PUT", "/part/5", before=lambda: (arrived.set(), go_on.wait(300)))
    process = start(command, hub)
    assert arrived.wait(300)
    process.kill()
    process.wait()
    go_on.set()
    assert not any(path.endswith(".rrd") for path in hub.contents(REPO))
    assert not receipt_of(tmp_path).exists()
    assert upload().returncode == 0
    is_right(hub, run_dir)


def test_an_uploader_that_is_killed_after_its_commit_does_not_commit_again(hub, command, upload, run_dir, tmp_path):
    killed = threading.Event()
    look_again = partial(hub.fail, "GET", "/api/", before=lambda: killed.wait(300))  # is not answered before the kill
    hub.fail("POST", "/commit/", before=look_again, lose=True)
    process = start(command, hub)
    wait_until(lambda: hub.store.repositories and hub.repository(REPO).history())
    process.kill()
    process.wait()
    killed.set()
    assert not receipt_of(tmp_path).exists()
    done = upload()
    assert "nothing was sent" in done.stderr
    is_right(hub, run_dir)
    assert receipt(tmp_path)["commit"] == hub.repository(REPO).branches["main"]


def test_sigterm_stops_an_upload_and_says_so(hub, command, tmp_path):
    hub.fail("POST", "/commit/", status=503, times=99)
    process = start(command, hub)
    for line in process.stderr:
        if "attempt 2" in line:
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stderr.read()
    assert process.wait(300) == 75
    assert "stopped: told to stop (SIGTERM)" in rest
    assert not receipt_of(tmp_path).exists()


def test_two_uploads_at_once_are_two_commits_one_after_the_other(hub, command, tmp_path):
    hub.store.create(f"dataset/{REPO}")
    other = [word.replace("room.json", "hall.json").replace("upload.log", "hall.log") for word in command]
    other[other.index("room")] = "hall"
    processes = [start(each, hub) for each in (command, other)]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert {c.message for c in hub.repository(REPO).history()} == {
        "single/room: 3 recordings",
        "single/hall: 3 recordings",
    }
    assert "moved" not in "".join(said), "the later one waited"
