"""The state of a training is there until Snakemake has noted that its run has ended well."""

from base64 import urlsafe_b64encode

import pytest

from splatdag.workflow.states import remove_states

OUTPUTS = ("results/run/splat.ply", "results/run/manifest.json")


def mark_as_incomplete(folder):
    mark = folder / ".snakemake" / "incomplete" / urlsafe_b64encode(OUTPUTS[0].encode()).decode()
    mark.parent.mkdir(parents=True)
    mark.touch()


CASES = {
    "ended well": (lambda folder: None, True),
    "not noted as ended": (mark_as_incomplete, False),
    "an output is missing": (lambda folder: (folder / OUTPUTS[1]).unlink(), False),
    "another process is at work": (lambda folder: (folder / "results/run/state/lease.json").touch(), False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_state_is_removed_only_when_its_run_has_ended_well(tmp_path, case):
    for name in (*OUTPUTS, "results/run/state/checkpoint.pt", "results/run/state/checkpoint.0a1b2c3d.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    change, removed = CASES[case]
    change(tmp_path)
    remove_states([OUTPUTS], tmp_path)
    assert (tmp_path / "results" / "run" / "state").exists() is not removed
