"""Checks before every part of a drill: where it goes, which database it belongs to, and that it touches nothing else.

Each step of a drill checks again, whatever an earlier one found: settings change, and a message proves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from shared.arm.ids import ContainerId, InvalidResourceIdError, ProtectedItemId, VaultId, VirtualMachineId
from shared.azure_backup import bodies
from shared.drills import DrillTarget, drill_database_name, drill_target, target_of
from shared.engine.message import StepMessage
from shared.engine.result import Collaborators, Failure, refused
from shared.messages.error_codes import ErrorCode
from shared.messages.identity import Database
from shared.messages.requests import AlternateTarget, Operation
from shared.messages.windows_paths import is_share, windows_directory
from shared.names import enumeration, same_name
from shared.settings import Settings
from shared.steps.candidates import candidates, registered_container
from shared.steps.database_files import DatabaseFile, map_files
from shared.steps.payloads import RestoreTask
from shared.steps.vaults import protected_items

if TYPE_CHECKING:
    from shared.azure_backup.listings import Listing
    from shared.azure_backup.models import ProtectedItem

#: What a call to restore says that does not follow from its task alone.
_NOT_OF_THE_TASK: Final = ("targetInfo", "alternateDirectoryPaths")
#: What a call to restore says of each file.
_FIELDS_OF_A_FILE: Final = ("mappingType", "sourcePath", "sourceLogicalName", "targetPath")


def not_a_target(settings: Settings, vm_id: VirtualMachineId, instance: str) -> DrillTarget | Failure:
    """The target for an instance; a Failure where the settings do not name it."""
    target = target_of(settings.drill_targets, vm_id=vm_id, instance=instance)
    if target is not None:
        return target
    allowed = enumeration(map(str, settings.drill_targets))
    would = json.dumps([{"vmId": vm_id.path, "instance": instance}])
    return refused(
        ErrorCode.TARGET_NOT_ALLOWED,
        f"data.target: the setting DRILL_TARGETS does not allow drills on instance {instance} of {vm_id}; it allows:"
        f" {allowed}. A value that would: {would}.",
    )


def in_another_subscription(vault_id: VaultId, vm_id: VirtualMachineId) -> Failure | None:
    """The Failure for a target that is in another subscription than the vault."""
    if vm_id.subscription_id.lower() == vault_id.subscription_id.lower():
        return None
    return refused(
        ErrorCode.TARGET_IN_ANOTHER_SUBSCRIPTION,
        f"data.target.vmId: expected a VM that is registered to the vault {vault_id.name}, so one of its"
        f" subscription {vault_id.subscription_id}; {vm_id} is in another.",
    )


def target_in_use(target: DrillTarget, protected: Listing[ProtectedItem]) -> Failure | None:
    """The Failure where the vault protects, or has protected, a database on the target's instance.

    An availability group counts on every VM whose host name its items mention.
    """
    there = [*_protected_on(target, protected)]
    if not there:
        return None
    return refused(
        ErrorCode.DRILL_TARGET_IN_USE,
        f"{target} holds databases that the vault protects or keeps backups of: {enumeration(there)}. Drills"
        " need an instance of their own: name another in DRILL_TARGETS, or stop the protection of these and delete"
        " their backups.",
    )


def _protected_on(target: DrillTarget, protected: Listing[ProtectedItem]) -> Iterator[str]:
    host = target.vm_id.name.lower()
    for item in protected.usable:
        on_vm = item.virtual_machine_id == target.vm_id
        if item.is_scheduled_for_deferred_delete:
            continue
        if item.in_availability_group:
            if on_vm or item.server_name.lower().partition(".")[0] == host:
                yield f"{item.instance}/{item.name}"
        elif on_vm and same_name(item.instance, target.instance):
            yield f"{item.instance}/{item.name}"
    for unusable in protected.unusable:
        if unusable.virtual_machine_id == target.vm_id and (
            unusable.in_availability_group
            or not unusable.parent
            or same_name(unusable.parent, target.instance)
        ):
            yield f"{unusable.parent}/{unusable.name}"


def not_registered(
    collaborators: Collaborators, vault_id: VaultId, vm_id: VirtualMachineId
) -> Failure | None:
    """The Failure where the VM is not registered to the vault, so that the vault's items would say nothing about it."""
    registered = collaborators.azure.list_registered_containers(vault_id)
    container = registered_container(registered, vm_id)
    if container is not None:
        return container if isinstance(container, Failure) else None
    there = enumeration(str(other.virtual_machine_id) for other in registered.usable)
    return refused(
        ErrorCode.TARGET_NOT_REGISTERED,
        f"the drill target {vm_id} is not registered to vault {vault_id.name}; registered are: {there}. Register it"
        " with a protect request that excludes its databases, or in the portal.",
    )


def target_of_task(message: StepMessage[RestoreTask], settings: Settings) -> DrillTarget | Failure:
    """The target of a drill's task, from the settings; a Failure unless the drill database is named after the source.

    It makes no call to Azure.
    """
    task = message.payload
    target = task.target
    if message.request.operation is not Operation.DRILL or task.drill is None:
        return refused(
            ErrorCode.DRILL_NOT_REQUESTED,
            f"a {message.request.operation} request does not allow a drill of {task.database}.",
        )
    if not isinstance(target, AlternateTarget):
        return refused(ErrorCode.TARGET_NOT_ALLOWED, "a drill is restored to a database of its own.")
    known = not_a_target(settings, target.vm_id, target.instance)
    if isinstance(known, Failure):
        return known
    if (elsewhere := in_another_subscription(message.vault_id, known.vm_id)) is not None:
        return elsewhere
    own = drill_target(
        settings.drill_targets,
        vm_id=target.vm_id,
        instance=target.instance,
        name=target.database or "",
        source=task.database,
    )
    if own is None:
        return refused(
            ErrorCode.TARGET_NOT_ALLOWED,
            f"a drill of {task.database} is restored as {drill_database_name(task.database)}, not as"
            f" {target.database}.",
        )
    return own


def may_replace(settings: Settings, source: Database, target: AlternateTarget) -> bool:
    """Whether a restore goes where drills of that database go, and so may replace what is there.

    Only the target, the name there and the source decide that. The setting also decides where the files go.
    """
    known = drill_target(
        settings.drill_targets,
        vm_id=target.vm_id,
        instance=target.instance,
        name=target.database or "",
        source=source,
    )
    return (
        known is not None
        and (target.data_directory, target.log_directory) == (known.data_directory, known.log_directory)
        and not target.files
    )


def target_for(target: DrillTarget, source: Database | None = None) -> AlternateTarget:
    """Where a drill of a database goes; without a database, where drills go."""
    # The setting has been checked.
    return AlternateTarget.model_construct(
        kind="alternate",
        vm_id=target.vm_id,
        instance=target.instance,
        database=drill_database_name(source) if source is not None else None,
        data_directory=target.data_directory,
        log_directory=target.log_directory,
        files=(),
    )


def source_item(
    message: StepMessage[RestoreTask], collaborators: Collaborators, target: DrillTarget
) -> ProtectedItem | Failure:
    """The item that a drill restores, from the vault's listing; a Failure where the drill is not allowed.

    The vault, not the message, decides what the source is; and the target must hold nothing that is protected.
    """
    vault_id, task = message.vault_id, message.payload
    protected = protected_items(collaborators, vault_id)
    if isinstance(protected, Failure):
        return protected
    failure = target_in_use(target, protected) or not_registered(collaborators, vault_id, target.vm_id)
    if failure is not None:
        return failure
    item_id = ProtectedItemId.parse(task.item_id)
    for candidate in candidates(protected, vm_id=None):
        item = candidate.protected
        if item is not None and item.id == item_id and candidate.database.key == task.database.key:
            if candidate.database.name != task.database.name:
                break
            return item
    return refused(
        ErrorCode.DATABASE_NOT_FOUND,
        f"vault {vault_id.name} does not protect {task.database} as {item_id.name}: nothing is restored, checked or"
        " dropped for it.",
    )


def not_the_drills_own(
    message: StepMessage[RestoreTask], target: DrillTarget, body: dict[str, Any]
) -> Failure | None:
    """The Failure where the prepared call is not the restore of that source to its drill database.

    The call must say exactly what such a restore says: an unknown field could lead it elsewhere.
    """
    task = message.payload
    item = ProtectedItemId.parse(task.item_id)
    wanted = target_for(target, task.database)
    assert task.recovery_point is not None
    own = bodies.restore(
        wanted,
        source=task.database.vm_id,
        point_in_time=task.recovery_point.point_in_time,
        no_recovery=False,
    )
    info, paths = body.get("targetInfo"), body.get("alternateDirectoryPaths", [])
    container = info.get("containerId") if isinstance(info, dict) else None
    is_own = (
        {key: value for key, value in body.items() if key not in _NOT_OF_THE_TASK} == own
        and info == bodies.restore_target(wanted, str(container), overwrite=True)
        and _is_container_of(container, item.vault, target.vm_id)
        and _are_own_files(paths, wanted)
        and item.vault == message.request.vault_id
        and _names_source(item, task.database)
    )
    if is_own:
        return None
    return refused(
        ErrorCode.TARGET_NOT_ALLOWED,
        f"the call that was prepared for a drill of {task.database} is not one to {wanted.database} on {target}, with"
        " its files on that VM or where DRILL_TARGETS has its directories.",
    )


def _is_container_of(text: Any, vault_id: VaultId, vm_id: VirtualMachineId) -> bool:
    """Whether an id is the id of a VM's container in a vault: the service restores to the container's VM."""
    try:
        container = ContainerId.parse(text) if isinstance(text, str) else None
    except InvalidResourceIdError:
        return False
    return (
        container is not None
        and container.vault == vault_id
        and container.name.lower().startswith("vmappcontainer;")
        and container.name.lower().endswith(f";{vm_id.resource_group};{vm_id.name}".lower())
    )


def _are_own_files(paths: Any, target: AlternateTarget) -> bool:
    """Whether files go where the drill database's files go, under the names that `map_files` gives them.

    Only directories from the setting may be on a share: the instance's own come from a message.
    """
    if not isinstance(paths, list):
        return False
    files: list[DatabaseFile] = []
    directories = {"data": target.data_directory, "log": target.log_directory}
    for entry in paths:
        values = [entry.get(name) for name in _FIELDS_OF_A_FILE] if isinstance(entry, dict) else []
        if len(values) != len(entry) or not all(isinstance(text, str) for text in values):
            return False
        kind, path, logical, placed = map(str, values)
        folder = placed.rpartition("\\")[0]
        if directories.get(kind.lower()) is None:
            if not _is_on_the_vms_disks(folder):
                return False
            directories[kind.lower()] = folder
        files.append((kind, path, logical))
    known = {kind: directory for kind, directory in directories.items() if directory is not None}
    return not files or map_files(files, target, known) == paths


def _is_on_the_vms_disks(folder: str) -> bool:
    """Whether a directory is on a drive, by the allow-list for requests: a share has many spellings."""
    try:
        known = windows_directory(folder)
    except ValueError:
        return False
    return not is_share(known) and known.rstrip("\\") == folder.rstrip("\\")


def _names_source(item: ProtectedItemId, source: Database) -> bool:
    """Whether an item's own id names the source: its database, and its VM and instance where it is not in a group."""
    kind, _, rest = item.name.partition(";")
    parent, _, name = rest.partition(";")
    if kind.lower() != "sqldatabase" or not same_name(name, source.name):
        return False
    if source.vm_id is None:
        return True
    if not same_name(parent, source.parent):
        return False
    ending = f";{source.vm_id.resource_group};{source.vm_id.name}".lower()
    return item.container.name.lower().endswith(ending)
