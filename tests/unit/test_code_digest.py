"""The code digest follows meaning: edits count, comments and the workflow package do not."""

import shutil

import pytest

from splatdag.workflow.code_digest import code_digest, digest_of


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "splatdag"
    for name, text in {
        "captures/__init__.py": '"""Area."""\n',
        "captures/train.py": "from splatdag.splats import loss\nfrom splatdag.captures.options import A\n"
        "from splatdag.workflow import x\n",
        "captures/options.py": "A = 1\n",
        "captures/pose.py": "B = 2\n",
        "splats/__init__.py": "",
        "splats/loss.py": 'def f(a):\n    """Doc."""\n    return a + 1  # why\n',
        "workflow/__init__.py": "",
        "workflow/x.py": "C = 3\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("splats/loss.py", "a + 1", "a + 2", True),
        ("splats/loss.py", "  # why", "", False),
        ("splats/loss.py", "Doc.", "Another text.", False),
        ("splats/loss.py", "a + 1", "(a  +  1)", False),
        ("captures/options.py", "A = 1", "A = 2", True),
        ("captures/pose.py", "B = 2", "B = 3", False),
        ("workflow/x.py", "C = 3", "C = 4", False),
        ("splats/loss.py", "", "def write_extra_curves(path):\n    path.touch()\n\n\n", False),
        ("splats/loss.py", "    return", "    write_extra_curves(a)\n    return", False),
        ("splats/loss.py", "    return", "    a = write_extra_curves(a)\n    return", True),
        ("splats/__init__.py", "", "import os\n", True),
    ],
)
def test_an_edit_changes_the_digest_of_what_depends_on_it(package, file, old, new, changes):
    before = digest_of("captures.train", package)
    path = package / file
    path.write_text(path.read_text().replace(old, new, 1))
    assert (digest_of("captures.train", package) != before) is changes


def test_a_copy_elsewhere_has_the_same_digest(package, tmp_path):
    copy = tmp_path / "elsewhere" / "splatdag"
    shutil.copytree(package, copy)
    assert digest_of("captures.train", copy) == digest_of("captures.train", package)


def test_training_depends_on_the_rasteriser_and_posing_does_not(repository, tmp_path):
    copy = tmp_path / "splatdag"
    shutil.copytree(repository / "scripts" / "splatdag", copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = {stage: digest_of(stage, copy) for stage in ("scene.train", "captures.pose")}
    assert before["scene.train"] == code_digest("scene.train")
    (copy / "splats" / "render.py").write_text("changed = True\n")
    assert digest_of("scene.train", copy) != before["scene.train"]
    assert digest_of("captures.pose", copy) == before["captures.pose"]


def test_options_of_a_training_are_no_code_of_poses_and_frames(repository, tmp_path):
    copy = tmp_path / "splatdag"
    shutil.copytree(repository / "scripts" / "splatdag", copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = {stage: digest_of(stage, copy) for stage in ("captures.pose", "captures.frames", "scene.train")}
    for name in ("scene/options.py", "captures/config.py"):
        with (copy / name).open("a") as module:
            module.write("\nNEW = 1\n")
    assert [stage for stage, digest in before.items() if digest_of(stage, copy) != digest] == ["scene.train"]
