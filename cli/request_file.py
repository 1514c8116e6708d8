"""The file of requests, JSONL, or standard input."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from cli.encoding import in_utf_8
from cli.errors import CommandError
from cli.request_lines import RequestLine, read_request_lines
from shared.messages.cloud_events import LARGEST_MESSAGE

#: Bytes of a file of requests, all of which are held in memory.
_LARGEST_FILE: Final = 256 * 1024**2


def read_file(name: str) -> list[RequestLine]:
    """The requests of a file, or of standard input where it is called `-`. Raises CommandError."""
    try:
        data = in_utf_8(_read_all(name))
    except OSError as error:
        raise CommandError(
            f"the requests in {name} cannot be read ({error.strerror}): name a JSONL file with --requests."
        ) from error
    except ValueError as error:
        raise CommandError(
            f"the requests in {name} begin as UTF-16 or UTF-32 and are not: save the file as UTF-8."
        ) from error
    if _is_laid_out(data):
        raise CommandError(
            f"the requests in {name} are JSON over several lines, or a list; each line of the file is one request:"
            " write it with `ConvertTo-Json -Compress`, or `jq -c`."
        )
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > LARGEST_MESSAGE:
            raise CommandError(
                f"line {number} of the requests in {name} has {len(line)} bytes, and no message has more than"
                f" {LARGEST_MESSAGE}: each line of the file is one request."
            )
    return read_request_lines(lines)


def _read_all(name: str) -> bytes:
    """The bytes of a file, or of standard input. Raises OSError, and CommandError for more than a run can hold."""
    with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
        data = file.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise CommandError(
            f"the requests in {name} have more than {_LARGEST_FILE // 1024**2} MiB, or no end: name a JSONL file with"
            " --requests, or run them in several files."
        )
    return data


def _is_laid_out(data: bytes) -> bool:
    """Whether the file begins with JSON over several lines, or with a list, which no request is."""
    text = data.decode("utf-8-sig", "replace").lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) or (isinstance(value, dict) and "\n" in text[:end])
