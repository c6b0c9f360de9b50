"""Uploads with huggingface_hub's own client to a Hub on this machine."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, HfApi, hf_hub_download, snapshot_download
from support.uploads import FOLDER, REPO, receipt, receipt_of, record


def test_what_is_downloaded_again_is_what_was_uploaded(hub, upload, run_dir, tmp_path, monkeypatch):
    done = upload()
    assert done.returncode == 0, done.stderr
    for key, value in hub.environment().items():
        monkeypatch.setenv(key, value)
    there = Path(
        snapshot_download(REPO, repo_type="dataset", cache_dir=tmp_path / "cache", endpoint=hub.url, token=False)
    )
    recordings = sorted(path.name for path in (there / FOLDER / "rerun_files").iterdir())
    assert recordings == ["capture.rrd", "evaluation_nvs_epoch_0010.rrd", "tiny.rrd"]
    for name in recordings:
        assert (there / FOLDER / "rerun_files" / name).read_bytes() == (run_dir / "rerun" / name).read_bytes()
    assert sorted(path.name for path in there.iterdir() if path.name[0] != ".") == ["README.md", "experiments"]
    files = hub.repository(REPO).at("main").files
    assert [files[f"{FOLDER}/rerun_files/{name}"].is_lfs for name in recordings] == [True, True, False]
    assert any("/part/8" in request.path for request in hub.requests), "the large one in parts"


def test_a_scene_is_one_commit_and_the_receipt_names_it(hub, upload, tmp_path):
    assert upload().returncode == 0
    [commit] = hub.repository(REPO).history()
    assert commit.message == "single/room: 3 recordings"
    written = receipt(tmp_path)
    assert (written["commit"], written["repo_id"], written["branch"]) == (commit.oid, REPO, "main")
    name = f"{FOLDER}/rerun_files/capture.rrd"
    assert written["files"][name] == {"size": 5000, "sha256": commit.files[name].sha256, "rerun": "0.41.0"}


def test_a_second_upload_makes_no_commit_and_sends_nothing(hub, upload, tmp_path):
    assert upload().returncode == 0
    commit, before = receipt(tmp_path)["commit"], len(hub.requests)
    done = upload()
    assert done.returncode == 0, done.stderr
    assert "nothing was sent" in done.stderr
    assert {request.method for request in hub.requests[before:]} == {"GET"}
    assert receipt(tmp_path)["commit"] == commit
    assert len(hub.repository(REPO).history()) == 1


def test_a_file_that_is_known_is_not_read_again(hub, upload, run_dir, tmp_path):
    assert upload().returncode == 0
    recording = run_dir / "rerun" / "capture.rrd"
    state = recording.stat()
    changed = bytearray(recording.read_bytes())
    changed[-1] ^= 1
    recording.write_bytes(changed)
    import os

    os.utime(recording, ns=(state.st_atime_ns, state.st_mtime_ns))  # the same size and time: taken for the same
    assert "nothing was sent" in upload().stderr
    os.utime(recording)
    assert upload().returncode == 0
    assert hub.contents(REPO)[f"{FOLDER}/rerun_files/capture.rrd"] == bytes(changed)


def test_only_what_changed_is_sent(hub, upload, run_dir):
    assert upload().returncode == 0
    before = hub.sent()
    record(run_dir / "rerun" / "capture.rrd", 6_000, seed=1)
    assert upload().returncode == 0
    assert 6_000 < hub.sent() - before < 10_000, "the recording, and the page with its size"
    newest = hub.repository(REPO).history()[0]
    assert newest.files[f"{FOLDER}/rerun_files/capture.rrd"].size == 6_000


def test_links_to_earlier_epochs_stay_when_their_files_are_gone_here(hub, upload, run_dir, tmp_path):
    assert upload().returncode == 0
    (run_dir / "rerun" / "evaluation_nvs_epoch_0010.rrd").unlink()
    record(run_dir / "rerun" / "evaluation_nvs_epoch_0020.rrd")
    old = (run_dir / "rerun" / "evaluation_nvs_epoch_0020.rrd").read_bytes()
    (run_dir / "rerun" / "evaluation_nvs_epoch_0020.rrd").write_bytes(b"RRF2\x00\x2a\x01\x00" + old[8:])
    assert upload().returncode == 0
    page = hub.contents(REPO)[f"{FOLDER}/README.md"].decode()
    rows = re.findall(r"^\| (\S+) \| (\S+ \S+) \| \[(evaluation\S+)\]\((\S+)\) \| \[open\]\((\S+)\) \|$", page, re.M)
    root = f"{hub.url}/datasets/{REPO}/resolve/main/{FOLDER}/rerun_files"
    quoted = f"{root}/evaluation_nvs_epoch_".replace(":", "%3A").replace("/", "%2F")
    viewer = "https://app.rerun.io/version"
    assert rows == [
        ("10", "300.0 kB", "evaluation_nvs_epoch_0010.rrd", f"{root}/evaluation_nvs_epoch_0010.rrd",
         f"{viewer}/0.41.0/index.html?url={quoted}0010.rrd"),
        ("20", "5.0 kB", "evaluation_nvs_epoch_0020.rrd", f"{root}/evaluation_nvs_epoch_0020.rrd",
         f"{viewer}/0.42.1/index.html?url={quoted}0020.rrd"),
    ]  # fmt: skip
    assert "| recorded with Rerun | 0.41.0, 0.42.1 |" in page
    for _, _, name, link, _ in rows:
        path = link.removeprefix(f"{hub.url}/datasets/{REPO}/resolve/main/")
        assert hub.contents(REPO)[path], name
    before = hub.sent()
    assert upload().returncode == 0
    assert hub.sent() == before


def test_a_card_that_is_there_stays_and_one_that_is_missing_is_valid(hub, upload, run_dir, tmp_path):
    assert upload().returncode == 0
    card = hub.contents(REPO)["README.md"].decode()
    assert DatasetCard(card).data.to_dict()["viewer"] is False
    hub.store.commit(f"dataset/{REPO}", "main", {"README.md": hub.store.regular(b"# Ours\n")}, "our own card")
    record(run_dir / "rerun" / "capture.rrd", seed=2)
    assert upload().returncode == 0
    assert hub.contents(REPO)["README.md"] == b"# Ours\n"


def test_weights_that_bar_commercial_use_are_on_page_and_card_also_on_one_that_is_there(hub, upload, run_dir):
    assert upload().returncode == 0
    assert "license_name" not in DatasetCard(hub.contents(REPO)["README.md"].decode()).data.to_dict()
    weights = {"name": "lab/echo-1B", "source": "https://x", "revision": "1", "licence": "CC-BY-NC-4.0"}
    weights |= {"licence_url": "https://x/licence", "commercial": False, "used_for": "results"}
    (run_dir / "manifest.json").write_text(json.dumps({"stage": "scene.train", "weights": [weights]}))
    assert upload().returncode == 0
    card = hub.contents(REPO)["README.md"].decode()
    assert DatasetCard(card).data.to_dict()["license_name"] == "non-commercial"
    assert "- [lab/echo-1B](https://x): [CC-BY-NC-4.0](https://x/licence)" in card
    assert "**not** for commercial use" in hub.contents(REPO)[f"{FOLDER}/README.md"].decode()
    before = hub.sent()
    assert upload().returncode == 0
    assert hub.sent() == before
    (run_dir / "manifest.json").write_text(json.dumps({"stage": "scene.train", "weights": [{"name": "x"}]}))
    _is_refused(upload(), "manifest.json: weights: Field required")


def test_another_branch_and_a_model_repository(hub, upload, tmp_path):
    done = upload("--branch", "drafts/july", "--repo-type", "model", to="lab/models")
    assert done.returncode == 0, done.stderr
    repository = hub.repository("lab/models", "model")
    assert f"{FOLDER}/README.md" in repository.at("drafts/july").files
    assert not repository.history("main")
    page = hub.store.blob(repository.at("drafts/july").files[f"{FOLDER}/README.md"].sha256).read_text()
    assert f"({hub.url}/lab/models/resolve/drafts%2Fjuly/{FOLDER}/rerun_files/tiny.rrd)" in page
    url = f"{hub.url}/lab/models/resolve/drafts%2Fjuly/{FOLDER}/rerun_files/tiny.rrd"
    got = hf_hub_download(
        "lab/models",
        f"{FOLDER}/rerun_files/tiny.rrd",
        revision="drafts/july",
        endpoint=hub.url,
        cache_dir=tmp_path / "c",
    )
    assert Path(got).stat().st_size == 300, url


def test_a_private_repository_is_asked_for(hub, upload):
    assert upload("--private").returncode == 0
    assert hub.repository(REPO).private
    assert upload().returncode == 0, "and found again"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--selection", "eval_all"], {"capture", "evaluation_nvs_epoch_0010", "evaluation_nvs_epoch_0015", "tiny"}),
        (["--selection", "eval_latest"], {"capture", "evaluation_nvs_epoch_0015", "tiny"}),
        (["--selection", "none", "--rrd-glob", "trn_nv_generation_epoch_*.rrd"], {"trn_nv_generation_epoch_0016"}),
        (["--selection", "eval_latest", "--rrd-glob", "*_0010.rrd"],
         {"capture", "evaluation_nvs_epoch_0010", "evaluation_nvs_epoch_0015", "tiny"}),
    ],
)  # fmt: skip
def test_the_selection_chooses(hub, upload, run_dir, arguments, expected):
    for name in ("evaluation_nvs_epoch_0015", "trn_nv_generation_epoch_0016"):
        record(run_dir / "rerun" / f"{name}.rrd")
    done = upload(*arguments)
    assert done.returncode == 0, done.stderr
    there = {path.rpartition("/")[2] for path in hub.contents(REPO) if path.endswith(".rrd")}
    assert there == {f"{name}.rrd" for name in expected}


WRONG = {
    "no selected recording": (["--selection", "none"], {}, "no recording that `selection` and `rrd_glob` choose"),
    "no recording": ([], {"capture.rrd": b"# text"}, "capture.rrd: not a Rerun recording, or cut short"),
    "empty recording": ([], {"tiny.rrd": b""}, "tiny.rrd: not a Rerun recording, or cut short"),
    "name": ([], {"a b.rrd": b"RRF2\x00\x29\x00\x00"}, "a b.rrd: not a name for a file of the Hub"),
    "metrics": ([], {"../metrics.json": b"{"}, "metrics.json: not JSON"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_line_and_nothing_is_sent(hub, upload, run_dir, tmp_path, case):
    arguments, files, message = WRONG[case]
    for name, data in files.items():
        (run_dir / "rerun" / name).write_bytes(data)
    done = upload(*arguments)
    _is_refused(done, message)
    assert hub.requests == []
    assert not receipt_of(tmp_path).exists()


def _is_refused(done, message):
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert message in line


def test_a_folder_gets_the_same_tree_as_the_hub(hub, upload, tmp_path, run_dir):
    assert upload().returncode == 0
    assert upload(to=None).returncode == 0
    folder = tmp_path / "results" / "hub"
    there = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    on_hub = hub.contents(REPO)
    del on_hub[".gitattributes"]
    assert set(there) == set(on_hub)
    assert {path for path in there if there[path] != on_hub[path]} == {f"{FOLDER}/README.md"}, "its links differ"
    page = there[f"{FOLDER}/README.md"].decode()
    assert "| [tiny.rrd](rerun_files/tiny.rrd) | `rerun rerun_files/tiny.rrd` |" in page
    assert "commit" not in receipt(tmp_path)
    (run_dir / "rerun" / "capture.rrd").unlink()
    assert upload(to=None).returncode == 0
    assert "capture.rrd" in (folder / FOLDER / "README.md").read_text(), "what is there stays there, and on the page"


def test_a_token_is_not_needed_for_a_folder_and_no_request_is_made(hub, upload):
    assert upload(to=None, token=None).returncode == 0
    assert hub.requests == []


def test_the_client_finds_what_listing_gives_page_by_page(hub, upload, run_dir):
    for epoch in range(8):
        record(run_dir / "rerun" / f"evaluation_nvs_epoch_{epoch:04}.rrd", 200)
    assert upload().returncode == 0
    names = HfApi(endpoint=hub.url, token=False).list_repo_files(REPO, repo_type="dataset")
    assert len([name for name in names if name.endswith(".rrd")]) == 11
    before = hub.sent()
    assert upload().returncode == 0
    assert hub.sent() == before
