"""Who may import whom (design: The house)."""

import ast
import re

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
    "captures": SHARED | {"captures"},
    "driving": SHARED | {"driving"},
    "humans": SHARED | {"humans"},
    "hub": BELOW | {"hub", "humans", "recording"},
    "commands": BELOW | {"commands", "captures", "driving", "humans", "hub", "splats", "samples", "asked", "config"},
}
NO_TORCH = ("workflow", "formats", "samples", "recording", "hub", "humans")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def test_packages_import_only_what_lies_below_them(repository):
    package = repository / "scripts" / "splatdag"
    wrong = []
    for area in [p.name for p in package.iterdir() if (p / "__init__.py").is_file()]:
        for path in (package / area).rglob("*.py"):
            for name in imports(path):
                parts = name.split(".")
                if parts[0] == "splatdag" and len(parts) > 1 and parts[1] not in LAYERS[area]:
                    wrong.append(f"{path.relative_to(package)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_what_areas_share_names_none_of_them(repository):
    package = repository / "scripts" / "splatdag"
    area = re.compile(r"\b(captures?|driving|humans)\b", re.IGNORECASE)
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
