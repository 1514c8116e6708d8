"""The parts of a restore's request body that follow from its task alone.

https://learn.microsoft.com/azure/backup/restore-azure-sql-vm-rest-api
"""

from __future__ import annotations

from typing import Any

from shared.messages.requests import AlternateTarget, FilesTarget, OriginalTarget
from shared.steps.payloads import RestoreTask


def properties_of(task: RestoreTask) -> dict[str, Any]:
    """The properties except `targetInfo`, which names a container, and `alternateDirectoryPaths`."""
    assert task.recovery_point is not None
    moment = task.recovery_point.point_in_time
    properties: dict[str, Any] = {
        "objectType": (
            "AzureWorkloadSQLPointInTimeRestoreRequest"
            if moment is not None
            else "AzureWorkloadSQLRestoreRequest"
        ),
        "shouldUseAlternateTargetLocation": True,
        "isNonRecoverable": task.no_recovery,
    }
    if moment is not None:
        properties["pointInTime"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    target = task.target
    if isinstance(target, OriginalTarget):
        return {**properties, "recoveryType": "OriginalLocation"}
    properties["recoveryType"] = "AlternateLocation"
    properties["targetVirtualMachineId"] = target.vm_id.path
    if isinstance(target, FilesTarget):
        properties["recoveryMode"] = "FileRecovery"
    elif task.database.vm_id is not None:
        properties["sourceResourceId"] = task.database.vm_id.path
    return properties


def target_info(
    task: RestoreTask, target: AlternateTarget | FilesTarget, container_id: str
) -> dict[str, Any]:
    """The `targetInfo` of a restore to another database, or as files; `container_id` is that of the target's VM."""
    info = {
        "overwriteOption": "Overwrite" if task.overwrite else "FailOnConflict",
        "containerId": container_id,
    }
    if isinstance(target, FilesTarget):
        return {**info, "targetDirectoryForFileRestore": target.path}
    return {**info, "databaseName": f"{target.instance}/{target.database}"}
