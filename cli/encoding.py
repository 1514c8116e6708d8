"""JSON, and text in the encodings of Windows consoles, pipes and files."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

#: an object of JSON
JsonObject = dict[str, Any]


def in_utf_8(data: bytes) -> bytes:
    """Convert JSON from UTF-8, UTF-16 or UTF-32, with or without a byte order mark, to UTF-8. Raises ValueError."""
    encoding = json.detect_encoding(data)
    return data if encoding.startswith("utf-8") else data.decode(encoding).encode()


def json_text(value: object, **layout: Any) -> str:
    r"""JSON that is safe to print: `\u` escapes replace what the output cannot encode or a terminal would obey.

    `layout` is passed to `json.dumps`: indent and separators.
    """
    text = json.dumps(value, ensure_ascii=False, **layout)
    encoding = sys.stdout.encoding or "utf-8"
    return "".join(
        character if character == "\n" or _is_shown(character, encoding) else json.dumps(character)[1:-1]
        for character in text
    )


def _is_shown(character: str, encoding: str) -> bool:
    try:
        return character.isprintable() and (character.isascii() or bool(character.encode(encoding)))
    except UnicodeEncodeError:
        return False


def escape_what_cannot_be_written() -> None:
    """Have standard output escape the characters that its encoding lacks (cp1252 in a pipe on Windows)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
