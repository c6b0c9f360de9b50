"""What Snakemake plans, read from its output, and stand-ins for what it would make."""

import json
import os
import re

from jobs import jobs_of

SHEET = "config/captures.tsv"


def planned(output: str) -> dict[str, list[str]]:
    """Rule → shell commands of a dry run's output."""
    jobs: dict[str, list[str]] = {}
    for rule, command in re.findall(r"^ *(?:local)?rule (\w+):\n(?:.*\n)*?Shell command: (.*)$", output, re.MULTILINE):
        jobs.setdefault(rule, []).append(re.sub(r"\s+", " ", command).strip())
    return jobs


LARGE = 1_500_000
"""Bytes of stand-ins: more than Snakemake by itself compares the contents of."""


def write_stand_ins(folder, output):
    """Write a file in the place of everything that the jobs of a dry run, with their commands, make in a project."""
    benchmarks = re.findall(r"^    benchmark: (.*)", output, re.MULTILINE)
    for name in [*(name for job in jobs_of(output) for name in job.outputs), *benchmarks]:
        path = folder / name if (folder / name).suffix else folder / name / "file"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(name))
        if path.suffix not in (".json", ".txt", ".tsv"):
            os.truncate(path, LARGE)
