"""Whether what a schedule planned is still wanted once it is due."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from shared.engine.result import Failure
from shared.messages.requests import Operation
from shared.schedules import read_schedules
from shared.steps.due import is_still_wanted
from shared.steps.payloads import BackupPlan, Planned
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import NOW
from tests.unit.steps.calling import collaborators, message_to
from tests.unit.test_schedules import entry

SCHEDULES = read_schedules(json.dumps([entry(name="Other"), entry(name="Nightly", maxLateness="PT2H")]))
NIGHTLY = SCHEDULES[1]
S = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def wanted(
    late: timedelta, *, name: str = "Nightly", digest: str | None = NIGHTLY.digest, **changes: Any
) -> bool | Failure:
    planned = Planned(due=NOW - late, digest=digest) if digest is not None else None
    plan = BackupPlan(data=NIGHTLY.request, planned=planned)
    message = message_to("select_items", plan, Operation.BACKUP, request={"schedule": name}, **changes)
    return is_still_wanted(message, collaborators(FakeAzureBackup()), SCHEDULES)


#: how late it is, what else, whether it is wanted
WANTED: list[tuple[timedelta, dict[str, Any], bool]] = [
    (timedelta(), {}, True),
    (2 * HOUR, {}, True),
    # no schedule planned it
    (9 * HOUR, {"digest": None}, True),
    # it has begun already
    (9 * HOUR, {"poll": 1}, True),
    # its schedule is another by now, or is gone
    (timedelta(), {"digest": "another"}, False),
    (timedelta(), {"name": "Gone"}, False),
]


@pytest.mark.parametrize(("late", "changes", "is_wanted"), WANTED)
def test_what_is_planned_is_wanted_while_its_schedule_is(
    late: timedelta, changes: dict[str, Any], is_wanted: bool
) -> None:
    assert wanted(late, **changes) is is_wanted


def test_what_comes_too_late_is_skipped_and_says_how_late_it_is() -> None:
    failure = wanted(2 * HOUR + S)
    assert isinstance(failure, Failure)
    assert (failure.status.value, failure.code) == ("skipped", "TooLate")
    assert "was due at 2026-01-05T05:59:59Z and is 2:00:01 late" in failure.message
    assert failure.recommendations
