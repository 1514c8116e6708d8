"""Planning scheduled backups and drills: each occurrence of the next day is a scheduled message, sent once.

The broker holds the messages, so a timer that fires twice plans nothing twice, and one that stalls for
hours delays nothing. They go straight to the first step, where no requester may send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from shared.bus import OutgoingMessage
from shared.engine.runtime import Runtime
from shared.engine.send import outgoing
from shared.intake.receive import first_step
from shared.intake.senders import SCHEDULES_SOURCE
from shared.log import logger
from shared.messages.identity import Request, fingerprint
from shared.messages.model import format_moment
from shared.messages.requests import Operation
from shared.schedules import BackupSchedule, DrillSchedule, warnings
from shared.steps.payloads import BackupPlan, DrillPlan, Planned

_log: Final = logger(__name__)

AHEAD: Final = timedelta(days=1)
_SENDER: Final = "plan_backups"


def plan_backups(runtime: Runtime) -> int:
    """Send every schedule's occurrences of the next day; returns how many there are.

    The message id is the schedule's name and the due time (and the schedule's digest, so that a changed
    schedule is planned anew), which duplicate detection remembers for longer than a day.
    """
    for text in warnings(runtime.settings.schedules):
        _log.warning(text, extra={"action": "plan_backups"})
    return _plan(runtime.settings.schedules, runtime)


def plan_drills(runtime: Runtime) -> int:
    """Send every drill schedule's occurrences of the next day, as `plan_backups` does; returns how many there are."""
    return _plan(runtime.settings.drill_schedules, runtime)


def _plan(schedules: Sequence[BackupSchedule | DrillSchedule], runtime: Runtime) -> int:
    now = runtime.clock.now()
    messages = [
        planned(schedule, due, runtime)
        for schedule in schedules
        for due in schedule.occurrences(now, now + AHEAD)
    ]
    if messages:
        runtime.bus.send(messages)
    return len(messages)


def planned(schedule: BackupSchedule | DrillSchedule, due: datetime, runtime: Runtime) -> OutgoingMessage:
    """The message of one due backup, or of one due request for drills."""
    drills = isinstance(schedule, DrillSchedule)
    sender, kind = ("plan_drills", "drill schedule") if drills else (_SENDER, "schedule")
    request = Request(
        operation=Operation.DRILL if drills else Operation.BACKUP,
        source=SCHEDULES_SOURCE,
        id=f"{schedule.name}/{format_moment(due)}",
        vault_id=schedule.request.vault_id,
        schedule=schedule.name,
        job_timeout=schedule.request.job_timeout,
    )
    when = Planned(due=due, digest=schedule.digest)
    plan: BackupPlan | DrillPlan
    if isinstance(schedule, DrillSchedule):
        plan = DrillPlan(data=schedule.request, planned=when)
    else:
        plan = BackupPlan(data=schedule.request, planned=when)
    ahead = (due - runtime.clock.now()) / runtime.settings.time_scale
    message = first_step(request, plan, runtime, at=runtime.service_clock.now() + ahead, sender=sender)
    return replace(
        outgoing(message, timedelta(), runtime),
        message_id=fingerprint(kind, schedule.name.lower(), format_moment(due), schedule.digest),
        scheduled_for=due,
    )
