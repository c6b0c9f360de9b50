"""The same seed twice is the same bit by bit, in processes of their own; another seed is not."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from areas import REPEATS
from jobs import HANGS, Job
from rounds import sampled
from whole import contents

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("rule", sampled(REPEATS, 2, "bits"))
def test_the_same_seed_is_the_same_bit_by_bit_and_another_is_not(
    rule: str, jobs: list[Job], copy: Path, finished: Path
) -> None:
    for job, seed in itertools.product(jobs, ([], ["--seed=7"])):
        job.remove_outputs(copy)
        command = [sys.executable, *job.words[1:], *seed]
        subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=HANGS)
        made = [finished / Path(output).parent for output in job.outputs]
        found = {
            path.name: contents(copy / path.relative_to(finished)) == contents(path)
            for path in (finished / "results").glob(REPEATS[rule])
            if path.is_file() and path.suffix not in (".rrd", ".log") and not set(made).isdisjoint(path.parents)
        }
        assert found
        assert all(found.values()) == (not seed), found
