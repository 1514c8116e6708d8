"""The outcomes file: each outcome once, whatever happened to the process that wrote it before."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import CommandError
from cli.outcomes_file import OutcomesFile

FIRST, SECOND = {"id": "1", "data": {"name": "Bücher"}}, {"id": "2"}


def test_a_torn_last_line_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    with OutcomesFile(path, keep=False) as file:
        file.write(FIRST)
        file.write(SECOND)
        file.write(FIRST)
        whole = path.read_bytes()  # flushed line by line
    assert whole.count(b"\n") == 2
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        with OutcomesFile(path, keep=True) as file:
            file.write(FIRST)
            file.write(SECOND)
        assert path.read_bytes() == whole


def test_a_new_run_begins_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    for outcome in (FIRST, SECOND):
        with OutcomesFile(path, keep=False) as file:
            file.write(outcome)
    assert path.read_bytes() == b'{"id":"2"}\n'


@pytest.mark.parametrize("content", [b"hello\n", b"[]\n", b'{"name": 1}\n'])
def test_a_file_of_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=r"line 1 of .* is no outcome"):
        OutcomesFile(path, keep=True)
    assert path.read_bytes() == content
