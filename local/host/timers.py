"""When timers are due: NCRONTAB in UTC.

Follows https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cronsim import CronSim, CronSimError

_FIELDS: Final = 6


class Timer:
    """One timer, and the moment it is due next."""

    def __init__(self, schedule: str, now: datetime, *, at_once: bool = False) -> None:
        """Raises ValueError for an expression that the local host does not support."""
        fields = schedule.split()
        if len(fields) != _FIELDS:
            raise ValueError(f"schedule {schedule!r}: expected an NCRONTAB expression of {_FIELDS} fields")
        if fields[3] != "*" and fields[5] != "*":
            raise ValueError(
                f"schedule {schedule!r}: the local host takes a day of the month or of the week, not both"
            )
        self._schedule = schedule
        self.last: datetime | None = None
        self.due = now if at_once else self._after(now)

    def _after(self, moment: datetime) -> datetime:
        try:
            return next(CronSim(self._schedule, moment))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"schedule {self._schedule!r}: no NCRONTAB expression ({error})") from error

    def fire(self, now: datetime) -> bool:
        """Move to the next due time after `now`; returns whether the one before was missed by a whole period."""
        following = self._after(now)
        missed = self._after(self.due) <= now
        self.last, self.due = now, following
        return missed
