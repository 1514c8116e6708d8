"""The file of outcomes: a CloudEvent a line, each once, whole whenever the process dies."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cli.awaited_requests import event_kind
from cli.encoding import JsonObject
from cli.errors import CommandError

#: What every outcome begins with.
_BEGINNING: Final = b'{"specversion":"1.0"'


class OutcomesFile:
    """Adds outcomes to a file, flushed line by line. What is there stays, but for a torn last line.

    Args:
        path: the file; it is created where there is none.
        resumed: this is the rest of an earlier run: outcomes that are there are not written again.

    Raises:
        CommandError: the file cannot be written, or holds something else than outcomes.
    """

    def __init__(self, path: Path, *, resumed: bool) -> None:
        self._path = path
        self._ids: set[str] = set()
        try:
            known = _repair(path) if path.is_file() else set()
            self._ids = known if resumed else set()
            self._file = path.open("ab")
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


def _repair(path: Path) -> set[str]:
    """The ids of the outcomes in a file, whose last line is mended. Raises CommandError where it is no such file."""
    content = path.read_bytes()
    *lines, last = content.split(b"\n")
    ids = {_id_of(path, number, line) for number, line in enumerate(lines, start=1)}
    if not last:
        return ids
    if _outcome_id(last) is not None:
        # Whoever has edited the file has left out the end of its last line.
        with path.open("ab") as file:
            file.write(b"\n")
        return {*ids, _id_of(path, len(lines) + 1, last)}
    if _is_json(last) or not (last.startswith(_BEGINNING) or _BEGINNING.startswith(last)):
        raise _no_outcome(path, len(lines) + 1)
    with path.open("r+b") as file:
        file.truncate(len(content) - len(last))
    return ids


def _id_of(path: Path, number: int, line: bytes) -> str:
    found = _outcome_id(line)
    if found is None:
        raise _no_outcome(path, number)
    return found


def _outcome_id(line: bytes) -> str | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    kind = event_kind(event) if isinstance(event, dict) else None
    return str(event["id"]) if kind == "outcome" and "id" in event else None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _no_outcome(path: Path, number: int) -> CommandError:
    return CommandError(
        f"line {number} of {path} is no outcome, so nothing is added to that file: name another with --outcomes."
    )
