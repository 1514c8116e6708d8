"""Lines of a requests file: which are one request, and where each goes."""

from __future__ import annotations

import json

import pytest

from cli.errors import CommandError
from cli.request_lines import read_request_lines
from shared.messages.identity import request_message_id


def a_line(request_type: str = "sqlvmbackup.restore.requested.v1", **attributes: str) -> bytes:
    return json.dumps(
        {"specversion": "1.0", "type": request_type, "source": "/s", "id": "1", **attributes}
    ).encode()


def test_lines_of_one_source_and_id_are_one_request() -> None:
    lines = read_request_lines([a_line(), b"\r\n", a_line(subject="x"), a_line(id="2"), b"x", b" x \n", b"y"])
    assert [line.number for line in lines] == [1, 4, 5, 7]


def test_a_request_that_is_sent_again_with_a_new_trace_is_the_same() -> None:
    traces = (f"00-{digit * 32}-{digit * 16}-01" for digit in "12")
    again = [a_line(traceparent=trace, time=f"2026-01-05T0{n}:00:00Z") for n, trace in enumerate(traces)]
    assert [line.number for line in read_request_lines([*again, a_line(correlationid="c")])] == [1]
    with pytest.raises(CommandError, match="lines 1 and 2 are different requests"):
        read_request_lines([a_line(), a_line(data="other")])


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    (line,) = read_request_lines([b"\xef\xbb\xbf" + a_line()])
    assert line.envelope is not None


def test_each_goes_to_the_queue_of_its_type() -> None:
    types = ["protect", "backup", "restore", "explode"]
    lines = read_request_lines(
        [*(a_line(f"sqlvmbackup.{name}.requested.v1", id=name) for name in types), b"{}"]
    )
    messages = [line.message() for line in lines]
    assert [message.entity for message in messages] == [
        "protect-requests",
        "backup-requests",
        "restore-requests",
        "events",
        "events",
    ]
    assert str(messages[0].message_id).startswith(request_message_id("protect", "/s", "protect"))
    assert len({message.message_id for message in messages}) == 5
    assert [line.label for line in lines][-2:] == ["request explode", "line 5"]


def test_another_message_of_the_same_source_and_id_is_no_duplicate() -> None:
    """The broker drops what has a known message id: who guesses a source and an id could send it first."""
    mine, other = (read_request_lines([a_line(subject=said)])[0] for said in ("a", "b"))
    assert mine.message().message_id == mine.message().message_id != other.message().message_id


def test_a_label_does_not_say_the_operation_twice() -> None:
    names = ("restore", "restore-orders", "restored", "nightly", "backup-orders")
    assert [read_request_lines([a_line(id=name)])[0].label for name in names] == [
        "restore",
        "restore-orders",
        "restore restored",
        "restore nightly",
        "restore backup-orders",
    ]
