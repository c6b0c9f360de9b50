"""One engine: what every training needs is written once, in `training/`."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from splatdag.training.run import run_folder

ENGINE_ONLY = {
    "state files": ("torch.save(",),
    "signal handlers": ("signal.signal(", "signal.sigwait"),
    "process groups": ("torch.distributed", "init_process_group("),
    "progress": ("ms a step", "continuing after step", "state saved after step", "state not continued"),
    "memory": ("OutOfMemoryError", "no memory left on the GPU"),
}
OF_PROCESSES = ("workflow/stage.py", "workflow/hang_up.py", "workflow/backend_process.py", "workflow/backend_run.py")
"""Any stage's signals, and those of programs of others."""
NO_TRAINING = {"signal handlers": ("captures/sfm.py",)}
"""COLMAP is told to stop in a way of its own."""


@pytest.mark.parametrize("what", ENGINE_ONLY)
def test_what_every_training_needs_is_in_the_engine_alone(repository: Path, what: str) -> None:
    package = repository / "scripts" / "splatdag"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(words in path.read_text() for words in ENGINE_ONLY[what])
    }
    of_engine = {name for name in found if name.startswith("training/")}
    assert of_engine
    assert found - of_engine <= {*OF_PROCESSES, *NO_TRAINING.get(what, ())}


def test_digests_of_what_is_learnt_from_must_be_given() -> None:
    assert inspect.signature(run_folder).parameters["inputs"].default is inspect.Parameter.empty
