"""What Snakemake plans, read from its output."""

import re

SHEET = "config/captures.tsv"


def planned(output: str) -> dict[str, list[str]]:
    """Rule → shell commands of a dry run's output."""
    jobs: dict[str, list[str]] = {}
    for rule, command in re.findall(r"^ *(?:local)?rule (\w+):\n(?:.*\n)*?Shell command: (.*)$", output, re.MULTILINE):
        jobs.setdefault(rule, []).append(re.sub(r"\s+", " ", command).strip())
    return jobs
