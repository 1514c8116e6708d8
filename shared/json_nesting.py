"""How deeply JSON may be nested: anything deeper is meant to hurt the parser."""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["MOST_LEVELS", "is_nested_too_deeply", "read_flat_json"]

#: No answer of Azure, and no request to the app, has a quarter of this many levels.
MOST_LEVELS: Final = 64


def is_nested_too_deeply(value: Any) -> bool:
    """Whether objects and lists are nested to more than `MOST_LEVELS` levels."""
    level = [value] if type(value) in (dict, list) else []
    for _ in range(MOST_LEVELS):
        if not level:
            return False
        level = [
            entry
            for holder in level
            for entry in (holder.values() if type(holder) is dict else holder)
            if type(entry) in (dict, list)
        ]
    return bool(level)


def read_flat_json(text: str) -> Any:
    """The JSON in a text. Raises ValueError where it is none, or is nested too deeply."""
    try:
        value = json.loads(text)
        if not is_nested_too_deeply(value):
            return value
    except RecursionError:
        pass
    raise ValueError(f"it is nested to more than {MOST_LEVELS} levels")
