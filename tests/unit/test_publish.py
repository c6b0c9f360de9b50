"""Every output is complete or absent."""

import os
import resource
import subprocess
import sys

import pytest

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete, complete_folder, filled_folder, read_json, write_json


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "out.txt"
    with complete(path) as temporary:
        temporary.write_text("all")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "all"
    assert [p.name for p in path.parent.iterdir()] == ["out.txt"]


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), complete(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


WRITER = """
import sys, time
from pathlib import Path
from splatdag.workflow.publish import complete, complete_folder
with complete(Path(sys.argv[1], "splat.ply")) as file, complete_folder(Path(sys.argv[1], "room")) as folder:
    file.write_text("half")
    (folder / "1.jpg").touch()
    print("writing", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_overwritten_by_the_next_attempt(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert killed.stdout.readline() == "writing\n"
    killed.kill()
    killed.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".room.partial", ".splat.partial.ply"]
    with complete(tmp_path / "splat.ply") as file, complete_folder(tmp_path / "room") as folder:
        assert file.read_bytes() == b""
        file.write_text("all")
        (folder / "2.jpg").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["room", "splat.ply"]
    assert (tmp_path / "splat.ply").read_text() == "all"
    assert [path.name for path in (tmp_path / "room").iterdir()] == ["2.jpg"]


def test_a_link_that_was_left_is_removed_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "splat.ply").touch()
    (tmp_path / ".apple.partial").symlink_to("run", target_is_directory=True)
    with complete(tmp_path / "apple") as temporary:
        temporary.write_text("all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apple", "run"]
    assert (tmp_path / "run" / "splat.ply").exists()


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), complete(tmp_path / "out.txt"):
        pass


def test_json_without_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "out.json", {"psnr": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "No such file or directory"),
        (b'{"psnr": ', "not JSON: Expecting value"),
        (b"\xff", "not JSON: 'utf-8' codec"),
        (b"[" * 100_000, "not JSON: it is nested too deeply"),
        (b"[1, 2]", "not an object of names and values"),
    ],
)
def test_json_that_cannot_be_read_is_one_line_with_its_path(tmp_path, data, message):
    path = tmp_path / "metrics.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as error:
        read_json(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_json_is_read_as_it_was_written(tmp_path):
    write_json(tmp_path / "out.json", {"camera": "Straße", "psnr": [20.5, None]})
    assert read_json(tmp_path / "out.json") == {"camera": "Straße", "psnr": [20.5, None]}


def test_a_full_disk_is_named_with_its_file_also_where_a_library_notices_nothing(tmp_path, monkeypatch):
    path = tmp_path / "out.txt"
    with pytest.raises(OSError, match=r"No space left on device: .*out\.txt'"), complete(path) as temporary:
        temporary.touch()
        raise OSError(28, "No space left on device")
    real = os.statvfs(tmp_path)
    full = os.statvfs_result([*real[:3], 0, 0, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda folder: full)
    with pytest.raises(OSError, match=r"No space left on device: .*out\.txt'"), complete(path) as temporary:
        temporary.write_text("cut sh")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_files():
    """Files of this process may have 6,000 bytes, as where a quota is used up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("error", [RuntimeError("unexpected pos"), OSError("3 requested and 1 written")])
def test_what_a_library_says_instead_of_a_quota_is_told_as_what_it_is(tmp_path, small_files, error):
    path = tmp_path / "out.txt"
    for size, told in ((5000, r"File too large: .*out\.txt'"), (100, str(error))):
        with pytest.raises((OSError, RuntimeError), match=told), complete(path) as temporary:
            temporary.write_bytes(bytes(size))
            raise error
    with pytest.raises(type(error), match=str(error)), complete_folder(tmp_path / "room") as folder:
        (folder / "1.jpg").write_bytes(bytes(5000))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_looking_for_room_leaves_linked_files_as_they_are(tmp_path):
    recording, target = tmp_path / "capture.rrd", tmp_path / "run"
    recording.write_bytes(b"recording")
    target.mkdir()
    for make in (lambda path: os.link(recording, path), lambda path: path.symlink_to(target)):
        with pytest.raises(KeyError), complete(tmp_path / "out") as temporary:
            temporary.unlink()
            make(temporary)
            raise KeyError("another reason")
    assert recording.read_bytes() == b"recording"
    assert sorted(tmp_path.rglob("*")) == [recording, target]


def test_a_new_folder_appears_as_a_whole_and_one_with_files_keeps_them(tmp_path):
    folder = tmp_path / "room"
    with pytest.raises(RuntimeError), filled_folder(folder) as place:
        (place / "1.jpg").touch()
        raise RuntimeError
    assert not folder.exists()
    with filled_folder(folder) as place:
        (place / "1.jpg").touch()
        assert not folder.exists()
    with filled_folder(folder) as place:
        (place / "2.jpg").touch()
    assert sorted(path.name for path in folder.iterdir()) == ["1.jpg", "2.jpg"]
