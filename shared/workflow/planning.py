"""Planning scheduled backups: each occurrence of the next day is a scheduled message, sent once.

The broker holds the messages, so a timer that fires twice plans nothing twice, and one that stalls for
hours delays nothing.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from typing import Final

from shared.bus import OutgoingMessage
from shared.bus.topology import BACKUP_REQUESTS
from shared.composition import Runtime
from shared.messages.cloud_events import CONTENT_TYPE
from shared.messages.model import format_moment
from shared.messages.steps import fingerprint
from shared.schedules import BackupSchedule, warnings
from shared.workflow.receive import DIGEST, DUE, SCHEDULE, SCHEDULES_SOURCE

_log: Final = logging.getLogger(__name__)

AHEAD: Final = timedelta(days=1)


def plan_backups(runtime: Runtime) -> int:
    """Send every schedule's occurrences of the next day; returns how many there are.

    The message id is the schedule's name and the due time (and the schedule's digest, so that a changed
    schedule is planned anew), which duplicate detection remembers for longer than a day.
    """
    now = runtime.clock.now()
    for text in warnings(runtime.settings.schedules):
        _log.warning(text, extra={"action": "plan_backups"})
    messages = [
        planned(schedule, due)
        for schedule in runtime.settings.schedules
        for due in schedule.occurrences(now, now + AHEAD)
    ]
    if messages:
        runtime.bus.send(messages)
    return len(messages)


def planned(schedule: BackupSchedule, due: datetime) -> OutgoingMessage:
    """The message of one due backup."""
    request_id = f"{schedule.name}/{format_moment(due)}"
    event = {
        "specversion": "1.0",
        "type": "sqlvmbackup.backup.requested.v1",
        "source": SCHEDULES_SOURCE,
        "id": request_id,
        "time": format_moment(due),
        "datacontenttype": "application/json",
        "data": schedule.request.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return OutgoingMessage(
        entity=BACKUP_REQUESTS,
        body=json.dumps(event).encode(),
        message_id=fingerprint("schedule", schedule.name.lower(), format_moment(due), schedule.digest),
        content_type=CONTENT_TYPE,
        subject=str(event["type"]),
        application_properties={
            SCHEDULE: schedule.name,
            DUE: format_moment(due),
            DIGEST: schedule.digest,
        },
        scheduled_for=due,
    )
