"""The outcomes file: each outcome once, whatever happened to the process that wrote it before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.errors import CommandError
from cli.outcomes_file import OutcomesFile


def outcome(number: str, **data: str) -> dict[str, Any]:
    return {"specversion": "1.0", "id": number, "type": "sqlvmbackup.backup.succeeded.v1", "data": data}


FIRST, SECOND = outcome("1", name="Bücher"), outcome("2")
REQUEST = b'{"specversion":"1.0","id":"1","type":"sqlvmbackup.backup.requested.v1","data":{}}'


def test_a_torn_last_line_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    with OutcomesFile(path, resumed=False) as file:
        file.write(FIRST)
        file.write(SECOND)
        file.write(FIRST)
        whole = path.read_bytes()  # flushed line by line
    assert whole.count(b"\n") == 2
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        with OutcomesFile(path, resumed=True) as file:
            file.write(FIRST)
            file.write(SECOND)
        assert path.read_bytes() == whole


def test_a_new_run_adds_to_what_earlier_ones_have_written(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    for one in (FIRST, SECOND, FIRST):
        with OutcomesFile(path, resumed=False) as file:
            file.write(one)
    # Without a state the same request is done again, and so is its outcome told again.
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == ["1", "2", "1"]


def test_a_last_line_whose_end_somebody_has_cut_off_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    with OutcomesFile(path, resumed=False) as file:
        file.write(FIRST)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    with OutcomesFile(path, resumed=True) as file:
        file.write(FIRST)
        file.write(SECOND)
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == ["1", "2"]


@pytest.mark.parametrize(
    "content", [b"hello\n", b"[]\n", b'{"name": 1}\n', b"hello", REQUEST, REQUEST + b"\n", b"\n", b"{}"]
)
def test_a_file_of_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=r"line 1 of .* is no outcome"):
        OutcomesFile(path, resumed=False)
    assert path.read_bytes() == content
