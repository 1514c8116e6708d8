"""What docs/operations.md says of the log: every record can be filtered by what was done."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import shared
from shared.telemetry.log import logger

_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "log"})
_MODULES = sorted(Path(shared.__file__).parent.rglob("*.py"))


def _records(tree: ast.AST) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _METHODS
        and ast.unparse(node.func.value) in ("_log", "_logger", "logging", "logging.root")
    ]


def _names_an_action(extra: ast.expr) -> bool:
    if isinstance(extra, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "action" for key in extra.keys)
    # The fields of a step's message, or what a caller has put together.
    return ast.unparse(extra).startswith(("log_context(", "delivery_context(", "context"))


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: path.stem)
def test_every_log_record_names_its_action(path: Path) -> None:
    for call in _records(ast.parse(path.read_text(encoding="utf-8"))):
        extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
        assert extra is not None, f"{path.name}:{call.lineno} has no extra"
        assert _names_an_action(extra), f"{path.name}:{call.lineno} names no action"


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: path.stem)
def test_every_module_logs_by_the_one_log_that_writes_the_fields_into_the_text(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    taken = [name for name in ("_log", "_logger") if f"{name} = logging." in source.replace(": Final", "")]
    assert taken == []
    assert ("_log." not in source) or ("_log = logger(__name__)" in source.replace(": Final", ""))


_TOLD = [
    ("of %s", ("orders",), {"queue": "track"}, "of orders [action=read queue=track]"),
    ("100 % of it", (), {}, "100 % of it [action=read]"),
    ("%d", (1,), {"job_id": None, "request_id": "a b"}, '1 [action=read request_id="a b"]'),
    ("no", (), {"request_id": "x action=y"}, 'no [action=read request_id="x action=y"]'),
    ("no", (), {"reason": 'a"\nWARNING forged'}, 'no [action=read reason="a\\"\\nWARNING forged"]'),
    ("no", (), {"source": "\u202eabc"}, 'no [action=read source="\\u202eabc"]'),
    (
        "no",
        (),
        {"reason": "x" * 600},
        f"no [action=read reason={json.dumps('x' * 512 + '...')}]".replace('"', ""),
    ),
]


@pytest.mark.parametrize(("text", "args", "fields", "told"), _TOLD)
def test_a_line_ends_with_its_fields_and_nobody_can_forge_one(
    text: str,
    args: tuple[object, ...],
    fields: dict[str, Any],
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger("shared.test").warning(text, *args, extra={"action": "read", **fields})
    (record,) = caplog.records
    assert record.getMessage() == told
    assert (record.filename, record.funcName) == (
        Path(__file__).name,
        "test_a_line_ends_with_its_fields_and_nobody_can_forge_one",
    )
    assert vars(record)["action"] == "read"


def test_the_log_is_looked_for_where_it_is_written() -> None:
    written = sum(len(_records(ast.parse(path.read_text(encoding="utf-8")))) for path in _MODULES)
    assert written > 15
