"""Whether a call is tried again: one pure function, one row a rule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.workflow.retry import Conflict, Decision, GiveUp, Happened, Retry, decide

S = timedelta(seconds=1)
HOUR = timedelta(hours=1)

#: what happened, what came with it, what follows
ROWS: list[tuple[str, Happened, dict[str, Any], Decision]] = [
    # never left this machine: nothing has started, not even by a POST
    ("refused connection", Happened.NOT_SENT, {}, Retry(2 * S, may_have_started=False)),
    # a GET may always be repeated; a POST whose answer was lost may have taken effect
    ("lost GET", Happened.ANSWER_LOST, {"mutation": False}, Retry(2 * S, may_have_started=False)),
    ("lost POST", Happened.ANSWER_LOST, {}, Retry(2 * S, may_have_started=True)),
    # half an answer: the request arrived
    ("malformed POST", Happened.MALFORMED, {}, Retry(2 * S, may_have_started=True)),
    # what is malformed five times in a row is not an accident
    ("malformed GET, fifth", Happened.MALFORMED, {"mutation": False, "attempt": 4}, GiveUp(False, False)),
    ("malformed POST, fifth", Happened.MALFORMED, {"attempt": 4}, GiveUp(True, False)),
    # a 5xx or 408 may come from behind the effect
    ("503 GET", Happened.STATUS, {"status": 503, "mutation": False}, Retry(2 * S, may_have_started=False)),
    ("503 POST", Happened.STATUS, {"status": 503}, Retry(2 * S, may_have_started=True)),
    ("500 POST", Happened.STATUS, {"status": 500}, Retry(2 * S, may_have_started=True)),
    ("408 POST", Happened.STATUS, {"status": 408}, Retry(2 * S, may_have_started=True)),
    # turned away at the door: not started; with a Retry-After it is no failure that makes waits longer
    ("429 bare", Happened.STATUS, {"status": 429}, Retry(2 * S, may_have_started=False)),
    (
        "429 Retry-After",
        Happened.STATUS,
        {"status": 429, "retry_after": 30 * S},
        Retry(30 * S, may_have_started=False, counts=False),
    ),
    # Retry-After is honoured on any status
    (
        "503 Retry-After",
        Happened.STATUS,
        {"status": 503, "retry_after": 45 * S, "mutation": False},
        Retry(45 * S, may_have_started=False),
    ),
    # a wait that passes the deadline is no wait: the answer comes at once
    (
        "429 beyond the deadline",
        Happened.STATUS,
        {"status": 429, "retry_after": 2 * HOUR},
        GiveUp(False, True),
    ),
    ("503 POST, no time left", Happened.STATUS, {"status": 503, "time_left": 0 * S}, GiveUp(True, True)),
    # another operation is running, but only for what would change something
    ("409 POST", Happened.STATUS, {"status": 409}, Conflict()),
    ("409 GET", Happened.STATUS, {"status": 409, "mutation": False}, GiveUp(False, False)),
    # roles take time to spread: ten minutes
    ("403 young", Happened.STATUS, {"status": 403, "age": 9 * 60 * S}, Retry(2 * S, may_have_started=False)),
    ("403 old", Happened.STATUS, {"status": 403, "age": 10 * 60 * S}, GiveUp(False, False)),
    ("401 young", Happened.STATUS, {"status": 401}, Retry(2 * S, may_have_started=False)),
    # the request itself is wrong
    ("400", Happened.STATUS, {"status": 400}, GiveUp(False, False)),
    ("404", Happened.STATUS, {"status": 404}, GiveUp(False, False)),
    # the app would not send it: a foreign host
    ("refused by the app", Happened.REFUSED, {}, GiveUp(False, False)),
    # exponential, to a minute, however many attempts there were
    ("third 503", Happened.STATUS, {"status": 503, "attempt": 3}, Retry(16 * S, may_have_started=True)),
    (
        "thousandth 503",
        Happened.STATUS,
        {"status": 503, "attempt": 1000},
        Retry(60 * S, may_have_started=True),
    ),
]


@pytest.mark.parametrize(
    ("happened", "given", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_decision(happened: Happened, given: dict[str, Any], expected: Decision) -> None:
    arguments: dict[str, Any] = {
        "mutation": True,
        "attempt": 0,
        "age": timedelta(),
        "time_left": HOUR,
        "jitter": 1.0 if given.get("retry_after") is None else 0.0,
    }
    assert decide(happened, **{**arguments, **given}) == expected


@pytest.mark.parametrize("asked", [0, 1, 30, 600])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_no_wait_is_shorter_than_asked_and_jitter_only_adds(asked: int, jitter: float) -> None:
    decision = decide(
        Happened.STATUS,
        status=429,
        retry_after=asked * S,
        mutation=True,
        attempt=7,
        age=timedelta(),
        time_left=HOUR,
        jitter=jitter,
    )
    assert isinstance(decision, Retry)
    assert asked * S <= decision.after <= asked * S + 60 * S


def test_backoff_is_spread_but_never_nothing() -> None:
    waits = set()
    for jitter in (0.0, 0.25, 0.5, 0.75):
        decision = decide(
            Happened.STATUS,
            status=503,
            mutation=False,
            attempt=2,
            age=timedelta(),
            time_left=HOUR,
            jitter=jitter,
        )
        assert isinstance(decision, Retry)
        waits.add(decision.after)
    assert len(waits) == 4
    assert min(waits) >= 4 * S
