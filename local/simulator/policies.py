"""Backup policies: the ones every vault starts with, and what a policy body must look like."""

from __future__ import annotations

import copy
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.simulator.errors import ServiceError
from shared.time_zones import windows_zone

if TYPE_CHECKING:
    from local.simulator.scenario import PolicyScenario


def hourly_log_backup(now: datetime) -> dict[str, Any]:
    """HourlyLogBackup as recorded: a daily full at 18:00 UTC, a log backup each hour, both kept 30 days."""
    run = (now - timedelta(days=1)).strftime("%Y-%m-%dT18:00:00Z")
    thirty_days = {"count": 30, "durationType": "Days"}
    sub_policies: list[dict[str, Any]] = [
        {
            "policyType": "Full",
            "schedulePolicy": {
                "schedulePolicyType": "SimpleSchedulePolicy",
                "scheduleRunFrequency": "Daily",
                "scheduleRunTimes": [run],
                "scheduleWeeklyFrequency": 0,
            },
            "retentionPolicy": {
                "retentionPolicyType": "LongTermRetentionPolicy",
                "dailySchedule": {"retentionTimes": [run], "retentionDuration": thirty_days},
            },
        },
        {
            "policyType": "Log",
            "schedulePolicy": {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": 60},
            "retentionPolicy": {
                "retentionPolicyType": "SimpleRetentionPolicy",
                "retentionDuration": thirty_days,
            },
        },
    ]
    return {
        "backupManagementType": "AzureWorkload",
        "workLoadType": "SQLDataBase",
        "settings": {"timeZone": "UTC", "issqlcompression": False, "isCompression": False},
        "subProtectionPolicy": sub_policies,
    }


def default_policy(now: datetime) -> dict[str, Any]:
    """DefaultPolicy, the policy for whole virtual machines that every vault also has."""
    run = (now - timedelta(days=1)).strftime("%Y-%m-%dT18:00:00Z")
    return {
        "backupManagementType": "AzureIaasVM",
        "instantRPDetails": {},
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": "Daily",
            "scheduleRunTimes": [run],
            "scheduleWeeklyFrequency": 0,
        },
        "retentionPolicy": {
            "retentionPolicyType": "LongTermRetentionPolicy",
            "dailySchedule": {
                "retentionTimes": [run],
                "retentionDuration": {"count": 30, "durationType": "Days"},
            },
        },
        "instantRpRetentionRangeInDays": 2,
        "timeZone": "UTC",
    }


def scenario_policy(entry: str | PolicyScenario, now: datetime) -> tuple[str, dict[str, Any]]:
    """A policy of the scenario; one given by its name alone has the schedule of HourlyLogBackup."""
    if isinstance(entry, str):
        return entry, hourly_log_backup(now)
    properties = {"backupManagementType": "AzureWorkload", **copy.deepcopy(entry.properties)}
    return entry.name, properties


def _invalid() -> ServiceError:
    return ServiceError(
        400,
        "BMSUserErrorInvalidPolicyInput",
        "Input for create or update policy is not in proper format. Please check format of parameters like "
        "schedule time, schedule days, retention time and retention days",
    )


# The portal asks for letters, digits and hyphens; the service also takes underscores and exclamation marks
# (Azure/azure-powershell#13869, and the check of terraform-provider-azurerm).
_NAME = re.compile(r"[A-Za-z][-_!A-Za-z0-9]{2,149}", re.ASCII)
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_LOG_MINUTES = (15, 30, 60, 120, 240, 480, 720, 1440)
_SCHEDULES = {
    "dailySchedule": ("days", 7, 9999),
    "weeklySchedule": ("weeks", 1, 5163),
    "monthlySchedule": ("months", 1, 1188),
    "yearlySchedule": ("years", 1, 99),
}
_RUN_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:(?:00|30):00(?:\.0+)?Z", re.ASCII)


def check_policy_name(name: str) -> None:
    """Raise ServiceError (400) for a name that a policy cannot have: 3 to 150 characters, a letter first."""
    if not _NAME.fullmatch(name):
        raise _invalid()


def accepted_policy(properties: dict[str, Any]) -> dict[str, Any]:
    """The properties as the service keeps them. Raises ServiceError (400) for an invalid body.

    The rules for SQL Server are those of
    https://learn.microsoft.com/azure/backup/backup-sql-server-database-azure-vms#create-a-backup-policy, and of
    public reports (hashicorp/terraform-provider-azurerm#24133, #26917, #27619, Azure/azure-sdk-for-go#2822).
    """
    kept = {
        name: value
        for name, value in copy.deepcopy(properties).items()
        if name not in ("protectedItemsCount", "makePolicyConsistent", "resourceGuardOperationRequests")
    }
    management = kept.get("backupManagementType")
    if management == "AzureIaasVM":
        return kept
    if management != "AzureWorkload":
        raise _invalid()
    workload = kept.pop("workloadType", None) or kept.get("workLoadType")
    kept["workLoadType"] = workload
    if str(workload).lower() not in ("sqldatabase", "saphanadatabase", "sapasedatabase"):
        raise _invalid()
    settings = kept.get("settings")
    if not isinstance(settings, dict):
        raise _invalid()
    kept["settings"] = {"timeZone": "UTC", "issqlcompression": False, "isCompression": False, **settings}
    zone = kept["settings"]["timeZone"]
    if not isinstance(zone, str) or windows_zone(zone) is None:
        raise _invalid()
    sub_policies = kept.get("subProtectionPolicy")
    if not isinstance(sub_policies, list) or not sub_policies:
        raise _invalid()
    parts: dict[str, dict[str, Any]] = {}
    for entry in sub_policies:
        if not isinstance(entry, dict):
            raise _invalid()
        kind = str(entry.get("policyType", "")).lower()
        if kind in parts or not all(
            isinstance(entry.get(name), dict) for name in ("schedulePolicy", "retentionPolicy")
        ):
            raise _invalid()
        parts[kind] = entry
        if kind != "log":
            entry["schedulePolicy"].setdefault("scheduleWeeklyFrequency", 0)
    _check_parts(parts)
    accepted: dict[str, Any] = _without_milliseconds(kept)
    order = ["backupManagementType", "workLoadType", "settings", "subProtectionPolicy"]
    return {name: accepted[name] for name in [*order, *(n for n in accepted if n not in order)]}


def _check_parts(parts: dict[str, dict[str, Any]]) -> None:
    # Incremental backups are for SAP HANA, snapshots are in a preview.
    if "full" not in parts or not parts.keys() <= {"full", "differential", "log"}:
        raise _invalid()
    full = parts["full"]
    time, full_days = _runs(full["schedulePolicy"])
    _check_long_retention(full["retentionPolicy"], time, full_days)
    if (differential := parts.get("differential")) is not None:
        _, days = _runs(differential["schedulePolicy"])
        # No day has both a full and a differential.
        if not days or not full_days or set(days) & set(full_days):
            raise _invalid()
        _check_simple_retention(differential["retentionPolicy"], most=180)
    if (log := parts.get("log")) is not None:
        minutes = log["schedulePolicy"].get("scheduleFrequencyInMins")
        if minutes not in _LOG_MINUTES:
            raise _invalid()
        _check_simple_retention(log["retentionPolicy"], most=35)


def _runs(schedule: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """When a sub-policy runs: its time, and its days if it is weekly."""
    times, days = schedule.get("scheduleRunTimes"), schedule.get("scheduleRunDays") or []
    frequency = str(schedule.get("scheduleRunFrequency", "")).lower()
    if not isinstance(times, list) or len(times) != 1 or not _is_run_time(times[0]):
        raise _invalid()
    if frequency not in ("daily", "weekly") or (frequency == "weekly") != bool(days):
        raise _invalid()
    return times[0], _days(days)


def _is_run_time(value: object) -> bool:
    if not isinstance(value, str) or not _RUN_TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _days(value: object) -> tuple[str, ...]:
    days = tuple(str(day).lower() for day in value) if isinstance(value, list) else ("",)
    if len(set(days)) != len(days) or not set(days) <= set(_DAYS):
        raise _invalid()
    return days


def _count(value: object, unit: str, least: int, most: int) -> None:
    if not isinstance(value, dict) or str(value.get("durationType", "")).lower() != unit:
        raise _invalid()
    count = value.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or not least <= count <= most:
        raise _invalid()


def _check_simple_retention(retention: dict[str, Any], *, most: int) -> None:
    if retention.get("retentionPolicyType") != "SimpleRetentionPolicy":
        raise _invalid()
    _count(retention.get("retentionDuration"), "days", 7, most)


def _check_long_retention(retention: dict[str, Any], time: str, days: tuple[str, ...]) -> None:
    if retention.get("retentionPolicyType") != "LongTermRetentionPolicy":
        raise _invalid()
    found = {name: retention[name] for name in _SCHEDULES if retention.get(name) is not None}
    # Daily fulls need a daily retention, weekly ones a weekly retention.
    if ("weeklySchedule" if days else "dailySchedule") not in found or (days and "dailySchedule" in found):
        raise _invalid()
    for name, entry in found.items():
        if not isinstance(entry, dict):
            raise _invalid()
        times = entry.get("retentionTimes")
        if not isinstance(times, list) or [_clock(one) for one in times] != [_clock(time)]:
            raise _invalid()
        _count(entry.get("retentionDuration"), *_SCHEDULES[name])
    weekly = found.get("weeklySchedule")
    if weekly is not None and not _days(weekly.get("daysOfTheWeek")):
        raise _invalid()
    if weekly is not None and days and set(_days(weekly.get("daysOfTheWeek"))) != set(days):
        raise _invalid()


def _clock(value: object) -> str:
    """The time of day in a moment; the date has no meaning."""
    return str(value)[11:16]


def _without_milliseconds(value: Any) -> Any:
    # The service turns "18:00:00.000Z" into "18:00:00Z".
    if isinstance(value, dict):
        return {name: _without_milliseconds(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_milliseconds(entry) for entry in value]
    if isinstance(value, str) and value.endswith(".000Z"):
        return value.removesuffix(".000Z") + "Z"
    return value
