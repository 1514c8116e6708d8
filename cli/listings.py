"""`sqlvmbackup databases` and `recovery-points`: what there is; nothing is changed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from cli.azure import azure
from cli.display import json_lines, print_rows
from cli.embedded import settings_of_a_run
from cli.errors import CommandError
from shared.arm.ids import InvalidResourceIdError, VaultId, VirtualMachineId
from shared.messages.model import format_moment
from shared.workflow.selection import Candidate, candidates, listing
from shared.workflow.step import Collaborators, WorkflowError
from shared.workflow.vaults import vault_not_found

JsonObject = dict[str, Any]

_DATABASES: Final = (
    "vm",
    "instance",
    "database",
    "state",
    "policy",
    "lastBackup",
    "lastBackupStatus",
)
_RECOVERY_POINTS: Final = ("name", "kind", "time", "from", "to")

Id = TypeVar("Id", VaultId, VirtualMachineId)


def _parse(kind: type[Id], text: str, flag: str) -> Id:
    try:
        return kind.parse(text)
    except InvalidResourceIdError as error:
        raise CommandError(f"{flag}: {error}.") from error


def show_databases(options: argparse.Namespace) -> int:
    """List the databases of a vault, protected or protectable."""
    vault_id = _parse(VaultId, options.vault, "--vault")
    vm_id = _parse(VirtualMachineId, options.vm, "--vm") if options.vm is not None else None
    with azure(settings_of_a_run(os.environ, options.arm_endpoint)) as c:
        rows = [_database_row(candidate) for candidate in _candidates(c, vault_id, vm_id)]
    rows.sort(key=lambda row: (row["vm"] or "", row["instance"].casefold(), row["database"].casefold()))
    print_rows(
        _DATABASES,
        rows,
        as_json=json_lines(options.json),
        nothing="The vault knows no database there: a protect request registers a VM and looks for its databases.",
        spared=("lastBackupStatus",),
    )
    return 0


def _candidates(c: Collaborators, vault_id: VaultId, vm_id: VirtualMachineId | None) -> list[Candidate]:
    if c.backup.get_vault(vault_id) is None:
        raise vault_not_found(c, vault_id)
    found = candidates(c.backup.list_protected_items(vault_id), (), vm_id=vm_id, container=None)
    known = {candidate.database.key: candidate for candidate in found}
    protectable = c.backup.list_protectable_items(vault_id)
    for container in c.backup.list_registered_containers(vault_id):
        machine = container.virtual_machine_id
        if machine is None or (vm_id is not None and machine != vm_id):
            continue
        for candidate in candidates((), protectable, vm_id=machine, container=container.id):
            known.setdefault(candidate.database.key, candidate)
    return list(known.values())


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
            "lastBackup": _moment(item.last_backup_time),
            "lastBackupStatus": item.last_backup_status or None,
            "lastRecoveryPoint": _moment(item.last_recovery_point),
            "recoveryModel": item.recovery_model,
            "itemId": item.id.path,
        }
    assert offered is not None
    return {**row, "state": "Protectable" if offered.is_protectable else "NotProtectable"}


def show_recovery_points(options: argparse.Namespace) -> int:
    """List what a database can be restored to."""
    vault_id = _parse(VaultId, options.vault, "--vault")
    vm_id = _parse(VirtualMachineId, options.vm, "--vm") if options.vm is not None else None
    group = options.availability_group
    parent = (group or options.instance).casefold()
    with azure(settings_of_a_run(os.environ, options.arm_endpoint)) as c:
        known = [one for one in _candidates(c, vault_id, vm_id) if one.protected is not None]
        chosen = [
            one.protected
            for one in known
            if (one.database.availability_group is not None) == (group is not None)
            and one.database.parent.casefold() == parent
            and one.database.name.casefold() == options.database.casefold()
        ]
        asked = f"{group or options.instance}/{options.database}"
        if not chosen:
            there = listing(str(one.database) for one in known)
            raise WorkflowError("DatabaseNotFound", f"the vault protects no {asked}; it protects: {there}.")
        if len(chosen) > 1:
            there = listing(str(one.virtual_machine_id) for one in chosen if one is not None)
            raise CommandError(f"{asked} is on several VMs; name one with --vm: {there}.")
        item = chosen[0]
        assert item is not None
        rows = list(_recovery_point_rows(c.backup.list_recovery_points(item.id)))
    nothing = f"{asked} has no recovery point yet: back it up."
    print_rows(_RECOVERY_POINTS, rows, as_json=json_lines(options.json), nothing=nothing)
    return 0


def _recovery_point_rows(points: Iterable[Any]) -> Iterable[JsonObject]:
    ancient = datetime.min.replace(tzinfo=UTC)
    for point in sorted(points, key=lambda point: point.time or ancient, reverse=True):
        if point.time is not None and not point.time_ranges:
            yield {"name": point.name, "kind": point.kind, "time": _moment(point.time)}
        for span in point.time_ranges:
            yield {
                "name": point.name,
                "kind": "log range",
                "from": format_moment(span.start),
                "to": format_moment(span.end),
            }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else format_moment(moment.replace(microsecond=0))
