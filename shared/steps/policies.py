"""The policy that a request names: the one it means; of a new one, the names that it can have, and its body."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from shared.arm.ids import InvalidResourceIdError, check_new_policy_name
from shared.arm.redaction import printable
from shared.azure_backup.models import Policy
from shared.engine.result import Failure, refused
from shared.messages.error_codes import ErrorCode
from shared.messages.policies import CreatePolicy, FullSchedule
from shared.names import AmbiguousNameError, only_named


def policy_named(name: str, policies: Iterable[Policy]) -> Policy | Failure | None:
    """The policy of that name; None where there is none.

    A Failure where the name is ambiguous, and for a policy that this app cannot use.
    """
    try:
        policy = only_named(name, policies, lambda named: named.name)
    except AmbiguousNameError as error:
        return Failure(ErrorCode.AMBIGUOUS_POLICY, f"{error}. Name one exactly.")
    if policy is not None and policy.cannot_protect is not None:
        return Failure(
            ErrorCode.POLICY_NOT_SUPPORTED,
            f"the policy {printable(policy.name)} {policy.cannot_protect}; name a policy for SQL databases that streams"
            " its backups.",
        )
    return policy


def invalid_new_name(policy_name: str) -> Failure | None:
    """The Failure where no policy of that name can be created."""
    try:
        check_new_policy_name(policy_name)
    except InvalidResourceIdError as error:
        return refused(ErrorCode.INVALID_POLICY_NAME, f"policyName: {error}.")
    return None


def properties_of(policy: CreatePolicy, date: str) -> dict[str, Any]:
    """The `properties` of the body that creates a policy; `date` (yyyy-mm-dd) carries the times of day.

    Follows https://learn.microsoft.com/rest/api/backup/protection-policies/create-or-update.
    """
    full, differential, log = policy.full, policy.differential, policy.log
    time = _moment(date, full.time)
    schedule = _simple_schedule(full.frequency, full.days, time)
    parts = [_part("Full", schedule, _long_term_retention(full, time))]
    if differential is not None:
        schedule = _simple_schedule("Weekly", differential.days, _moment(date, differential.time))
        parts.append(_part("Differential", schedule, _simple_retention(differential.retention_days)))
    if log is not None:
        schedule = {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": log.every_minutes}
        parts.append(_part("Log", schedule, _simple_retention(log.retention_days)))
    return {
        "backupManagementType": "AzureWorkload",
        "workLoadType": "SQLDataBase",
        "settings": {
            "timeZone": policy.time_zone,
            "issqlcompression": policy.compression,
            "isCompression": policy.compression,
        },
        "subProtectionPolicy": parts,
    }


def _moment(date: str, time: str) -> str:
    return f"{date}T{time}:00Z"


def _part(kind: str, schedule: dict[str, Any], retention: dict[str, Any]) -> dict[str, Any]:
    return {"policyType": kind, "schedulePolicy": schedule, "retentionPolicy": retention}


def _simple_schedule(frequency: str, days: Sequence[str], time: str) -> dict[str, Any]:
    schedule = {
        "schedulePolicyType": "SimpleSchedulePolicy",
        "scheduleRunFrequency": frequency,
        "scheduleRunTimes": [time],
        "scheduleWeeklyFrequency": 0,
    }
    return {**schedule, "scheduleRunDays": list(days)} if days else schedule


def _long_term_retention(full: FullSchedule, time: str) -> dict[str, Any]:
    if full.frequency == "Weekly":
        name, count, unit = "weeklySchedule", full.retention_days // 7, "Weeks"
    else:
        name, count, unit = "dailySchedule", full.retention_days, "Days"
    kept = {"retentionTimes": [time], "retentionDuration": {"count": count, "durationType": unit}}
    if full.days:
        kept["daysOfTheWeek"] = list(full.days)
    return {"retentionPolicyType": "LongTermRetentionPolicy", name: kept}


def _simple_retention(days: int) -> dict[str, Any]:
    return {
        "retentionPolicyType": "SimpleRetentionPolicy",
        "retentionDuration": {"count": days, "durationType": "Days"},
    }
