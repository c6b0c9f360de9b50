"""Every output is complete or absent."""

import os

import pytest

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete, filled_folder, read_json, write_json


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
    with pytest.raises(KeyError), complete(path):
        raise KeyError("another reason")
    real = os.statvfs(tmp_path)
    full = os.statvfs_result([*real[:3], 0, 0, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda folder: full)
    for error in (None, RuntimeError("unexpected pos"), OSError("3 requested and 1 written")):
        with pytest.raises(OSError, match=r"No space left on device: .*out\.txt'"), complete(path) as temporary:
            temporary.write_text("cut sh")
            if error:
                raise error
    assert list(tmp_path.iterdir()) == []


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
