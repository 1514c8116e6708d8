"""The file of outcomes: a CloudEvent a line, each once, whole whenever the process dies."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.errors import CommandError
from cli.following import JsonObject


class OutcomesFile:
    """Appends outcomes, flushed line by line, and remembers which are there.

    Args:
        path: the file; it is created where there is none.
        keep: go on with what an earlier run has written: a torn last line is cut off, and outcomes that are
            there are not written again. Otherwise the file is begun anew.

    Raises:
        CommandError: the file cannot be written, or is not a file of outcomes.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._ids: set[str] = set()
        self._path = path
        try:
            whole = _repair(path) if keep and path.exists() else b""
            for number, line in enumerate(whole.splitlines(), start=1):
                self._ids.add(_id_of(path, number, line))
            self._file = path.open("ab" if keep else "wb")
        except OSError as error:
            raise CommandError(
                f"the outcomes file {path} cannot be written ({error.strerror}): name another with --outcomes."
            ) from error

    def write(self, outcome: JsonObject) -> None:
        """Add an outcome, unless it is there. Raises CommandError where it cannot be written."""
        if outcome["id"] in self._ids:
            return
        try:
            self._file.write(json.dumps(outcome, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise CommandError(
                f"the outcomes file {self._path} cannot be written any more ({error.strerror}), and outcomes are"
                " missing in it: make room; a run with --state then completes it by the same command."
            ) from error
        self._ids.add(outcome["id"])

    def close(self) -> None:
        """Close the file."""
        # Every line was flushed, and who wrote the one that could not be was told.
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _repair(path: Path) -> bytes:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return whole


def _id_of(path: Path, number: int, line: bytes) -> str:
    try:
        return str(json.loads(line)["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"line {number} of {path} is no outcome, so nothing is added to that file: name another with"
            " --outcomes."
        ) from error
