"""Digest of the code that a stage depends on: an edit reruns the stage, a comment or a `touch` does not."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from splatdag.workflow.publish import write_json
from splatdag.workflow.user_cache import user_cache

PACKAGE = "splatdag"
EXTRA = "write_extra_"
"""Prefix of the names of functions that the digest leaves out."""
_FORMAT = 1
"""Version of the remembered digests and imports of modules; raised when the way to compute them changes."""
_ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def code_digest(stage: str) -> str:
    """Return the digest of a stage's module and of all modules of this package that it imports, directly or not.

    Comments, docstrings and layout do not count, nor do functions named `write_extra_…` and statements that only call
    one: they write files beside a result and do not change it. `workflow` is left out: it moves files and changes no
    result, and counting it would rerun all trainings at every update.

    Args:
        stage: module name without the package, such as `captures.train`.
    """
    return _digest(stage, _own_module)


def digest_of(stage: str, root: Path) -> str:
    """Return `code_digest` for the package in the folder `root`."""
    return _digest(stage, functools.partial(_module, root))


def _digest(stage: str, read: Callable[[str], tuple[str, list[str]] | None]) -> str:
    pending, found = [stage], {}
    while pending:
        module = pending.pop()
        if module in found or module.split(".")[0] == "workflow":
            continue
        if (of_module := read(module)) is not None:
            found[module], needed = of_module
            pending += needed
    return _hash("\n".join(f"{module} {found[module]}" for module in sorted(found)))


def _module(root: Path, module: str) -> tuple[str, list[str]] | None:
    """Return the digest of a module's code, and the modules that it needs; None where it has no file."""
    path = _file(root, module)
    if path is None:
        return None
    parent = module.rpartition(".")[0]
    meaning, imports = _read(path.read_bytes(), module if path.name == "__init__.py" else parent)
    return meaning, [*imports, *([parent] if parent else [])]


@functools.cache
def _own_module(module: str) -> tuple[str, list[str]] | None:
    """Return the same for a module of this package; it is kept, since stages share most of their modules."""
    return _module(_ROOT, module)


def _read(source: bytes, parent: str) -> tuple[str, list[str]]:
    """Return a digest of code and its imports; remembered on disk, since parsing 40 modules takes half a second."""
    memory = user_cache() / "code" / f"{_hash(f'{_FORMAT} {parent} ' + source.decode())}.json"
    try:
        meaning, imports = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        tree = ast.parse(source)
        imports = list(_imports(tree, parent))
        meaning = _hash("\n".join(_lines(_what_counts(tree))))
        write_json(memory, [meaning, imports])
    return meaning, imports


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _file(root: Path, module: str) -> Path | None:
    path = root.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(tree: ast.AST, parent: str) -> Iterator[str]:
    """Yield the modules of the package that a module imports, and names of imported objects (which have no file)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
            base = ".".join([PACKAGE, *package] if node.level else []) + ("." if node.level and node.module else "")
            base += node.module or ""
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}."))


def _what_counts(tree: ast.AST) -> ast.AST:
    """Remove docstrings and `write_extra_…` functions and calls from a syntax tree, and return it."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            counted = [s for s in body if not _is_text(s) and not _is_extra(s)]
            node.body = counted or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_extra(statement: ast.AST) -> bool:
    """Tell whether a statement is a function named `write_extra_…`, or a call of one whose value is not used."""
    if isinstance(statement, ast.FunctionDef):
        return statement.name.startswith(EXTRA)
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.startswith(EXTRA)


def _is_text(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _lines(node: object) -> Iterator[str]:
    """Yield lines of text for a syntax tree, the same in every Python version (empty fields are left out)."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for name, value in ast.iter_fields(node):
            if value not in (None, []) and name not in ("kind", "type_comment"):
                yield name
                yield from _lines(value)
    elif isinstance(node, list):
        for item in node:
            yield from _lines(item)
        yield "end"
    else:
        yield repr(node)
