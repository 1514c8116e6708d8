"""The two records of a run, a JSON line each: mutations that took effect, and every request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO


class Record:
    """Entries in memory and, with a path, in a file that is emptied first and flushed after each line."""

    def __init__(self, path: Path | None) -> None:
        self.entries: list[dict[str, Any]] = []
        self._path = path
        self._file: TextIO | None = None
        if path is not None:
            self._file = path.open("w", encoding="utf-8", newline="\n")

    def add(self, entry: dict[str, Any]) -> None:
        """Add an entry."""
        self.entries.append(entry)
        if self._path is not None and self._file is None:
            self._file = self._path.open("a", encoding="utf-8", newline="\n")
        if self._file is not None:
            self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; entries in memory stay, and another entry opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None
