"""Every output is complete or absent."""

import pytest

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete, read_json, write_json


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
