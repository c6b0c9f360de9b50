"""envs/core.txt: every package that it names first is needed here, and the others are what these pull in."""

from __future__ import annotations

import ast
import re
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from splatdag.commands.generate import pinned

MARKER = "# what the packages above pull in (make pins)\n"
NOT_IMPORTED = {
    "snakemake-executor-plugin-slurm-jobstep": "the Slurm plugin starts every job with it",
    "pygments": "Snakemake's report colours source with it",
    "pytest-xdist": "pytest -n of the Makefile",
    "types-pyyaml": "mypy of the Makefile",
}
"""Packages that nothing imports, and why they are pinned all the same."""


def named_first(pins: str) -> set[str]:
    return {canonicalize_name(name) for name in re.findall(r"^(\S+)==", pins.partition(MARKER)[0], re.MULTILINE)}


def imported(repository: Path) -> set[str]:
    """Top-level modules that are imported anywhere in the repository's code."""
    found = set()
    for folder in ("scripts", "tests", "bench"):
        for path in (repository / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add(str(node.module).partition(".")[0])
    for path in (repository / "Snakefile", *(repository / "rules").glob("*.smk")):
        found |= set(re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def test_every_package_that_is_named_first_is_imported_or_a_tool_or_has_its_reason(repository: Path) -> None:
    modules = imported(repository)
    used = {
        canonicalize_name(distribution)
        for module, distributions in packages_distributions().items()
        for distribution in distributions
        if module in modules
    }
    tools = set(re.findall(r"\$\(BIN\)/(\w+)", (repository / "Makefile").read_text()))
    first = named_first((repository / "envs" / "core.txt").read_text())
    assert len(first) > 20
    assert first - used - tools - NOT_IMPORTED.keys() == set(), "imported by nothing"
    assert NOT_IMPORTED.keys() <= first - used, "a reason that is none any more"


def test_the_others_are_what_these_pull_in_and_not_all_that_is_installed() -> None:
    names = [line.partition("==")[0] for line in pinned(f"plyfile==1\n{MARKER}left==over\n").splitlines()]
    assert names == ["plyfile", MARKER.strip(), "numpy"]


def test_the_lock_has_all_pins_with_their_versions_and_hashes_of_each_file(repository: Path) -> None:
    pins = set(re.findall(r"^(\S+==\S+)$", (repository / "envs" / "core.txt").read_text(), re.MULTILINE))
    entries = re.split(r"^(?=\S+==)", (repository / "envs" / "core.lock.txt").read_text(), flags=re.MULTILINE)[1:]
    locked = {entry.split()[0] for entry in entries}
    assert len(pins) > 100
    assert {_same(pin) for pin in pins} <= {_same(pin) for pin in locked}, "make pins"
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


def _same(pin: str) -> tuple[str, str]:
    name, _, version = pin.partition("==")
    return canonicalize_name(name), version
