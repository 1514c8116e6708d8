"""Whether a planned request is still wanted when it is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from shared.engine.message import StepMessage
from shared.engine.result import Collaborators, Failure
from shared.engine.telemetry import log_context
from shared.messages.error_codes import ErrorCode
from shared.messages.events import Status
from shared.schedules import Schedule
from shared.steps.payloads import BackupPlan, CoveragePlan, DrillPlan
from shared.telemetry.log import logger

_log: Final = logger(__name__)


def is_still_wanted(
    message: StepMessage[BackupPlan] | StepMessage[CoveragePlan] | StepMessage[DrillPlan],
    collaborators: Collaborators,
    schedules: Sequence[Schedule],
) -> bool | Failure:
    """Whether to go on: no schedule planned the request, or its schedule is unchanged, or it has begun already.

    A Failure, `skipped`, for a request that is received later than its schedule's `maxLateness`.
    """
    planned, name = message.payload.planned, message.request.schedule
    if planned is None or message.poll > 0:
        return True
    schedule = next((item for item in schedules if item.name == name), None)
    if schedule is None or schedule.digest != planned.digest:
        _log.info(
            "a planned request is dropped: its schedule has been changed or removed",
            extra=log_context(message, schedule=name),
        )
        return False
    late = collaborators.machine_now() - planned.due
    if late <= schedule.max_lateness:
        return True
    return Failure(
        ErrorCode.TOO_LATE,
        f"the {message.request.operation} of schedule {name} was due at {planned.due:%Y-%m-%dT%H:%M:%SZ} and is"
        f" {timedelta(seconds=round(late.total_seconds()))} late, more than its maxLateness of"
        f" {schedule.max_lateness}.",
        status=Status.SKIPPED,
        recommendations=("See why the app did not run in time, or give the schedule a longer maxLateness.",),
    )
