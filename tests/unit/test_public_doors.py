"""Other packages are used through their public doors: nothing private of theirs is read, nothing of theirs replaced.

A private name, which begins with `_`, belongs to the module that defines it, to a class here and those made from it.
"""

import ast
import re
from types import MappingProxyType

import pytest

DOCUMENTED = {"os._exit"}
"""Names that are public for all their underscore."""
WITHOUT_PUBLIC_DOOR = {"torch._fused_adam_", "dist.distributed_c10d._abort_process_group"}
"""Of torch: the kernel of its fused Adam, and the end of a NCCL group of which a rank is lost."""
SETTINGS = {"pycolmap.logging.minloglevel", "pycolmap.logging.alsologtostderr"}
"""Attributes of a module that are its way to be set."""


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def defined(tree):
    """Private names that a module defines: functions, variables, attributes and fields of its classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def imported(tree):
    """Names that a module has from other packages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.asname or name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("splatdag"):
            yield from (name.asname or name.name for name in node.names)


def touched(tree):
    """Attributes that are read or replaced, by a dot or by name: the object, the attribute, whether it is replaced."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node.value), node.attr, isinstance(node.ctx, ast.Store | ast.Del)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            match node.args:
                case [value, ast.Constant(value=str(name)), *_]:
                    yield ast.unparse(value), name, ast.unparse(node.func) in ("setattr", "delattr")


def findings(text, of_tree=MappingProxyType({})):
    """List what a module does with other packages behind their public doors.

    Args:
        text: of the module.
        of_tree: private names that each module here defines, which others of them may use.
    """
    tree = ast.parse(text)
    theirs, known = set(imported(tree)), set().union(*of_tree.values())
    bases = (node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    own = {*defined(tree), *(name for module in bases for name in of_tree.get(module, ()))}
    for value, name, replaced in touched(tree):
        whole, root = f"{value}.{name}", re.split(r"\W", value, maxsplit=1)[0]
        allowed = own if value in ("self", "cls", "super()") or root in theirs else own | known
        if replaced and root in theirs and whole not in SETTINGS:
            yield f"{whole} is replaced"
        elif is_private(name) and name not in allowed and whole not in DOCUMENTED | WITHOUT_PUBLIC_DOOR:
            yield f"{whole} is private"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("splatdag"):
            names = [*(node.module or "").split("."), *(name.name for name in node.names)]
            yield from (f"{name} of {node.module} is private" for name in names if is_private(name))


PLANTED = {
    "from snakemake.dag import DAG\nDAG.check_output_mtime = None": "DAG.check_output_mtime is replaced",
    "import snakemake.dag\nsetattr(snakemake.dag.DAG, 'cleanup', None)": "snakemake.dag.DAG.cleanup is replaced",
    "def look(executor):\n    return executor._status_query_calls": "executor._status_query_calls is private",
    "def look(executor):\n    return getattr(executor, '_failed_nodes', ())": "executor._failed_nodes is private",
    "from other import Executor\nclass Own(Executor):\n    def end(self):\n        self._pool.shutdown()": (
        "self._pool is private"
    ),
    "import torch\ntorch._foreach_norm([])": "torch._foreach_norm is private",
    "from tyro import _parsers": "_parsers of tyro is private",
    "from tyro._parsers import parse": "_parsers of tyro._parsers is private",
    "workflow.dag._ready_jobs.add(1)": "workflow.dag._ready_jobs is private",
}


@pytest.mark.parametrize("text", PLANTED)
def test_what_is_private_or_replaced_is_found(text):
    assert list(findings(text)) == [PLANTED[text]]


@pytest.mark.parametrize(
    "text",
    [
        "class Own:\n    _name = 1\n    def get(self, other):\n        return self._name + other._name",
        "import os\nos._exit(1)",
        "import torch\nclass Own(torch.nn.Module):\n    def get(self):\n        self._x = 1\n        return self._x",
        "import torch\ntensor = torch.ones(1)\ntensor.grad = None",
    ],
)
def test_what_is_ones_own_may_be_used(text):
    assert not list(findings(text))


def test_other_packages_are_used_through_their_public_doors(repository):
    paths = [path for folder in ("scripts", "bench") for path in (repository / folder).rglob("*.py")]
    of_tree = {
        ".".join(path.relative_to(repository / "scripts").with_suffix("").parts): {
            name for name in defined(ast.parse(path.read_text())) if is_private(name)
        }
        for path in paths
        if path.is_relative_to(repository / "scripts")
    }
    found = {str(path.relative_to(repository)): list(findings(path.read_text(), of_tree)) for path in paths}
    rules = [repository / "Snakefile", *(repository / "rules").glob("*.smk")]  # not Python that `ast` reads
    found |= {path.name: re.findall(r"\w\._[a-z]\w*", path.read_text()) for path in rules}
    assert {path: what for path, what in found.items() if what} == {}
    assert len(paths) > 200
