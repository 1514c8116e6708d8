"""The bodies of requests to Azure Backup: of each the part that is named `properties`, unless it says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from shared.arm.ids import VirtualMachineId
from shared.azure_backup.wire import wire_time
from shared.messages.policies import CreatePolicy, FullSchedule
from shared.messages.requests import AlternateTarget, FilesTarget, OriginalTarget

WORKLOAD: Final = "AzureWorkload"
SQL: Final = "SQLDataBase"
PROTECTED_SQL: Final = "AzureVmWorkloadSQLDatabase"


def vault(location: str, redundancy: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """The whole body that creates a vault (https://learn.microsoft.com/rest/api/recoveryservices/vaults/create-or-update)."""
    return {
        "location": location,
        "tags": dict(tags),
        "sku": {"name": "RS0", "tier": "Standard"},
        "properties": {
            "publicNetworkAccess": "Enabled",
            "redundancySettings": {
                "standardTierStorageRedundancy": redundancy,
                "crossRegionRestore": "Disabled",
            },
        },
    }


def registration(
    virtual_machine: VirtualMachineId, container_type: str, friendly_name: str
) -> dict[str, Any]:
    """Registers a VM (https://learn.microsoft.com/rest/api/backup/protection-containers/register)."""
    return {
        "backupManagementType": WORKLOAD,
        "containerType": container_type,
        "sourceResourceId": virtual_machine.path,
        "workloadType": SQL,
        "friendlyName": friendly_name,
    }


def protection_intent(item_id: str, policy_id: str) -> dict[str, Any]:
    """Auto-protects an instance (https://learn.microsoft.com/rest/api/backup/protection-intent/create-or-update)."""
    return {
        "protectionIntentItemType": "RecoveryServiceVaultItem",
        "backupManagementType": WORKLOAD,
        "itemId": item_id,
        "policyId": policy_id,
    }


def protection(policy_id: str) -> dict[str, Any]:
    """Protects a database (https://learn.microsoft.com/rest/api/backup/protected-items/create-or-update)."""
    return {
        "protectedItemType": PROTECTED_SQL,
        "backupManagementType": WORKLOAD,
        "workloadType": SQL,
        "policyId": policy_id,
    }


def undeletion() -> dict[str, Any]:
    """Undeletes a soft-deleted database (https://learn.microsoft.com/azure/backup/backup-azure-sql-restore-cli)."""
    return {
        "protectedItemType": PROTECTED_SQL,
        "protectionState": "ProtectionStopped",
        "policyId": "",
        "isRehydrate": True,
    }


def backup(backup_type: str, *, compression: bool | None, expiry: datetime | None) -> dict[str, Any]:
    """Backs a database up (https://learn.microsoft.com/rest/api/backup/backups/trigger)."""
    properties: dict[str, Any] = {"objectType": "AzureWorkloadBackupRequest", "backupType": backup_type}
    if compression is not None:
        properties["enableCompression"] = compression
    if expiry is not None:
        properties["recoveryPointExpiryTimeInUTC"] = wire_time(expiry)
    return properties


# Restores: https://learn.microsoft.com/azure/backup/restore-azure-sql-vm-rest-api


def restore(
    target: OriginalTarget | AlternateTarget | FilesTarget,
    *,
    source: VirtualMachineId | None,
    point_in_time: datetime | None,
    no_recovery: bool,
) -> dict[str, Any]:
    """Restores a database; without `targetInfo`, which names a container, and `alternateDirectoryPaths`."""
    properties: dict[str, Any] = {
        "objectType": (
            "AzureWorkloadSQLPointInTimeRestoreRequest"
            if point_in_time is not None
            else "AzureWorkloadSQLRestoreRequest"
        ),
        "shouldUseAlternateTargetLocation": True,
        "isNonRecoverable": no_recovery,
    }
    if point_in_time is not None:
        properties["pointInTime"] = wire_time(point_in_time)
    if isinstance(target, OriginalTarget):
        return {**properties, "recoveryType": "OriginalLocation"}
    properties["recoveryType"] = "AlternateLocation"
    properties["targetVirtualMachineId"] = target.vm_id.path
    if isinstance(target, FilesTarget):
        properties["recoveryMode"] = "FileRecovery"
    elif source is not None:
        properties["sourceResourceId"] = source.path
    return properties


def restore_target(
    target: AlternateTarget | FilesTarget, container_id: str, *, overwrite: bool
) -> dict[str, Any]:
    """The `targetInfo` of a restore to another database, or as files; the container is that of the target's VM."""
    info = {
        "overwriteOption": "Overwrite" if overwrite else "FailOnConflict",
        "containerId": container_id,
    }
    if isinstance(target, FilesTarget):
        return {**info, "targetDirectoryForFileRestore": target.path}
    return {**info, "databaseName": f"{target.instance}/{target.database}"}


# Policies: https://learn.microsoft.com/rest/api/backup/protection-policies/create-or-update


def policy(wanted: CreatePolicy, day: date) -> dict[str, Any]:
    """Creates a policy; `day` carries the times of day."""
    full, differential, log = wanted.full, wanted.differential, wanted.log
    time = _moment(day, full.time)
    schedule = _simple_schedule(full.frequency, full.days, time)
    parts = [_part("Full", schedule, _long_term_retention(full, time))]
    if differential is not None:
        schedule = _simple_schedule("Weekly", differential.days, _moment(day, differential.time))
        parts.append(_part("Differential", schedule, _simple_retention(differential.retention_days)))
    if log is not None:
        schedule = {"schedulePolicyType": "LogSchedulePolicy", "scheduleFrequencyInMins": log.every_minutes}
        parts.append(_part("Log", schedule, _simple_retention(log.retention_days)))
    return {
        "backupManagementType": WORKLOAD,
        "workLoadType": SQL,
        "settings": {
            "timeZone": wanted.time_zone,
            "issqlcompression": wanted.compression,
            "isCompression": wanted.compression,
        },
        "subProtectionPolicy": parts,
    }


def _moment(day: date, time: str) -> str:
    return f"{day:%Y-%m-%d}T{time}:00Z"


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
