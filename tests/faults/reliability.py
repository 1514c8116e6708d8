"""Writes the table of faults into docs/reliability.md: `python -m tests.faults.reliability`."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

from tests.faults.matrix import MATRIX

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reliability.md"
BEGIN: Final = "<!-- generated: faults -->"
END: Final = "<!-- end of faults -->"


def proofs() -> dict[str, list[str]]:
    """The names of the tests of each fault, in the order they stand."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and (match := re.match(r"test_(F\d\d)_", node.name)):
                found[match.group(1)].append(node.name)
    return dict(found)


def table() -> str:
    """The table, in Markdown."""
    lines = ["| | fault | what is expected |", "|---|---|---|"]
    for row in MATRIX:
        expected = f"does not apply: {row.does_not_apply}" if row.does_not_apply else row.expected
        lines.append(f"| {row.id} | {row.fault} | {expected} |")
    return "\n".join(lines)


def page() -> str:
    """The page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{PAGE.name} has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}\n")
