"""Which recovery point a restore means where several could be meant, and what is said where none is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.arm.ids import RecoveryPointId
from shared.azure_backup.models import RecoveryPoint, TimeRange
from shared.clock import ServiceTime
from shared.engine.result import Failure
from shared.messages.events import Status
from shared.messages.requests import RecoveryPointChoice
from shared.steps.payloads import ChosenRecoveryPoint
from shared.steps.recovery_points import available_points, choose_recovery_point, restorable_ranges, state_of
from tests.unit.examples import NOW, item_id

S = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def point(name: str, age: timedelta = HOUR, kind: str = "Full", **details: Any) -> RecoveryPoint:
    return RecoveryPoint(
        id=RecoveryPointId(item_id("orders"), name), name=name, kind=kind, time=NOW - age, **details
    )


def logs(*spans: tuple[ServiceTime, ServiceTime]) -> RecoveryPoint:
    name = "DefaultRangeRecoveryPoint"
    spanned = tuple(TimeRange(*span) for span in spans)
    return RecoveryPoint(
        id=RecoveryPointId(item_id("orders"), name), name=name, kind="Log", time_ranges=spanned
    )


def chosen(asked: dict[str, Any], *points: RecoveryPoint) -> ChosenRecoveryPoint:
    found = choose_recovery_point(RecoveryPointChoice.model_validate(asked), points, "orders")
    assert isinstance(found, ChosenRecoveryPoint), found
    return found


def refusal(asked: dict[str, Any], *points: RecoveryPoint) -> str:
    found = choose_recovery_point(RecoveryPointChoice.model_validate(asked), points, "orders")
    assert isinstance(found, Failure)
    return found.message


FULL = point("100", 48 * HOUR)
NEWER_FULL = point("200", 24 * HOUR, "CopyOnlyFull")
DIFFERENTIAL = point("300", 12 * HOUR, "Differential")
LOGS = logs((NOW - 48 * HOUR, NOW - 30 * HOUR), (NOW - 20 * HOUR, NOW - HOUR))
ALL = [NEWER_FULL, LOGS, FULL, DIFFERENTIAL]
WITHOUT_LOGS = [FULL, NEWER_FULL, DIFFERENTIAL]


def text(moment: datetime) -> str:
    return moment.isoformat()


#: what is asked, what there is, the name and the moment that it means
CHOICES: dict[str, tuple[dict[str, Any], list[RecoveryPoint], str, datetime]] = {
    "by name": ({"name": "100"}, ALL, "100", NOW - 48 * HOUR),
    "newest moment": ({"latest": "any"}, ALL, "DefaultRangeRecoveryPoint", NOW - HOUR),
    "newest without logs": ({"latest": "any"}, WITHOUT_LOGS, "300", NOW - 12 * HOUR),
    "newest full": ({"latest": "full"}, ALL, "200", NOW - 24 * HOUR),
    "the first second of a range": (
        {"pointInTime": text(NOW - 20 * HOUR)},
        ALL,
        "DefaultRangeRecoveryPoint",
        NOW - 20 * HOUR,
    ),
    "the last second of a range": (
        {"pointInTime": text(NOW - HOUR)},
        ALL,
        "DefaultRangeRecoveryPoint",
        NOW - HOUR,
    ),
    "before, within a range": (
        {"before": text(NOW - 2 * HOUR)},
        ALL,
        "DefaultRangeRecoveryPoint",
        NOW - 2 * HOUR - timedelta(seconds=1),
    ),
    "before, in a gap": (
        {"before": text(NOW - 25 * HOUR)},
        ALL,
        "DefaultRangeRecoveryPoint",
        NOW - 30 * HOUR,
    ),
    "before, in a gap with a newer snapshot": (
        {"before": text(NOW - 23 * HOUR)},
        ALL,
        "200",
        NOW - 24 * HOUR,
    ),
    "before is not at": ({"before": text(NOW - 24 * HOUR)}, WITHOUT_LOGS, "100", NOW - 48 * HOUR),
}


@pytest.mark.parametrize(("asked", "points", "name", "moment"), CHOICES.values(), ids=CHOICES)
def test_recovery_point(
    asked: dict[str, Any], points: list[RecoveryPoint], name: str, moment: datetime
) -> None:
    found = chosen(asked, *points)
    assert (found.name, found.time) == (name, moment)
    assert (found.point_in_time is not None) == (name == "DefaultRangeRecoveryPoint")


@pytest.mark.parametrize(
    ("asked", "points"),
    [
        ({"name": "999"}, ALL),
        ({"name": "DefaultRangeRecoveryPoint"}, ALL),
        ({"pointInTime": text(NOW - 25 * HOUR)}, ALL),
        ({"pointInTime": text(NOW - HOUR + timedelta(seconds=1))}, ALL),
        ({"pointInTime": text(NOW - 12 * HOUR)}, WITHOUT_LOGS),
        ({"before": text(NOW - 48 * HOUR)}, ALL),
        ({"latest": "any"}, []),
        ({"latest": "full"}, [LOGS, DIFFERENTIAL]),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused_with_what_there_is(
    asked: dict[str, Any], points: list[RecoveryPoint]
) -> None:
    failure = choose_recovery_point(RecoveryPointChoice.model_validate(asked), points, "orders")
    assert isinstance(failure, Failure)
    assert failure.code == "RecoveryPointNotFound"
    assert failure.status is Status.FAILED
    assert "Recovery points: " in failure.message
    assert "Log ranges: " in failure.message


THREATENED = point("bad", threat_status="Unhealthy")


def test_one_with_threats_is_meant_only_where_it_is_named() -> None:
    assert THREATENED.is_threatened
    older = point("good", 2 * HOUR)
    assert chosen({"name": "bad"}, THREATENED, older).name == "bad"
    assert chosen({"latest": "full"}, THREATENED, older).name == "good"
    assert "that is bad (Full, 2026-01-05T07:00:00Z, threats found)" in refusal(
        {"latest": "full"}, THREATENED
    )
    missing = RecoveryPointChoice(name="missing")
    assert refusal({"name": "missing"}, older, THREATENED) == (
        f"orders cannot be restored to {missing}. {available_points([older, THREATENED])}"
    )


def test_a_moment_of_the_log_is_one_to_the_second() -> None:
    at = chosen({"pointInTime": (NOW - HOUR).isoformat()}, logs((NOW - 2 * HOUR, NOW)))
    assert (at.kind, at.time, at.point_in_time) == ("Log", NOW - HOUR, NOW - HOUR)


def test_the_newest_full_is_of_either_kind() -> None:
    for kind in ("Full", "CopyOnlyFull"):
        points = (point("older", 2 * HOUR), point("newer", HOUR, kind), point("diff", S, "Differential"))
        assert chosen({"latest": "full"}, *points).name == "newer"


def test_of_a_point_and_a_log_that_end_together_the_log_is_meant() -> None:
    assert chosen({"latest": "any"}, point("1", HOUR), logs((NOW - 2 * HOUR, NOW - HOUR))).kind == "Log"


@pytest.mark.parametrize(
    ("before", "moment"),
    [
        (NOW, NOW - S),
        (NOW + S, NOW),
        (NOW - HOUR + S / 2, NOW - HOUR),
        (NOW - HOUR, NOW - HOUR - S),
        (NOW - 2 * HOUR, None),
    ],
)
def test_before_a_moment_is_the_last_whole_second_before_it(
    before: datetime, moment: datetime | None
) -> None:
    span = logs((NOW - 2 * HOUR, NOW))
    if moment is None:
        assert "cannot be restored" in refusal({"before": before.isoformat()}, span)
    else:
        assert chosen({"before": before.isoformat()}, span).time == moment


def test_ranges_are_told_the_newest_first() -> None:
    early, late = (NOW - 4 * HOUR, NOW - 3 * HOUR), (NOW - 2 * HOUR, NOW - HOUR)
    assert [span.end for span in restorable_ranges([logs(early, late)])] == [NOW - HOUR, NOW - 3 * HOUR]


def test_what_there_is_is_told_up_to_ten_of_each() -> None:
    points = [point(f"p{number:02}", number * HOUR) for number in range(12)]
    spans = [(NOW - (2 * n + 2) * HOUR, NOW - (2 * n + 1) * HOUR) for n in range(12)]
    told = available_points([*points, logs(*spans)])
    assert told.startswith("Recovery points: p00 (Full, 2026-01-05T08:00:00Z), p01 ")
    assert "p09 (Full, 2026-01-04T23:00:00Z) and 2 older. Log ranges: 2026-01-05T06:00:00Z to" in told
    assert told.count(" to ") == 10
    assert told.endswith(".")
    assert "older" not in available_points(points[:10])
    assert "p09" in available_points(points[:10])
    assert " and 1 older" in available_points(points[:11])
    assert available_points(points[:11]).count("(Full") == 10
    assert available_points([]) == "Recovery points: none. Log ranges: none."


def test_what_cannot_be_read_is_named_up_to_ten_and_cut() -> None:
    odd = [point("x" * 70 + str(number), unreadable="odd") for number in range(12)]
    told = available_points(odd)
    assert told.count("x" * 59) >= 10
    _, _, named = told.partition("Not readable: ")
    assert named.count(", ") == 9
    assert "x" * 61 not in named
    assert "Not readable" not in available_points([point("1")])


def test_a_moment_is_told_without_its_fraction() -> None:
    assert "2026-01-05T07:00:00Z" in available_points([point("1", HOUR - timedelta(microseconds=5))])


def test_the_state_of_a_recovery_point_is_what_is_wrong_with_it() -> None:
    assert state_of(point("1")) is None
    assert state_of(THREATENED) == "threats found"
    assert state_of(point("1", is_soft_deleted=True)) is not None
