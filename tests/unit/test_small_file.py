"""Files that users name are read without waiting for them, and not more of them than is sensible."""

import os
from pathlib import Path

import pytest

from splatdag.driving.clips.clips import read_index
from splatdag.driving.logs.json_files import read_list
from splatdag.driving.logs.pickles import read_plain
from splatdag.formats.transforms import read_transforms
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import read_json
from splatdag.workflow.sheets import read_sheet
from splatdag.workflow.site import read_site
from splatdag.workflow.small_file import read_small
from splatdag.workflow.yaml_text import check_config_file, read_yaml

pytestmark = pytest.mark.usefixtures("bounded")

READERS = {
    "sheet": lambda path: read_sheet(path, "capture", set(), set()),
    "config": check_config_file,
    "options": lambda path: read_yaml(path, str(path)),
    "site": read_site,
    "JSON": read_json,
    "transforms.json": lambda path: read_transforms(path.parent),
    "list of a log": read_list,
    "index.jsonl": read_index,
}


def named(kind: str, folder: Path) -> Path:
    return folder / (kind if "." in kind else "file")


@pytest.fixture(params=["pipe", "device"])
def endless(request):
    """Make a path a pipe that nobody writes into, or a link to zeros without end."""

    def make(path: Path) -> Path:
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        return path

    return make


def refused(read, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", READERS)
def test_a_pipe_or_device_is_refused_and_not_waited_for(kind, endless, tmp_path):
    assert "not a regular file" in refused(READERS[kind], endless(named(kind, tmp_path)))


def test_a_pickled_index_that_is_a_pipe_or_device_is_refused(endless, tmp_path):
    assert "not a regular file" in refused(read_plain, endless(tmp_path / "index.pkl"))


@pytest.mark.parametrize("kind", READERS)
def test_a_file_of_six_gigabytes_is_refused_after_its_first_part(kind, tmp_path):
    path = named(kind, tmp_path)
    with path.open("wb") as file:
        file.truncate(6 << 30)
    assert "more than " in refused(READERS[kind], path)


def test_a_file_is_read_whole_up_to_its_limit_and_through_links(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_small(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="more than"):
        read_small(tmp_path / "file", 4)


def test_a_file_that_claims_to_be_empty_is_limited_too():
    """Files of /proc have size 0, whatever is in them."""
    assert Path("/proc/self/status").stat().st_size == 0
    assert read_small(Path("/proc/self/status"), 1 << 20).startswith(b"Name:")
    with pytest.raises(OSError, match="more than"):
        read_small(Path("/proc/self/status"), 10)


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "folder", "nowhere"])
def test_what_cannot_be_opened_is_an_error_with_a_reason(name, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=".") as caught:
        read_small(tmp_path / name, 5)
    assert caught.value.strerror
