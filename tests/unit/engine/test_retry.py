"""Whether a call is tried again: one pure function, one row a rule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.arm.errors import (
    ArmAnswerLostError,
    ArmError,
    ArmNotSentError,
    ArmPacedError,
    ArmProtocolError,
    ArmStatusError,
    ArmUntrustedError,
    ArmUrlRefusedError,
)
from shared.engine.retry import Conflict, Decision, GiveUp, Retry, decide

S = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def failed(kind: type[ArmError], method: str = "POST") -> ArmError:
    return kind("it did not succeed", operation="trigger", method=method, path="/x", client_request_id=None)


def answered(
    status: int, method: str = "POST", retry_after: timedelta | None = None, code: str = ""
) -> ArmError:
    return ArmStatusError(
        status=status,
        code=code,
        message="",
        retry_after=retry_after,
        operation="trigger",
        method=method,
        path="/x",
        client_request_id=None,
    )


#: what happened, what came with it, what follows
ROWS: list[tuple[str, ArmError, dict[str, Any], Decision]] = [
    # never left this machine: nothing has started, not even by a POST
    ("refused connection", failed(ArmNotSentError), {}, Retry(2 * S, may_have_started=False)),
    # a GET may always be repeated; a POST whose answer was lost may have taken effect
    ("lost GET", failed(ArmAnswerLostError, "GET"), {}, Retry(2 * S, may_have_started=False)),
    ("lost POST", failed(ArmAnswerLostError), {}, Retry(2 * S, may_have_started=True)),
    # half an answer: the request arrived
    ("malformed POST", failed(ArmProtocolError), {}, Retry(2 * S, may_have_started=True)),
    ("malformed GET, fourth", failed(ArmProtocolError, "GET"), {"attempt": 3}, Retry(16 * S, False)),
    # what is malformed five times in a row is not an accident
    ("malformed GET, fifth", failed(ArmProtocolError, "GET"), {"attempt": 4}, GiveUp(False, False)),
    ("malformed POST, fifth", failed(ArmProtocolError), {"attempt": 4}, GiveUp(True, False)),
    # a 5xx or 408 may come from behind the effect
    ("503 GET", answered(503, "GET"), {}, Retry(2 * S, may_have_started=False)),
    ("503 POST", answered(503), {}, Retry(2 * S, may_have_started=True)),
    ("500 POST", answered(500), {}, Retry(2 * S, may_have_started=True)),
    ("408 POST", answered(408), {}, Retry(2 * S, may_have_started=True)),
    # turned away: not started; with a Retry-After it is no failure that makes waits longer
    ("429 bare", answered(429), {}, Retry(2 * S, may_have_started=False)),
    (
        "429 Retry-After",
        answered(429, retry_after=30 * S),
        {},
        Retry(30 * S, may_have_started=False, counts=False),
    ),
    # Retry-After is honoured on any status
    (
        "503 Retry-After",
        answered(503, "GET", retry_after=45 * S),
        {},
        Retry(45 * S, may_have_started=False),
    ),
    # a wait that passes the deadline is no wait: the answer comes at once
    (
        "429 beyond the deadline",
        answered(429, retry_after=2 * HOUR),
        {},
        GiveUp(False, True),
    ),
    ("503 POST, just in time", answered(503), {"time_left": 2 * S}, Retry(2 * S, may_have_started=True)),
    ("503 POST, no time left", answered(503), {"time_left": 0 * S}, GiveUp(True, True)),
    ("425 GET", answered(425, "GET", code="TooEarly"), {}, Retry(2 * S, may_have_started=False)),
    # another operation is running, but only for what would change something
    ("409 POST", answered(409), {}, Conflict()),
    ("409 GET", answered(409, "GET"), {}, GiveUp(False, False)),
    # roles take time to spread: ten minutes
    ("403 young", answered(403), {"age": 9 * 60 * S}, Retry(2 * S, may_have_started=False)),
    ("403 old", answered(403), {"age": 10 * 60 * S}, GiveUp(False, False)),
    ("401 young", answered(401), {}, Retry(2 * S, may_have_started=False)),
    # what was just made or listed takes time to show everywhere: five minutes
    ("404 young", answered(404, code="ResourceNotFound"), {"age": 4 * 60 * S}, Retry(2 * S, False)),
    ("404 old", answered(404, code="ResourceNotFound"), {"age": 5 * 60 * S}, GiveUp(False, False)),
    ("404 GET", answered(404, "GET", code="BMSUserErrorObjectNotFound"), {}, Retry(2 * S, False)),
    # a subscription or a group that a requester has misspelled
    ("404 of a parent", answered(404, code="SubscriptionNotFound"), {}, GiveUp(False, False)),
    # nor does a cloud learn a version of an interface meanwhile
    ("404 of an API", answered(404, code="ApiVersionNotFound"), {}, GiveUp(False, False)),
    # another operation is running, whatever the status that says so
    ("500 that conflicts", answered(500), {"conflicting": True}, Conflict()),
    ("500 GET that conflicts", answered(500, "GET"), {"conflicting": True}, Retry(2 * S, False)),
    # held back by the app itself: as a 429 with its Retry-After
    (
        "paced",
        ArmPacedError(retry_after=30 * S, operation="trigger", method="POST", path="/x"),
        {},
        Retry(30 * S, may_have_started=False, counts=False),
    ),
    # the request itself is wrong
    ("400", answered(400, code="BadRequest"), {}, GiveUp(False, False)),
    ("404", answered(404, code="NoSuchThing"), {}, GiveUp(False, False)),
    ("400 GET", answered(400, "GET"), {}, GiveUp(False, False)),
    # without a code it may be a proxy's page, which says nothing of what became of the call
    ("400 without a code", answered(400), {}, Retry(2 * S, may_have_started=True)),
    ("404 without a code", answered(404), {}, Retry(2 * S, may_have_started=True)),
    # the app would not send it: a foreign host
    ("refused by the app", failed(ArmUrlRefusedError), {}, GiveUp(False, False)),
    ("no certificate that is trusted", failed(ArmUntrustedError), {}, GiveUp(False, False)),
    # exponential, to a minute, however many attempts there were
    ("third 503", answered(503), {"attempt": 3}, Retry(16 * S, may_have_started=True)),
    (
        "thousandth 503",
        answered(503),
        {"attempt": 1000},
        Retry(60 * S, may_have_started=True),
    ),
]


@pytest.mark.parametrize(
    ("error", "given", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_decision(error: ArmError, given: dict[str, Any], expected: Decision) -> None:
    arguments: dict[str, Any] = {
        "attempt": 0,
        "age": timedelta(),
        "time_left": HOUR,
        "jitter": 1.0 if getattr(error, "retry_after", None) is None else 0.0,
    }
    assert decide(error, **{**arguments, **given}) == expected


@pytest.mark.parametrize("asked", [0, 1, 30, 600])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_no_wait_is_shorter_than_asked_and_jitter_only_adds(asked: int, jitter: float) -> None:
    decision = decide(
        answered(429, retry_after=asked * S),
        attempt=7,
        age=timedelta(),
        time_left=HOUR,
        jitter=jitter,
    )
    assert isinstance(decision, Retry)
    assert asked * S <= decision.after <= asked * S + 60 * S


def test_those_that_were_asked_to_wait_together_are_spread_over_a_tenth_of_that() -> None:
    error = answered(429, retry_after=200 * S)
    decision = decide(error, attempt=0, age=timedelta(), time_left=HOUR, jitter=0.5)
    assert isinstance(decision, Retry)
    assert decision.after == 210 * S


def test_backoff_is_spread_but_never_nothing() -> None:
    waits = set()
    for jitter in (0.0, 0.25, 0.5, 0.75):
        decision = decide(
            answered(503, "GET"),
            attempt=2,
            age=timedelta(),
            time_left=HOUR,
            jitter=jitter,
        )
        assert isinstance(decision, Retry)
        waits.add(decision.after)
    assert len(waits) == 4
    assert min(waits) >= 4 * S
