"""The file of requests that `sqlvmbackup run` reads."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli import request_file
from cli.errors import CommandError
from shared.messages.cloud_events import LARGEST_MESSAGE


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no such device on Windows")
def test_a_file_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="/dev/zero have more than 256 MiB, or no end"):
        request_file.read_file("/dev/zero")


def test_standard_input_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_file, "_LARGEST_FILE", 10)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"{}\n" * 4)))
    with pytest.raises(CommandError, match="the requests in - have more than"):
        request_file.read_file("-")


def test_a_line_larger_than_any_message_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"{}\n" + b"x" * LARGEST_MESSAGE + b"\n")
    assert len(request_file.read_file(str(path))) == 2
    path.write_bytes(b"{}\n" + b"x" * (LARGEST_MESSAGE + 1) + b"\n")
    with pytest.raises(CommandError, match=r"^line 2 of the requests in .* has 1048577 bytes"):
        request_file.read_file(str(path))
