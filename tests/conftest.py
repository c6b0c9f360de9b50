"""What all tests share: where the repository is, and running Snakemake and stages as a user does."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import run_module

from splatdag.workflow.user_cache import ensure_kernels, use_kernel_cache

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("SPLATDAG_OFFLINE", "1")  # no test asks for what lies elsewhere
# A process that compiles kernels gets other last bits than one that finds them compiled, and tests compare bits.
use_kernel_cache()
ensure_kernels()


def pytest_configure(config: pytest.Config) -> None:
    """Let warnings of numba fail tests; in pyproject.toml, pytest would import numba before it is told of the cache."""
    config.addinivalue_line("filterwarnings", "error::numba.core.errors.NumbaWarning")


@pytest.fixture(scope="session", autouse=True)
def empty_working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory for all tests, in which nothing lies and none leaves anything.

    In the repository there may be results, logs and caches, of a demo for one.
    """
    folder, before = tmp_path_factory.mktemp("empty"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)
    assert not list(folder.iterdir()), "a test wrote into the working directory"


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the workflow's own files with the sheet as shipped, to change and run in."""
    return copy_project(tmp_path)


@pytest.fixture(scope="module")
def module_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `project`, for all tests of a module together."""
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def new_project() -> Callable[[Path], Path]:
    """Make a folder a copy of the workflow, as `project` is one."""
    return copy_project


def copy_project(folder: Path) -> Path:
    for name in ("Snakefile", "rules", "config", "workflow_profiles", "envs", "report"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True)
        else:
            shutil.copy2(source, folder / name)
    (folder / "config" / "captures.tsv").write_text("capture\tdata_dir\nroom\tsample:room\n")
    (folder / "profiles").symlink_to("workflow_profiles")
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def snakemake(project: Path) -> Run:
    """Run `snakemake ARGUMENTS` in the project."""

    return functools.partial(run_module, "snakemake", cwd=project)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three small photos."""
    import cv2
    import numpy as np

    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        image = np.random.default_rng(index).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.jpg"), image)
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write records of planned jobs anew")
