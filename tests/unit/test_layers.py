"""Who may import whom (design: The house)."""

import ast
import json
import re
import subprocess
import sys

from splatdag.areas import AREAS

FOLDERS = {type(area).__module__.split(".")[1] for area in AREAS} - {"areas"}
"""Of areas; `hub` is that of sharing, which publishes what others make."""
BELOW = {"workflow", "formats"}
ENGINE = BELOW | {"training", "splats"}
SHARED = ENGINE | {"scene", "recording"}
LAYERS = {
    "workflow": {"workflow"},
    "formats": BELOW,
    "samples": BELOW | {"samples"},
    "training": BELOW | {"training"},
    "splats": ENGINE,
    "scene": ENGINE | {"scene"},
    "recording": BELOW | {"recording", "splats"},
    **{folder: SHARED | {folder} for folder in FOLDERS},
    "hub": BELOW | {"hub", "recording"},
    "commands": BELOW | {"commands", "splats", "samples", "areas", "config"},
    "areas": {"workflow"} | FOLDERS,
    "config": {"workflow", "areas"},
}
NO_TORCH = ("workflow", "formats", "samples", "recording", "hub", "humans")
HEAVY = ("torch", "numpy", "pandas", "rerun", "cv2", "scipy", "numba", "pycolmap", "huggingface_hub", "snakemake")
"""What a plan needs nothing of, so that each job's own Snakemake begins at once."""


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def may_import(path, own, name):
    """Whether a module of a package may import another; areas also take the options of bundled samples."""
    top, _, rest = name.removeprefix("splatdag").lstrip(".").partition(".")
    of_sample = own in FOLDERS and top == "samples" and rest.endswith("options") and path.name == "area.py"
    return not name.startswith("splatdag.") or top in LAYERS[own] or of_sample


def test_packages_import_only_what_lies_below_them(repository):
    package = repository / "scripts" / "splatdag"
    there = [path for path in package.rglob("*.py") if path.parent != package or path.stem in LAYERS]
    assert {path.relative_to(package).parts[0].removesuffix(".py") for path in there} == LAYERS.keys()
    wrong = [
        f"{path.relative_to(package)} imports {name}"
        for path in there
        for name in imports(path)
        if not may_import(path, path.relative_to(package).parts[0].removesuffix(".py"), name)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_area_has_its_folder_its_rules_and_its_place_in_the_list(repository):
    package = repository / "scripts" / "splatdag"
    assert {path.parent.name for path in package.rglob("area.py")} == FOLDERS | {"workflow"}
    text = {path.name: path.read_text() for path in (repository / "rules").glob("*.smk")}
    for area in AREAS:
        for rule in area.rules:
            assert sum(f"\nrule {rule}:" in rules for rules in text.values()) == 1, rule
    included = re.findall(r'^include: "rules/(.+)"$', (repository / "Snakefile").read_text(), re.MULTILINE)
    assert sorted(included) == sorted(text)


LIGHT = """
import json, sys
import splatdag.config
found = [name for name in {heavy} if name in sys.modules]
from pathlib import Path
from splatdag.areas import Plans
from splatdag.workflow.area import Context
given = {{"driving": {{"data_root": "sample:street"}}, "sharing": {{"results_root": "sample:humans"}}}}
plans = Plans(splatdag.config.read_config(given), Context("results", "logs", Path({here!r}), Path("cache")))
files = [file for plan in plans.values() for file in plan.asked()]
stages = [stage for plan in plans.values() for stage in plan.stages()]
print(json.dumps([found, [name for name in {heavy} if name in sys.modules], len(files), len(stages)]))
"""


def test_a_config_is_read_and_planned_without_anything_heavy(repository, tmp_path):
    code = LIGHT.format(heavy=HEAVY, here=str(repository))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    imported, planned, files, stages = json.loads(done.stdout)
    assert (imported, planned) == ([], [])
    assert min(files, stages) > 5


def test_what_areas_share_names_none_of_them(repository):
    package = repository / "scripts" / "splatdag"
    names = "|".join(sorted(FOLDERS - {"hub"} | {"capture"}))
    area = re.compile(rf"\b({names})\b", re.IGNORECASE)
    paths = [path for shared in ("formats", "training", "splats", "scene") for path in (package / shared).rglob("*.py")]
    found = [f"{path.relative_to(package)}: {word}" for path in paths for word in area.findall(path.read_text())]
    assert found == []


def test_workflow_samples_and_sharing_have_no_torch(repository):
    package = repository / "scripts" / "splatdag"
    found = [
        str(path)
        for area in NO_TORCH
        for path in (package / area).rglob("*.py")
        if any(name.split(".")[0] == "torch" for name in imports(path))
    ]
    assert found == []


def test_kernels_lie_where_the_kernel_cache_looks_and_use_nothing_from_elsewhere(repository):
    package = repository / "scripts" / "splatdag"
    inside = {path for folder in ("samples", "splats/cpu") for path in (package / folder).rglob("*.py")}
    wrong = []
    for path in package.rglob("*.py"):
        names = list(imports(path))
        if path not in inside and "njit" in path.read_text():
            wrong.append(f"{path.name} has kernels")
        if path in inside:
            allowed = ("splatdag.samples", "splatdag.splats.cpu", "splatdag.workflow")
            wrong += [f"{path.name} uses {n}" for n in names if n.startswith("splatdag.") and not n.startswith(allowed)]
    assert not wrong, "\n".join(wrong)
