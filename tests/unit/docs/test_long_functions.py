"""A function is read on one screen: what is longer says why, in a comment above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MOST_LINES = 50
MODULES = sorted(
    path for folder in ("shared", "functions", "cli", "local") for path in (ROOT / folder).rglob("*.py")
)


def too_long(text: str) -> list[str]:
    """The functions of a module that are too long, and do not say why."""
    lines = text.splitlines()
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MOST_LINES
        and not lines[node.lineno - 2].strip().startswith("# Long: ")
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_long_says_why(path: Path) -> None:
    assert too_long(path.read_text(encoding="utf-8")) == []


def test_a_long_function_is_found() -> None:
    body = "".join(f"    x{number} = {number}\n" for number in range(MOST_LINES))
    assert too_long(f"def short():\n    pass\n\n\ndef long():\n{body}") == ["long"]
    assert too_long(f"# Long: a table.\ndef long():\n{body}") == []
