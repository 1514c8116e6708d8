"""`sqlvmbackup databases` and `recovery-points`: lists them, and changes nothing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from cli.azure import azure
from cli.embedded import settings_of_a_run
from cli.encoding import JsonObject
from cli.errors import FAILED, CommandError, failed
from cli.output import output_of, print_rows, print_sentence
from cli.requesting import one_database
from cli.wording import moment_text, without_none
from shared.arm.ids import InvalidResourceIdError, VaultId, VirtualMachineId
from shared.engine.result import Collaborators
from shared.messages.identity import Database
from shared.messages.model import format_moment
from shared.names import enumeration, name_key
from shared.steps.candidates import Candidate, candidates
from shared.steps.matching import called, inside
from shared.steps.missing_databases import protected_as_a_whole
from shared.steps.recovery_points import (
    LOG_RECOVERY_POINT,
    newest_first,
    restorable_ranges,
    state_of,
)
from shared.steps.vaults import vault_not_found

if TYPE_CHECKING:
    from shared.azure_backup.listings import Unusable
    from shared.azure_backup.models import ProtectedItem, RecoveryPoint

_DATABASES: Final = (
    "vm",
    "instance",
    "database",
    "state",
    "policy",
    "lastBackup",
    "lastBackupStatus",
)
#: What a database's line may hold, in this order.
_DATABASE_FIELDS: Final = (
    "vm",
    "vmId",
    *_DATABASES[1:],
    "lastRecoveryPoint",
    "recoveryModel",
    "itemId",
    "reason",
)
#: The service's words for a last backup that succeeded or is yet to come.
_GOOD: Final = frozenset({"healthy", "completed", "irpending"})
_RECOVERY_POINTS: Final = ("name", "kind", "time", "from", "to", "state", "expires")

#: Columns that a narrow terminal drops, in this order: the name and the state stay longest.
_SPARED: Final = ("policy", "lastBackup", "reason", "state")


def _places(options: argparse.Namespace) -> tuple[VaultId, VirtualMachineId | None]:
    try:
        vm_id = VirtualMachineId.parse(options.vm) if options.vm is not None else None
    except InvalidResourceIdError as error:
        raise CommandError(f"--vm: {error}.") from error
    return VaultId.parse(options.vault), vm_id


def show_databases(options: argparse.Namespace) -> int:
    """List the databases of a vault, protected or protectable."""
    vault_id, vm_id = _places(options)
    output = output_of(options)
    with azure(settings_of_a_run(os.environ, options.arm_endpoint)) as collaborators:
        found, containers = _candidates(collaborators, vault_id, vm_id)
        rows = [_database_row(candidate) for candidate in found]
    rows.sort(key=lambda row: (row["vm"] or "", name_key(row["instance"]), name_key(row["database"])))
    rows += [_container_row(container) for container in containers]
    print_rows(
        (*_DATABASES, "reason") if any("reason" in row for row in rows) else _DATABASES,
        rows,
        output,
        nothing="No database needs a look."
        if rows and output.failed_only
        else "The vault knows no database there: a protect request registers a VM and looks for its databases.",
        fields=_DATABASE_FIELDS,
        spared=_SPARED,
        name=("vm", "instance", "database"),
        failed=_needs_a_look,
    )
    if output.is_table and any(row["state"] == "IRPending" for row in rows):
        print_sentence("IRPending: protected, and not restorable before its first full backup.")
    return 0


def _needs_a_look(row: JsonObject) -> bool:
    status = row.get("lastBackupStatus")
    return "reason" in row or (status is not None and status.lower() not in _GOOD)


def _candidates(
    collaborators: Collaborators, vault_id: VaultId, vm_id: VirtualMachineId | None
) -> tuple[list[Candidate], list[Unusable]]:
    """The databases, and the registered containers whose databases cannot be listed.

    Raises CommandError for a VM that the vault does not know.
    """
    if collaborators.azure.get_vault(vault_id) is None:
        raise failed(vault_not_found(collaborators, vault_id))
    protected = collaborators.azure.list_protected_items(vault_id)
    found = candidates(protected, vm_id=vm_id)
    known = {(candidate.database.key, candidate.database.name): candidate for candidate in found}
    protectable = collaborators.azure.list_protectable_items(vault_id)
    registered, unusable = collaborators.azure.list_registered_containers(vault_id)
    machines = [container.virtual_machine_id for container in registered]
    machines += [container.virtual_machine_id for container in unusable]
    for container in registered:
        machine = container.virtual_machine_id
        if machine is None or (vm_id is not None and machine != vm_id):
            continue
        for candidate in candidates(protected, protectable, vm_id=machine, container=container.id):
            known.setdefault((candidate.database.key, candidate.database.name), candidate)
    of_vm = [candidate for candidate in known.values() if candidate.database.vm_id is not None]
    if vm_id is not None and vm_id not in machines and not of_vm:
        there = enumeration(str(machine) for machine in machines if machine is not None)
        raise CommandError(
            f"--vm: the virtual machine {vm_id} is not registered to vault {vault_id.name}; registered are: {there}."
            " A protect request registers a VM and looks for its databases.",
            status=FAILED,
        )
    here = [one for one in unusable if vm_id is None or one.virtual_machine_id in (None, vm_id)]
    return list(known.values()), here


def _container_row(container: Unusable) -> JsonObject:
    machine = container.virtual_machine_id
    return {
        "vm": machine.name if machine is not None else container.shown,
        "vmId": machine.path if machine is not None else None,
        "instance": "*",
        "database": "*",
        "state": "Unusable",
        "reason": f"the container {container.shown} {container.why}",
    }


def _database_row(candidate: Candidate) -> JsonObject:
    database, item, offered = candidate.database, candidate.protected, candidate.protectable
    row: JsonObject = {
        "vm": database.vm_id.name if database.vm_id is not None else None,
        "vmId": database.vm_id.path if database.vm_id is not None else None,
        "instance": database.parent,
        "database": database.name,
    }
    if item is not None:
        return {
            **row,
            "state": "SoftDeleted" if item.is_scheduled_for_deferred_delete else item.protection_state,
            "policy": item.policy_name,
            "lastBackup": moment_text(item.last_backup_time),
            "lastBackupStatus": item.last_backup_status or None,
            "lastRecoveryPoint": moment_text(item.last_recovery_point),
            "recoveryModel": item.recovery_model,
            "itemId": item.id.path,
        }
    if candidate.cannot is not None:
        return {**row, "state": "Unusable", "reason": candidate.cannot.message}
    assert offered is not None
    return {**row, "state": "Protectable" if offered.is_protectable else "NotProtectable"}


def show_recovery_points(options: argparse.Namespace) -> int:
    """List what a database can be restored to."""
    vault_id, vm_id = _places(options)
    output = output_of(options)
    named = one_database(options)
    asked = Database(
        instance=named.get("instance"),
        availability_group=named.get("availabilityGroup"),
        name=named["database"],
    )
    with azure(settings_of_a_run(os.environ, options.arm_endpoint)) as collaborators:
        known, _ = _candidates(collaborators, vault_id, vm_id)
        item = _protected(asked, known)
        rows = _recovery_point_rows(collaborators.azure.list_recovery_points(item.id))
    nothing = f"{asked} has no recovery point yet: back it up."
    print_rows(
        _RECOVERY_POINTS,
        rows,
        output,
        nothing=nothing,
        fields=_RECOVERY_POINTS,
        spared=("expires", "state"),
    )
    return 0


def _protected(asked: Database, known: list[Candidate]) -> ProtectedItem:
    """The protected database of that name. Raises CommandError unless there is exactly one."""
    chosen = called([one for one in known if one.protected is not None or one.unusable is not None], asked)
    if not chosen:
        if (whole := protected_as_a_whole(inside(known, asked))) is not None:
            raise CommandError(f"{asked} {whole.why}.", status=FAILED)
        there = enumeration(str(one.database) for one in known if one.protected is not None)
        if called(known, asked):
            raise CommandError(
                f"{asked} is not protected, so there is nothing of it to restore; the vault protects: {there}.",
                status=FAILED,
            )
        raise CommandError(f"the vault protects no {asked}; it protects: {there}.", status=FAILED)
    if len(chosen) > 1:
        there = enumeration(str(found.candidate.database.vm_id) for found in chosen)
        raise CommandError(f"{asked} is on several VMs; name one with --vm: {there}.")
    if chosen[0].cannot is not None:
        raise failed(chosen[0].cannot[1])
    item = chosen[0].candidate.protected
    assert item is not None
    return item


def _recovery_point_rows(points: Sequence[RecoveryPoint]) -> list[JsonObject]:
    """Recovery points, the newest first, with log ranges in the whole seconds that a restore takes."""
    rows: list[tuple[datetime, JsonObject]] = []
    for time, point in newest_first(points):
        row = {
            "name": point.name,
            "kind": point.kind,
            "time": moment_text(time),
            "state": state_of(point),
            "expires": moment_text(point.expires),
        }
        rows.append((time, without_none(row)))
    for span in restorable_ranges(points):
        told = {"from": format_moment(span.start), "to": format_moment(span.end)}
        rows.append((span.end, {"name": LOG_RECOVERY_POINT, "kind": "log range", **told}))
    without_moment = [
        without_none({"name": point.name, "kind": point.kind or None, "state": state_of(point)})
        for point in points
        if point.time is None and state_of(point) is not None
    ]
    return [row for _, row in sorted(rows, key=lambda pair: pair[0], reverse=True)] + without_moment
