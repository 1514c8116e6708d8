"""Restoring a database: to the original, to another database, instance or VM, or as files.

Follows https://learn.microsoft.com/azure/backup/restore-azure-sql-vm-rest-api.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from shared.arm.ids import ContainerId, ProtectedItemId, RecoveryPointId, VirtualMachineId
from shared.azure_backup import bodies
from shared.clock import ServiceTime
from shared.drills import drill_database_name
from shared.engine import outcomes
from shared.engine.message import StepMessage
from shared.engine.result import Call, Collaborators, Continue, End, Failure, Later, Result, To, refused
from shared.messages import windows_paths
from shared.messages.error_codes import ErrorCode
from shared.messages.events import SUCCESSES, ErrorInfo, Event, RecoveryPointInfo, Status
from shared.messages.identity import Database
from shared.messages.requests import (
    AlternateTarget,
    FilesTarget,
    Operation,
    OriginalTarget,
    RestoreData,
)
from shared.names import enumeration, same_name
from shared.settings import Settings
from shared.steps.candidates import Candidate, candidates, registered_container
from shared.steps.database_files import known_files, map_files
from shared.steps.drill_checks import may_replace, not_the_drills_own, source_item, target_of_task
from shared.steps.drill_restores import after_drill_restore, prepare, with_drill_info
from shared.steps.matching import called, inside
from shared.steps.missing_databases import machines_instead, protected_as_a_whole
from shared.steps.payloads import RestorePlan, RestoreTask
from shared.steps.recovery_points import choose_recovery_point
from shared.steps.vaults import recent_items, restores_guarded

if TYPE_CHECKING:
    from shared.azure_backup.listings import Listing
    from shared.azure_backup.models import Container, Job, ProtectedItem

_LONGEST_NAME: Final = 128


def select_recovery_point(message: StepMessage[RestorePlan], collaborators: Collaborators) -> Result:
    """Check that the restore is allowed, and select its recovery point."""
    data = message.payload.data
    not_allowed = _in_another_subscription(data) or not_allowed_by(data, collaborators.settings)
    if not_allowed is not None:
        return not_allowed.end
    database = message.payload.about
    item = _find_item(message, collaborators)
    if isinstance(item, Failure):
        return item.end
    points = collaborators.azure.list_recovery_points(item.id)
    chosen = choose_recovery_point(data.recovery_point, points, str(database))
    if isinstance(chosen, Failure):
        return chosen.end
    target = data.target
    if isinstance(target, AlternateTarget) and target.database is None:
        target = target.changed(database=default_name(data.database, chosen.time))
    task = RestoreTask(
        database=database,
        item_id=item.id.path,
        server_name=item.server_name,
        recovery_point=chosen,
        target=target,
        overwrite=data.overwrite,
        no_recovery=data.no_recovery,
    )
    return Continue((To("trigger_restore", task),))


def default_name(database: str, moment: ServiceTime) -> str:
    """The name of a copy whose request names none: the database's, shortened to what SQL Server takes."""
    suffix = f"_restored_{moment:%Y%m%d%H%M%S}"
    return windows_paths.shortened(database, _LONGEST_NAME - len(suffix)) + suffix


def not_allowed_by(asked: RestoreData | RestoreTask, settings: Settings) -> Failure | None:
    """The Failure where the request or the settings do not allow the restore."""
    database = asked.database if isinstance(asked, RestoreTask) else RestorePlan(data=asked).about
    source = database.vm_id.path if database.vm_id is not None else None
    target = asked.target
    overwrites = _overwrites(database, target)
    if overwrites and not asked.overwrite:
        return refused(
            ErrorCode.OVERWRITE_NOT_REQUESTED,
            f"the restore would replace {overwrites}; set overwrite to true if that is meant.",
        )
    if (overwrites or asked.overwrite) and not settings.restore_allow_overwrite:
        return refused(
            ErrorCode.OVERWRITE_NOT_ALLOWED,
            "the request asks to overwrite, which is not allowed: to allow it, set RESTORE_ALLOW_OVERWRITE to true, in"
            " the app's settings or, for the command, in its environment.",
        )
    if isinstance(target, OriginalTarget):
        if database.availability_group is not None:
            return refused(
                ErrorCode.ORIGINAL_RESTORE_OF_AVAILABILITY_GROUP,
                f"the service does not restore over a database of the availability group"
                f" {database.availability_group}: restore it to another database, then add that to the group.",
            )
        destination = source
    else:
        destination = target.vm_id.path
    if destination is None or not settings.allows_target(destination, source=source):
        accepted = settings.restore_allowed_targets
        allowed = "the source VM only" if accepted is None else enumeration(accepted)
        return refused(
            ErrorCode.TARGET_NOT_ALLOWED,
            f"the setting RESTORE_ALLOWED_TARGETS does not allow restores to {destination}; it allows: {allowed}."
            f" A value that would: {json.dumps([destination])}.",
        )
    return _path_not_allowed(target, settings)


def _path_not_allowed(
    target: OriginalTarget | AlternateTarget | FilesTarget, settings: Settings
) -> Failure | None:
    """The Failure for a path that the settings do not allow.

    Every path for backup files needs the setting. A database's files belong on the target VM's own disks: a path for
    them needs the setting only if it leads to a network share.
    """
    paths: dict[str, str | None] = {}
    if isinstance(target, FilesTarget):
        paths = {"path": target.path}
    elif isinstance(target, AlternateTarget):
        paths = {"dataDirectory": target.data_directory, "logDirectory": target.log_directory}
        paths |= {f"files.{position}.path": file.path for position, file in enumerate(target.files)}
    for field, path in paths.items():
        if path is None or (isinstance(target, AlternateTarget) and not windows_paths.is_share(path)):
            continue
        if not settings.allows_path(path):
            allowed = enumeration(settings.restore_allowed_paths)
            return refused(
                ErrorCode.PATH_NOT_ALLOWED,
                f"data.target.{field}: the setting RESTORE_ALLOWED_PATHS does not allow restores to {path}; it allows:"
                f" {allowed}. A value that would: {json.dumps([path], ensure_ascii=False)}.",
            )
    return None


def _in_another_subscription(data: RestoreData) -> Failure | None:
    """The Failure for a target that no vault of this subscription can have.

    A vault protects VMs of its own subscription (https://learn.microsoft.com/azure/backup/sql-support-matrix).
    """
    target = data.target
    if isinstance(target, OriginalTarget):
        return None
    if target.vm_id.subscription_id.lower() != data.vault_id.subscription_id.lower():
        return refused(
            ErrorCode.TARGET_IN_ANOTHER_SUBSCRIPTION,
            f"data.target.vmId: expected a VM that is registered to the vault {data.vault_id.name}, so one of its"
            f" subscription {data.vault_id.subscription_id}; {target.vm_id} is in another. Restores to another"
            " subscription or vault are not supported here: use the portal or az.",
        )
    return None


def _overwrites(database: Database, target: OriginalTarget | AlternateTarget | FilesTarget) -> str:
    """What the restore certainly replaces, in words: the source itself; else empty."""
    if isinstance(target, OriginalTarget):
        return f"the source database {database}"
    if (
        isinstance(target, AlternateTarget)
        and target.database is not None
        and target.vm_id == database.vm_id
        and same_name(target.instance, database.parent)
        and same_name(target.database, database.name)
    ):
        return f"the source database {target.instance}/{target.database}"
    return ""


def _find_item(message: StepMessage[RestorePlan], collaborators: Collaborators) -> ProtectedItem | Failure:
    data, asked = message.payload.data, message.payload.about

    def available_in(protected: Listing[ProtectedItem]) -> list[Candidate]:
        return candidates(protected, vm_id=data.vm_id)

    def is_in(protected: Listing[ProtectedItem]) -> bool:
        return any(match.cannot is None for match in called(available_in(protected), asked))

    protected = recent_items(message, collaborators, data.vault_id, enough=is_in)
    if isinstance(protected, Failure):
        return protected
    available = available_in(protected)
    for match in called(available, asked):
        if match.cannot is not None:
            return match.cannot[1]
        item = match.candidate.protected
        assert item is not None
        if item.is_scheduled_for_deferred_delete:
            return Failure(
                ErrorCode.ITEM_SOFT_DELETED,
                f"the backups of {match.candidate.database} are soft-deleted: undelete it before it is restored.",
            )
        return item
    if (whole := protected_as_a_whole(inside(available, asked))) is not None:
        return Failure(whole.code, f"{asked} {whole.why}.")
    place = f" on {data.vm_id}" if data.vm_id is not None else ""
    there = enumeration(str(candidate.database) for candidate in available)
    instead = machines_instead(protected, data.vm_id)
    return Failure(
        ErrorCode.DATABASE_NOT_FOUND,
        f"vault {data.vault_id.name} protects no database {asked}{place}; it protects there:"
        f" {there}.{f' {instead}' if instead else ''}",
    )


def trigger_restore(message: StepMessage[RestoreTask], collaborators: Collaborators) -> Result:
    """Trigger the restore: one delivery prepares the call, the next one makes it."""
    if message.request.operation is Operation.DRILL:
        return _trigger_drill(message, collaborators)
    task = message.payload
    if message.request.operation is not Operation.RESTORE or task.drill is not None:
        text = f"a {message.request.operation} request does not allow to restore {task.database}."
        return refused(ErrorCode.RESTORE_NOT_REQUESTED, text).end
    # Checked again: the settings may have changed since an earlier step, and the effect is made here.
    not_allowed = not_allowed_by(task, collaborators.settings)
    if not_allowed is not None:
        return not_allowed.end
    return _call(
        message, collaborators, (outcomes.accepted(message, at=collaborators.now(), skipped={}, names=()),)
    )


def _trigger_drill(message: StepMessage[RestoreTask], collaborators: Collaborators) -> Result:
    """The restore of a drill: its target and name alone allow it, nothing that a message says."""
    target = target_of_task(message, collaborators.settings)
    if isinstance(target, Failure):
        return target.end
    task = message.payload
    if not message.effect.ready:
        prepared = prepare(message, collaborators, target)
        if isinstance(prepared, Later):
            return prepared
        if isinstance(prepared, Failure):
            return with_drill_info(message, prepared.end)
        message = message.changed(payload=prepared)
    elif task.prepared is not None and task.recovery_point is not None:
        failure = not_the_drills_own(message, target, task.prepared)
        if failure is not None:
            return failure.end
        item = source_item(message, collaborators, target)
        if isinstance(item, Failure):
            return item.end
    else:
        text = f"the restore for the drill of {task.database} was not prepared."
        return refused(ErrorCode.DRILL_NOT_REQUESTED, text).end
    # The settings for restores do not apply: those for drills are narrower.
    whole = message.payload.target
    assert isinstance(whole, AlternateTarget)
    if not may_replace(collaborators.settings, task.database, whole):
        text = f"data.target: the setting DRILL_TARGETS has other directories for {target}."
        return refused(ErrorCode.TARGET_NOT_ALLOWED, text).end
    return _call(message, collaborators, ())


def _call(
    message: StepMessage[RestoreTask], collaborators: Collaborators, events: tuple[Event, ...]
) -> Result:
    """The call for a restore that is allowed: the first delivery prepares it, the next one makes it."""
    task = message.payload
    assert task.recovery_point is not None
    item = ProtectedItemId.parse(task.item_id)
    point = RecoveryPointId(item, task.recovery_point.name)
    prepared = task.prepared if message.effect.ready else None
    body = prepared if prepared is not None else restore_properties(message, collaborators, item)
    if isinstance(body, Failure):
        return replace(with_drill_info(message, body.end), events=events)
    return Call(
        make=lambda azure, request_id: azure.trigger_restore(point, body, client_request_id=request_id),
        # What follows the call needs no more than the task.
        payload=task.changed(
            prepared=None if message.effect.ready else body, warnings=warnings_of(task, body)
        ),
        events=events,
    )


def is_harmless(task: RestoreTask) -> bool:
    """Whether the restore can replace nothing, so that a second start of it is refused by the service.

    Files in a directory are overwritten, or stand beside those of the first. A drill only replaces a drill database:
    the name ensures that, not a field.
    """
    target = task.target
    if not isinstance(target, AlternateTarget):
        return False
    return not task.overwrite or target.database == drill_database_name(task.database)


#: The error codes, of the service and of this app's own check, for "the target of the restore exists".
_EXISTS: Final = frozenset(
    {"usererrorcannotrestoreexistingdbwithoutforceoverwrite", ErrorCode.TARGET_DATABASE_EXISTS.lower()}
)


def proves_an_earlier_one(error: ErrorInfo) -> bool:
    """Whether a restore was refused because its target exists: an earlier restore may have created it."""
    return error.code.lower() in _EXISTS


def after_restore(message: StepMessage[RestoreTask], job: Job, end: End) -> Continue | End:
    """What the outcome tells of the restore; a drill goes on."""
    end = _with_restore_details(message, end)
    if message.request.operation is Operation.DRILL:
        return after_drill_restore(message, job, end)
    return end


def conclude(message: StepMessage[RestoreTask] | StepMessage[RestorePlan], end: End) -> End:
    """The outcome of a restore as its payload tells it: that of a drill says what it was a drill of."""
    if isinstance(message.payload, RestorePlan):
        return end  # of the selection, which went the way that going on would have gone
    return with_drill_info(message, end)


def _with_restore_details(message: StepMessage[RestoreTask], end: End) -> End:
    task = message.payload
    point = task.recovery_point
    assert point is not None
    status, warnings = end.status, end.details.warnings
    if task.warnings and status in SUCCESSES:
        status, warnings = Status.SUCCEEDED_WITH_WARNINGS, (*task.warnings, *warnings)
    return replace(end, status=status).with_details(
        warnings=warnings,
        recovery_point=RecoveryPointInfo(name=point.name, kind=point.kind, time=point.time),
        target=task.target.model_dump(mode="json", by_alias=True, exclude_none=True),
    )


def warnings_of(task: RestoreTask, properties: Mapping[str, Any]) -> tuple[str, ...]:
    """Warnings for the outcome of a restore that succeeds, besides those of its job."""
    target = task.target
    if not isinstance(target, AlternateTarget) or "alternateDirectoryPaths" in properties:
        return ()
    return (
        f"No paths are sent for the files of {target.instance}/{target.database}, since their list is not known or too"
        " long: the service places them in the instance's default directories.",
    )


def restore_properties(
    message: StepMessage[RestoreTask], collaborators: Collaborators, item: ProtectedItemId
) -> dict[str, Any] | Failure:
    """The properties of the restore request, as the REST API takes them."""
    task = message.payload
    if (guarded := restores_guarded(collaborators, item.vault)) is not None:
        return guarded
    target, point = task.target, task.recovery_point
    assert point is not None
    properties = bodies.restore(
        target, source=task.database.vm_id, point_in_time=point.point_in_time, no_recovery=task.no_recovery
    )
    if isinstance(target, OriginalTarget):
        return properties
    container = _target_container(message, collaborators, target.vm_id)
    if isinstance(container, Failure):
        return container
    if isinstance(target, FilesTarget):
        info = bodies.restore_target(target, container.id.path, overwrite=task.overwrite)
        return {**properties, "targetInfo": info}
    described = _alternate_properties(task, target, container, collaborators, item)
    return described if isinstance(described, Failure) else {**properties, **described}


def _alternate_properties(
    task: RestoreTask,
    target: AlternateTarget,
    container: Container,
    collaborators: Collaborators,
    item: ProtectedItemId,
) -> dict[str, Any] | Failure:
    """The properties of a restore to another database: the target, and where its files go."""
    assert target.database is not None
    directories = _default_directories(collaborators, container, target)
    if isinstance(directories, Failure):
        return directories
    if not task.overwrite and (exists := target_exists(collaborators, container.id, target)) is not None:
        return exists
    assert task.recovery_point is not None
    mapping = map_files(known_files(collaborators, item, task.recovery_point), target, directories)
    if isinstance(mapping, Failure):
        return mapping
    info = bodies.restore_target(target, container.id.path, overwrite=task.overwrite)
    described: dict[str, Any] = {"targetInfo": info}
    if mapping:
        described["alternateDirectoryPaths"] = mapping
    return described


def _target_container(
    message: StepMessage[RestoreTask], collaborators: Collaborators, vm_id: VirtualMachineId
) -> Container | Failure:
    vault_id = message.vault_id
    registered = collaborators.azure.list_registered_containers(vault_id)
    container = registered_container(registered, vm_id)
    if isinstance(container, Failure):
        return container
    if container is not None and container.is_of_deleted_vm:
        return Failure(
            ErrorCode.VIRTUAL_MACHINE_DELETED,
            f"the target VM {vm_id} has been deleted: restore to another one that is registered to vault"
            f" {vault_id.name}.",
        )
    if container is not None:
        return container
    there = enumeration(str(other.virtual_machine_id) for other in registered.usable)
    offered = collaborators.azure.list_protectable_containers(vault_id)
    advice = (
        "Register it with a protect request first."
        if any(other.virtual_machine_id == vm_id for other in offered)
        else "The vault does not offer it either: restores to a VM of another vault are not supported here (use the"
        " portal or az); if no vault has it, register it with a protect request first."
    )
    return Failure(
        ErrorCode.TARGET_NOT_REGISTERED,
        f"the target VM {vm_id} is not registered to vault {vault_id.name}; registered are: {there}. {advice}",
    )


def _default_directories(
    collaborators: Collaborators, container: Container, target: AlternateTarget
) -> dict[str, str] | Failure:
    instances = collaborators.azure.list_workload_items(container.id, "SQLInstance")
    for instance in instances:
        if same_name(instance.instance, target.instance):
            directories = {kind.lower(): path for kind, path in instance.data_directories}
            break
    else:
        there = enumeration(instance.instance for instance in instances)
        return Failure(
            ErrorCode.TARGET_INSTANCE_NOT_FOUND,
            f"the target VM {target.vm_id} has no SQL Server instance {target.instance}; it has: {there}.",
        )
    if target.data_directory is not None:
        directories["data"] = target.data_directory
    if target.log_directory is not None:
        directories["log"] = target.log_directory
    return directories


def target_exists(
    collaborators: Collaborators, container_id: ContainerId, target: AlternateTarget
) -> Failure | None:
    """The Failure where the database that a restore would create is there, as of the VM's last inquiry."""
    assert target.database is not None
    for other in collaborators.azure.list_workload_items(container_id, "SQLDataBase"):
        if same_name(other.instance, target.instance) and same_name(other.name, target.database):
            return refused(
                ErrorCode.TARGET_DATABASE_EXISTS,
                f"the database {target.instance}/{target.database} exists on {target.vm_id}; set overwrite to true"
                " if it is to be replaced, or name another.",
            )
    return None
