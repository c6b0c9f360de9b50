"""A docstring begins with a verb or a noun, so that its first words say what the thing is or does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

BARRED = {"What", "Which", "Who", "Whose", "That", "Where", "How", "Of", "By", "In", "As", "For", "So", "If", "While"}
"""Words that begin a clause whose subject the reader would have to guess."""


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Texts that describe a module, class, function, attribute or constant: those that stand alone as a statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def barred(text: str) -> list[str]:
    found = ((node.lineno, str(node.value).split()) for node in docstrings(ast.parse(text)))
    return [f"{line}: {' '.join(words[:6])}" for line, words in found if words and words[0] in BARRED]


@pytest.mark.parametrize("folder", ["scripts", "bench"])
def test_docstrings_begin_with_a_verb_or_a_noun(repository: Path, folder: str) -> None:
    found = {
        str(path.relative_to(repository)): lines
        for path in sorted((repository / folder).rglob("*.py"))
        if (lines := barred(path.read_text(encoding="utf-8")))
    }
    assert not found, "\n".join(f"{path}:{line}" for path, lines in found.items() for line in lines)


def test_one_that_does_not_is_found() -> None:
    text = (
        '"""Sizes."""\nLARGEST = 5\n"""Of a file."""\ndef size():\n    """Return the size."""\n    text = """What"""\n'
    )
    assert barred(text) == ["3: Of a file."]
