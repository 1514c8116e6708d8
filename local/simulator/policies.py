"""Backup policies: the ones every vault starts with, and what a policy body must look like."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.simulator.errors import ServiceError

if TYPE_CHECKING:
    from local.simulator.scenario import PolicyScenario


def hourly_log_backup(now: datetime) -> dict[str, Any]:
    """HourlyLogBackup as recorded: a daily full at 18:00 UTC, a log backup each hour, both kept 30 days."""
    return _sql_policy(now, log=True)


def _sql_policy(now: datetime, *, log: bool) -> dict[str, Any]:
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
        }
    ]
    if log:
        sub_policies.append(
            {
                "policyType": "Log",
                "schedulePolicy": {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": 60},
                "retentionPolicy": {
                    "retentionPolicyType": "SimpleRetentionPolicy",
                    "retentionDuration": thirty_days,
                },
            }
        )
    return {
        "backupManagementType": "AzureWorkload",
        "workLoadType": "SQLDataBase",
        "settings": {"timeZone": "UTC", "issqlcompression": False, "isCompression": False},
        "subProtectionPolicy": sub_policies,
    }


def default_vm_policies(now: datetime) -> list[tuple[str, dict[str, Any]]]:
    """The policies for whole virtual machines that every vault has besides."""
    run = (now - timedelta(days=1)).strftime("%Y-%m-%dT18:00:00Z")
    properties = {
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
    return [("DefaultPolicy", properties)]


def scenario_policy(entry: str | PolicyScenario, now: datetime) -> tuple[str, dict[str, Any]]:
    """A policy of the scenario: by name alone it has HourlyLogBackup's schedule."""
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


POLICY_TYPES = (
    "full",
    "differential",
    "log",
    "copyonlyfull",
    "incremental",
    "snapshotfull",
    "snapshotcopyonlyfull",
)


def accepted_policy(properties: dict[str, Any]) -> dict[str, Any]:
    """The properties as the service keeps them. Raises ServiceError (400) for a body it cannot take."""
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
    sub_policies = kept.get("subProtectionPolicy")
    if not isinstance(sub_policies, list) or not sub_policies:
        raise _invalid()
    kinds = []
    for entry in sub_policies:
        if not isinstance(entry, dict):
            raise _invalid()
        kind = str(entry.get("policyType", "")).lower()
        schedule, retention = entry.get("schedulePolicy"), entry.get("retentionPolicy")
        if kind not in POLICY_TYPES or kind in kinds or not isinstance(schedule, dict):
            raise _invalid()
        if not isinstance(retention, dict):
            raise _invalid()
        kinds.append(kind)
        _check_schedule(kind, schedule)
        if kind != "log":
            schedule.setdefault("scheduleWeeklyFrequency", 0)
    if "full" not in kinds:
        raise _invalid()
    accepted: dict[str, Any] = _without_milliseconds(kept)
    order = ["backupManagementType", "workLoadType", "settings", "subProtectionPolicy"]
    return {name: accepted[name] for name in [*order, *(n for n in accepted if n not in order)]}


def _check_schedule(kind: str, schedule: dict[str, Any]) -> None:
    if kind == "log":
        minutes = schedule.get("scheduleFrequencyInMins")
        if not isinstance(minutes, int) or isinstance(minutes, bool) or not 15 <= minutes <= 1440:
            raise _invalid()
        return
    times = schedule.get("scheduleRunTimes")
    if not isinstance(times, list) or not times:
        raise _invalid()
    for time in times:
        try:
            datetime.fromisoformat(time)
        except (TypeError, ValueError) as error:
            raise _invalid() from error
    weekly = schedule.get("scheduleRunFrequency") == "Weekly"
    days = schedule.get("scheduleRunDays")
    if weekly and (not isinstance(days, list) or not days):
        raise _invalid()
    if kind == "differential" and not weekly:
        raise _invalid()


def _without_milliseconds(value: Any) -> Any:
    # The service answers "18:00:00Z" to "18:00:00.000Z".
    if isinstance(value, dict):
        return {name: _without_milliseconds(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_milliseconds(entry) for entry in value]
    if isinstance(value, str) and value.endswith(".000Z"):
        return value.removesuffix(".000Z") + "Z"
    return value
