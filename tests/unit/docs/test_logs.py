"""What docs/operations.md says of the log: every record can be filtered by what was done."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import shared

_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "log"})
_MODULES = sorted(Path(shared.__file__).parent.rglob("*.py"))


def _records(tree: ast.AST) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _METHODS
        and ast.unparse(node.func.value) in ("_log", "_logger", "logging")
    ]


def _names_an_action(extra: ast.expr) -> bool:
    if isinstance(extra, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "action" for key in extra.keys)
    # The fields of a step's message, or what a caller has put together.
    return ast.unparse(extra).startswith(("log_context(", "context"))


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: path.stem)
def test_every_log_record_names_its_action(path: Path) -> None:
    for call in _records(ast.parse(path.read_text(encoding="utf-8"))):
        extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
        assert extra is not None, f"{path.name}:{call.lineno} has no extra"
        assert _names_an_action(extra), f"{path.name}:{call.lineno} names no action"


def test_the_log_is_looked_for_where_it_is_written() -> None:
    written = sum(len(_records(ast.parse(path.read_text(encoding="utf-8")))) for path in _MODULES)
    assert written > 15
