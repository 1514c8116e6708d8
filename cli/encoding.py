"""Text in the encodings that consoles, pipes and files of Windows have."""

from __future__ import annotations

import io
import json
import sys
from typing import Any


def in_utf_8(data: bytes) -> bytes:
    """JSON in UTF-8 that may be in UTF-16 or UTF-32, with a byte order mark or without. Raises ValueError."""
    encoding = json.detect_encoding(data)
    return data if encoding.startswith("utf-8") else data.decode(encoding).encode()


def json_text(value: object, **layout: Any) -> str:
    r"""JSON that may be printed: a `\u` escape stands for what the output's encoding lacks, or a terminal would obey.

    `layout` is what `json.dumps` takes of indent and separators.
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
