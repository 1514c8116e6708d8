"""Values inside nested JSON objects."""

from __future__ import annotations

from typing import Any


def nested(value: Any, *path: str) -> Any:
    """The value at a path of object keys; None where the path does not lead anywhere."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
