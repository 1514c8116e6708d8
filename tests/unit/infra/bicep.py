"""The templates as a Bicep grammar reads them: every resource with its type, version and properties."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pycep import BicepParser

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"
FILES = tuple(sorted(INFRA.rglob("*.bicep")))
#: of a resource in Bicep, not of its type
_OF_BICEP = frozenset({"dependsOn", "depends_on", "parent", "scope"})


@dataclass(frozen=True)
class Resource:
    """One resource of a template."""

    file: str
    symbol: str
    type: str
    version: str
    existing: bool
    #: its body: literals, and for expressions whatever the grammar makes of them
    body: dict[str, Any]

    @property
    def at(self) -> str:
        """Type and version as schemas name them."""
        return f"{self.type}@{self.version}"


@cache
def parsed(path: Path) -> dict[str, Any]:
    """A file as the grammar reads it. Raises lark's errors for what is no Bicep."""
    return dict(BicepParser().parse(text=path.read_text(encoding="utf-8")))


def load(name: str) -> Any:
    """A JSON file that the templates load."""
    return json.loads((INFRA / name).read_text(encoding="utf-8"))


def resources() -> Iterator[Resource]:
    """Every resource of every template; of a loop, its body."""
    for path in FILES:
        for symbol, found in parsed(path).get("resources", {}).items():
            body = found["config"]
            while "loop_type" in body or set(body) == {"condition", "config"}:
                body = body["config"]
            yield Resource(
                path.relative_to(INFRA).as_posix(),
                symbol,
                found["type"],
                found["api_version"],
                found["existing"],
                {name: value for name, value in body.items() if name not in _OF_BICEP},
            )


def resource(type_: str, symbol: str | None = None) -> Resource:
    """The one resource of a type."""
    (found,) = (
        each
        for each in resources()
        if each.type == type_ and not each.existing and symbol in (None, each.symbol)
    )
    return found


def is_expression(value: Any) -> bool:
    """Whether a value is not written out, but computed."""
    if isinstance(value, dict):
        return bool({"operator", "function", "loop_type", "condition"} & set(value))
    return isinstance(value, list) and any(is_expression(item) for item in value)
