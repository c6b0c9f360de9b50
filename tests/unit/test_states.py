"""The state of a training is removed once its run has ended well."""

from __future__ import annotations

from pathlib import Path

import pytest

from splatdag.workflow.lock import exclusive
from splatdag.workflow.states import remove_states


@pytest.fixture
def outputs(tmp_path: Path) -> list[str]:
    run = tmp_path / "results" / "run"
    (run / "state").mkdir(parents=True)
    for name in ("splat.ply", "manifest.json", "state/checkpoint.pt", "state/checkpoint.0a1b2c3d.pt"):
        (run / name).touch()
    return [str(run / name) for name in ("splat.ply", "manifest.json")]


def test_all_states_of_a_run_that_has_ended_well_are_removed_and_its_results_stay(outputs: list[str]) -> None:
    remove_states([outputs, ["results/gone/splat.ply"]])
    assert sorted(path.name for path in Path(outputs[0]).parent.iterdir()) == ["manifest.json", "splat.ply"]


def test_a_state_in_which_another_process_works_stays(outputs: list[str]) -> None:
    state = Path(outputs[0]).parent / "state"
    with exclusive(state):
        remove_states([outputs])
        assert (state / "checkpoint.pt").exists()
