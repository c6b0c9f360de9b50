"""What the documents say exists: links, targets of Snakemake, modules with their flags, keys of the config."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support.processes import run_module

from splatdag.config import Config
from splatdag.workflow.options import documented

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "config/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RULES = {
    name
    for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    for name in re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
}
SECTIONS = ("captures", "driving", "sharing", "samples", "resources")
OF_A_ROW = ("train", "pose", "frames")
"""Options of captures, by which columns of the sheet are called."""
COLUMNS = {
    f"resources.{stage}.{name}"
    for stage in ("frames", "pose", "train", "evaluate")
    for name in ("mem_mb", "runtime", "threads", "gpus", "gpu_class")
}
"""Of the sheet, which look like keys of the config."""
PLACEHOLDER = re.compile(r"[A-Z_]{2,}|.*[<…{*]|.*\bDIR\b")
"""What a reader puts something of his own in place of."""


def pages(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(path: Path) -> Iterator[str]:
    """What is to be typed: code of a line, and blocks of a shell."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            yield line.partition("   #")[0].strip()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 12_000


@pytest.mark.parametrize("path", PAGES, ids=pages)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        where = (path.parent / file).resolve() if file else path
        assert where.exists(), target
        assert not anchor or anchor in anchors(where), target


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in map(pages, PAGES[1:]) if f"]({page})" not in text] == []


@pytest.mark.parametrize("path", PAGES, ids=pages)
def test_targets_that_are_typed_exist(path: Path) -> None:
    for command in commands(path):
        if not re.match(r"(\w+=\S+ )*(\.venv/bin/)?snakemake ", command):
            continue
        words = shlex.split(command.partition("#")[0])
        words = words[[word.endswith("snakemake") for word in words].index(True) + 1 :]
        for before, word in zip(["", *words], words, strict=False):
            takes = before.startswith("--") and before not in ("--", "--unlock", "--list-target-rules", "--lint")
            if not (word.startswith("-") or takes or "=" in word or "/" in word or PLACEHOLDER.match(word)):
                assert word in RULES, f"{command}: {word}"


@cache
def help_of(module: str) -> str:
    done = run_module(module, "--help")
    assert done.returncode == 0, f"{module}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("path", PAGES, ids=pages)
def test_modules_that_are_typed_exist_and_take_their_flags(path: Path) -> None:
    for command in commands(path):
        for module, rest in re.findall(r"python -m (splatdag[\w.]*)([^|]*)", command):
            assert importlib.util.find_spec(module), command
            for flag in re.findall(r"--[\w.-]+", rest):
                assert re.search(rf"{flag}\b", help_of(module)), f"{module} has no {flag}"


def keys() -> set[str]:
    """Keys of the config, and what they lie in."""
    found = {key for key, *_ in documented(Config)}
    return {".".join(key.split(".")[:depth]) for key in found for depth in range(1, key.count(".") + 2)}


@pytest.mark.parametrize("path", PAGES, ids=pages)
def test_keys_of_the_config_exist(path: Path) -> None:
    known = keys()
    for span in re.findall(r"`([a-z_]+\.[a-z_.]+)(?::[^`\n]*)?`", path.read_text(encoding="utf-8")):
        section = span.partition(".")[0]
        if Path(span).suffix in (".tsv", ".py", ".yaml", ".log"):
            continue
        if section in SECTIONS:
            assert span in known | COLUMNS, span
        elif section in OF_A_ROW:
            assert f"captures.{span}" in known, span
