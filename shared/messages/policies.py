"""The policy that a protect request may ask to be created, and the service's own rules for it.

Rules: retention of at least 7 days, differential backups only where fulls are weekly and kept at most 180
days, logs at least every 24 hours (https://learn.microsoft.com/azure/backup/backup-sql-server-database-azure-vms).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from shared.messages.model import ListOf, StrictModel, in_any_case

_Day = Literal["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
DayOfWeek = Annotated[_Day, in_any_case(*get_args(_Day))]
_TIME: Final = r"^([01]\d|2[0-3]):(00|30)$"


def _time_of_day(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_TIME, value, re.ASCII):
        raise ValueError("expected a time of day on the hour or half past, such as 18:00 or 06:30")
    return value


def _windows_zone(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # 16 KB that only a request to create a policy needs.
    from shared.time_zones import suggested_zone, windows_zone

    zone = windows_zone(value)
    if zone is None:
        meant = suggested_zone(value)
        hint = f"; did you mean {meant}?" if meant is not None else ""
        raise ValueError(f"expected the Windows name of a time zone, such as W. Europe Standard Time{hint}")
    return zone


TimeOfDay = Annotated[str, Field(pattern=_TIME), BeforeValidator(_time_of_day)]
TimeZone = Annotated[str, Field(pattern=r"^[A-Za-z0-9 .()+-]{1,64}$"), BeforeValidator(_windows_zone)]
RetentionDays = Annotated[int, Field(ge=7, le=9999)]
_LONGEST_DIFFERENTIAL: Final = 180
_LONGEST_LOG: Final = 35


class FullSchedule(StrictModel):
    """When fulls are taken and how long they are kept (`retentionDays`, at least 7)."""

    frequency: Annotated[Literal["Daily", "Weekly"], in_any_case("Daily", "Weekly")] = "Daily"
    days: ListOf[DayOfWeek] = ()
    time: TimeOfDay
    retention_days: RetentionDays

    @model_validator(mode="after")
    def _days_where_weekly(self) -> FullSchedule:
        if (self.frequency == "Weekly") != bool(self.days):
            raise ValueError("days: expected the days of the week where frequency is Weekly, and only there")
        if self.frequency == "Weekly" and self.retention_days % 7:
            raise ValueError("retentionDays: expected whole weeks (a multiple of 7) where fulls are weekly")
        return self


class DifferentialSchedule(StrictModel):
    """Differentials, on days without a full; kept 7 to 180 days."""

    days: Annotated[ListOf[DayOfWeek], Field(min_length=1)]
    time: TimeOfDay
    retention_days: Annotated[int, Field(ge=7, le=_LONGEST_DIFFERENTIAL)]


class LogSchedule(StrictModel):
    """Log backups every `everyMinutes`; kept 7 to 35 days."""

    every_minutes: Literal[15, 30, 60, 120, 240, 480, 720, 1440]
    retention_days: Annotated[int, Field(ge=7, le=_LONGEST_LOG)]


class CreatePolicy(StrictModel):
    """A policy for SQL Server in Azure VMs; times are in `timeZone`, a Windows time zone name."""

    time_zone: TimeZone = "UTC"
    compression: bool = False
    full: FullSchedule
    differential: DifferentialSchedule | None = None
    log: LogSchedule | None = None

    @model_validator(mode="after")
    def _as_the_service_allows(self) -> CreatePolicy:
        if self.differential is None:
            return self
        if self.full.frequency != "Weekly":
            raise ValueError(
                "differential: expected fulls to be Weekly, since a day has a full or a differential"
            )
        shared_days = sorted(set(self.differential.days) & set(self.full.days))
        if shared_days:
            raise ValueError(f"differential.days: {', '.join(shared_days)} already has a full")
        return self
