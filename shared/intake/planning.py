"""Planning: each occurrence of a schedule in the next day becomes a scheduled message, sent once.

The broker holds the messages, so a timer that fires twice plans nothing twice, and one that stalls for
hours delays nothing. They go straight to the first step, where no requester may send.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from shared.arm.ids import VaultId
from shared.bus import OutgoingMessage
from shared.clock import MachineTime
from shared.engine.runtime import Runtime
from shared.engine.send import outgoing
from shared.intake.receive import first_step
from shared.intake.senders import SCHEDULES_SOURCE
from shared.messages.identity import Request, fingerprint
from shared.messages.model import format_moment
from shared.messages.requests import Operation
from shared.schedules import BackupSchedule, CoverageSchedule, DrillSchedule, warnings
from shared.steps.payloads import BackupPlan, CoveragePlan, DrillPlan, Planned
from shared.telemetry.log import logger

_log: Final = logger(__name__)

AHEAD: Final = timedelta(days=1)


def plan_backups(runtime: Runtime) -> int:
    """Send every schedule's occurrences of the next day; returns how many there are.

    The message id is the schedule's name and the due time (and the schedule's digest, so that a changed
    schedule is planned anew), which duplicate detection remembers for longer than a day.
    """
    for text in warnings(runtime.settings.schedules):
        _log.warning(text, extra={"action": "plan_backups"})
    return _plan(runtime.settings.schedules, runtime)


def plan_coverage(runtime: Runtime) -> int:
    """As `plan_backups`, for the schedules of coverage."""
    return _plan(runtime.settings.coverage_schedules, runtime)


def plan_drills(runtime: Runtime) -> int:
    """As `plan_backups`, for the schedules of drills."""
    return _plan(runtime.settings.drill_schedules, runtime)


def _plan(schedules: Sequence[BackupSchedule | CoverageSchedule | DrillSchedule], runtime: Runtime) -> int:
    now = runtime.clock.now()
    messages = [
        planned(schedule, due, runtime)
        for schedule in schedules
        for due in schedule.occurrences(now, now + AHEAD)
    ]
    if messages:
        runtime.bus.send(messages)
    return len(messages)


def planned(
    schedule: BackupSchedule | CoverageSchedule | DrillSchedule, due: MachineTime, runtime: Runtime
) -> OutgoingMessage:
    """The scheduled message for one occurrence of a schedule."""
    plan: BackupPlan | CoveragePlan | DrillPlan
    when = Planned(due=due, digest=schedule.digest)
    vault_id: VaultId | None = None
    if isinstance(schedule, CoverageSchedule):
        operation, sender = Operation.COVERAGE, "plan_coverage"
        plan = CoveragePlan(data=schedule.request, planned=when)
    elif isinstance(schedule, DrillSchedule):
        operation, vault_id, sender = Operation.DRILL, schedule.request.vault_id, "plan_drills"
        plan = DrillPlan(data=schedule.request, planned=when)
    else:
        operation, vault_id, sender = Operation.BACKUP, schedule.request.vault_id, "plan_backups"
        plan = BackupPlan(data=schedule.request, planned=when)
    request = Request(
        operation=operation,
        source=SCHEDULES_SOURCE,
        id=f"{schedule.name}/{format_moment(due)}",
        vault_id=vault_id,
        schedule=schedule.name,
        job_timeout=schedule.request.job_timeout,
    )
    ahead = (due - runtime.clock.now()) / runtime.settings.time_scale
    message = first_step(request, plan, runtime, at=runtime.service_clock.now() + ahead, sender=sender)
    return replace(
        outgoing(message, timedelta(), runtime),
        message_id=fingerprint("schedule", schedule.name.lower(), format_moment(due), schedule.digest),
        scheduled_for=due,
    )


#: The planners, by the name of the function that runs each.
PLANNERS: Final[dict[str, Callable[[Runtime], int]]] = {
    "plan_backups": plan_backups,
    "plan_coverage": plan_coverage,
    "plan_drills": plan_drills,
}
