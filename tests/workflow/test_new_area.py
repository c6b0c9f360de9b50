"""What it takes to add an area: its folder, a file of rules, an include, and its name in the list; all else follows."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

AREA = '''
"""Toys as an area."""

from splatdag.toys.options import ToysConfig
from splatdag.workflow.area import Area, CpuResources, Plan, PlannedRun, StageRule
from splatdag.workflow.options import flags


class Toys(Area):
    """Toys that are spun."""

    name = "toys"
    config = ToysConfig
    throttle = 1
    rules = {
        "spin_toy": StageRule(
            "spin",
            "toys.spin",
            "toys/{toy}/spin.log",
            "toys/{toy}/spun/manifest.json",
            CpuResources(threads=1, mem_mb=3_000),
        ),
        "record_toy": StageRule(
            "record", "toys.record_toy", "toys/{toy}/recording.log", "toys/{toy}/spun/rerun/toy.rrd", throttled=False
        ),
    }

    def plan(self, config, context):
        """Plan what the config names."""
        return ToysPlan(config.toys, context)


class ToysPlan(Plan):
    """The toys of the config."""

    def __init__(self, toys, context):
        self.toys, self.context = toys, context

    def targets(self):
        """The target `toys` asks for all of them."""
        return {"toys": self.asked}

    def asked(self):
        """All toys, spun."""
        return [run.done for run in self.runs()]

    def renders(self, files):
        """Spinning needs no kernels."""
        return False

    def stages(self):
        """A stage of each toy."""
        for toy in self.toys.names:
            yield self.context.stage("toys", "spin_toy", Toys.rules["spin_toy"], toy, toy=toy)

    def runs(self):
        """A run of each toy."""
        for toy in self.toys.names:
            folder = f"{self.context.results}/toys/{toy}/spun"
            recordings = (self.context.recording("record_toy", Toys.rules["record_toy"], toy=toy),)
            done = f"{folder}/manifest.json"
            yield PlannedRun("toys", toy, "spun", folder, done, recordings=recordings, row=toy, trained=False)

    def notices(self):
        """Toys that are not spun at all."""
        return [("config: toys", "turns: 0, so nothing is spun")] if not self.toys.turns else []

    def flags(self, wildcards):
        """Options of a stage."""
        return flags(self.toys)
'''
OPTIONS = '''
"""The section `toys`."""

from splatdag.workflow.options import Options


class ToysConfig(Options):
    """Toys that are spun."""

    names: tuple[str, ...] = ()
    """Toys."""
    turns: int = 3
    """Turns of each."""
'''
SPIN = '''
"""Spin a toy."""

from pathlib import Path

from splatdag.toys.options import ToysConfig
from splatdag.workflow.manifest import RunId, write_manifest
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run


def main(run_dir: Path, options: ToysConfig, job: Job) -> None:
    """Spin a toy.

    Args:
        run_dir: of the run.
        options: how often.
        job: how to run.
    """
    write_json(run_dir / "metrics.json", {"mean": {"angle": 360.0 * options.turns}})
    write_manifest(
        run_dir / "manifest.json", "toys.spin", RunId.of(job.run_id, "toys.spin", run_dir), {"spin": 0.1},
        inputs={}, options=options.model_dump(), device="cpu",
    )


if __name__ == "__main__":
    run(main)
'''
RECORD = '''
"""Record a toy."""

from pathlib import Path

import rerun as rr
import rerun.blueprint as rrb

from splatdag.recording.recording import Layout, recording
from splatdag.workflow.stage import Job, run


def main(run_dir: Path, out: Path, job: Job) -> None:
    """Record a toy.

    Args:
        run_dir: of its run.
        out: the recording (.rrd).
        job: how to run.
    """
    with recording(out, "toys", run_dir.parent.name, Layout(rrb.Spatial3DView()), 1) as stream:
        stream.log("metrics", rr.TextDocument((run_dir / "metrics.json").read_text()), static=True)


if __name__ == "__main__":
    run(main)
'''
RULES = '''
toys = RULES["toys"]


rule toys:
    """All toys, spun."""
    input:
        toys.target("toys"),


rule spin_toy:
    """Spin a toy."""
    output:
        metrics="<results>/toys/{toy}/spun/metrics.json",
        manifest=toys.output("spin_toy"),
    log:
        toys.log("spin_toy"),
    threads: toys.threads("spin_toy")
    resources:
        **toys.resources("spin_toy"),
    params:
        flags=toys.flags,
        code=toys.code("spin_toy"),
        run=subpath(output.manifest, parent=True),
    shell:
        "exec python -m splatdag.toys.spin --run-dir {params.run:q} --run-id toys/{wildcards.toy}/spun"
        " --threads {threads} --log {log:q} {params.flags:q}"


rule record_toy:
    """Record a toy."""
    input:
        manifest=toys.output("spin_toy"),
    output:
        recording=toys.output("record_toy"),
    log:
        toys.log("record_toy"),
    threads: toys.threads("record_toy")
    resources:
        **toys.resources("record_toy"),
    params:
        code=toys.code("record_toy"),
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.toys.record_toy --run-dir {params.run:q} --out {output.recording:q}"
        " --threads {threads} --log {log:q}"
'''
FILES = {
    "scripts/splatdag/toys/__init__.py": "",
    "scripts/splatdag/toys/area.py": AREA,
    "scripts/splatdag/toys/options.py": OPTIONS,
    "scripts/splatdag/toys/spin.py": SPIN,
    "scripts/splatdag/toys/record_toy.py": RECORD,
    "project/rules/toys.smk": RULES,
}
"""The folder and the rules."""
LINES = {
    "project/Snakefile": ('include: "rules/runs.smk"\n', 'include: "rules/runs.smk"\ninclude: "rules/toys.smk"\n'),
    "scripts/splatdag/areas.py": (
        "\n\n\nclass House(",
        "\nfrom splatdag.toys.area import Toys\n\n\nclass House(",
    ),
}
NAME = (" Sharing())", " Toys(), Sharing())")
"""The include, the import and the name."""
FOUND = """
import json
from areas import uncovered
from splatdag.commands.generate import options_table, resources_table
from splatdag.config import schema
from test_layers import LAYERS
print(json.dumps([json.loads(schema()), options_table() + resources_table(), uncovered(), sorted(LAYERS["toys"])]))
"""
REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> tuple[Path, Run]:
    """A copy of the tree with a new area, and how to run a module of Python in its project."""
    root = tmp_path_factory.mktemp("toys")
    (root / "project").mkdir()
    project = new_project(root / "project")
    shutil.copytree(REPOSITORY / "scripts", root / "scripts")
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text.lstrip())
    for name, (before, after) in LINES.items():
        replace(root / name, before, after)
    replace(root / "scripts/splatdag/areas.py", *NAME)
    (project / "config/captures.tsv").write_text("capture\tdata_dir\n")
    config = {"toys": {"names": ["top", "yoyo"]}, "resources": {"spin_toy": {"runtime": 7}}}
    (project / "config/config.yaml").write_text(json.dumps(config))
    tests = REPOSITORY / "tests"
    paths = [root / "scripts", tests, tests / "faults", tests / "unit"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return project, run


def replace(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, before
    path.write_text(text.replace(before, after))


def test_it_is_in_the_schema_the_table_of_options_the_layers_and_a_gap_in_the_table_of_faults(
    toys: tuple[Path, Run],
) -> None:
    _, run = toys
    schema, table, uncovered, layer = json.loads(run("-c", FOUND).stdout)
    assert schema["$defs"]["ToysConfig"]["properties"]["turns"]["default"] == 3
    assert {"spin_toy", "record_toy"} <= schema["$defs"]["ResourcesConfig"]["properties"].keys()
    assert "| `toys.turns` |" in table
    assert "| `spin_toy` | toys | 1 | 3000 |" in table
    assert uncovered == ["record_toy", "spin_toy"]
    assert {"toys", "scene", "workflow"} <= set(layer)
    assert "captures" not in layer


def test_its_target_is_listed_and_its_jobs_are_throttled_on_a_cluster(toys: tuple[Path, Run]) -> None:
    _, run = toys
    listed = run("-m", "snakemake", "--list-target-rules").stdout
    assert "toys (All toys, spun.)" in listed
    slurm = ("--workflow-profile", "workflow_profiles/slurm", "--config", "toys={turns: 0}")
    done = run("-m", "snakemake", "-n", *slurm)
    assert "splatdag: config: toys: turns: 0, so nothing is spun" in done.stderr
    jobs = dict(re.findall(r"^rule (\w+_toy):\n(?:    .*\n)*?    resources: (.*)", done.stdout, re.MULTILINE))
    assert "toys_jobs=1" in jobs["spin_toy"]
    assert "mem_mb=3000" in jobs["spin_toy"]
    assert "runtime=7" in jobs["spin_toy"]
    assert "slurm_partition=cpu" in jobs["spin_toy"]
    assert "toys_jobs" not in jobs["record_toy"]


def test_it_runs_and_is_in_status_compare_recordings_and_the_upload(toys: tuple[Path, Run]) -> None:
    project, run = toys
    done = run("-m", "snakemake", "toys", "recordings", "upload", "--cores", "2")
    said = done.stdout + done.stderr
    assert [part.count("rule spin_toy:") for part in re.split(r"Execute \d+ jobs", said)].count(1) == 2, "one at a time"
    assert "splatdag: upload: 2 recordings of 2 scenes" in said
    assert "splatdag:   experiments/spun/top: toy.rrd (to be recorded)" in said
    for toy in ("top", "yoyo"):
        assert (project / f"results/toys/{toy}/spun/rerun/toy.rrd").stat().st_size > 100
        assert "1080" in (project / f"results/hub/experiments/spun/{toy}/README.md").read_text()
    with (project / "results/compare/runs.csv").open() as file:
        rows = [(row["area"], row["scene"], row["variant"], row["angle"]) for row in csv.DictReader(file)]
    assert rows == [("toys", "top", "spun", "1080.0"), ("toys", "yoyo", "spun", "1080.0")]
    told = run("-m", "snakemake", "status").stdout
    assert re.search(r"^toys +spin +record$", told, re.MULTILINE)
    assert re.search(r"^yoyo +done +done$", told, re.MULTILINE)
