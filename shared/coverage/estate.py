"""Several vaults together: each database once, and the VMs with SQL Server that no vault knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from shared.arm.ids import VirtualMachineId
from shared.azure_backup.listings import Listing
from shared.coverage.states import (
    EVERY_DATABASE,
    CoverageCode,
    CoverageState,
    DatabaseCoverage,
    VaultCoverage,
)
from shared.messages.identity import Database

#: The states in which a vault does not back a database up.
_ELSEWHERE: Final = frozenset({CoverageState.STOPPED, CoverageState.UNPROTECTED})


def together(vaults: Sequence[VaultCoverage]) -> tuple[DatabaseCoverage, ...]:
    """The databases of several vaults, the worst first, each once.

    A VM that moves to another vault leaves stopped or deleted items in the first one. They are no gap where the other
    vault backs the same database up; that database's message then says where older backups are.
    """
    backed_up = {
        (entry.database.key, entry.database.name)
        for vault in vaults
        for entry in vault.databases
        if entry.database.vm_id is not None and entry.item_id is not None and entry.state not in _ELSEWHERE
    }
    kept: list[DatabaseCoverage] = []
    older: dict[tuple[str, str], list[str]] = {}
    for vault in vaults:
        for entry in vault.databases:
            key = (entry.database.key, entry.database.name)
            if entry.state in _ELSEWHERE and key in backed_up:
                if entry.item_id is not None:
                    older.setdefault(key, []).append(vault.vault_id.name)
            else:
                kept.append(entry)
    entries = [
        replace(entry, message=f"{entry.message} Older backups of it are in {' and '.join(names)}.".strip())
        if entry.item_id is not None and (names := older.get((entry.database.key, entry.database.name)))
        else entry
        for entry in kept
    ]
    return tuple(sorted(entries, key=lambda entry: entry.order))


def unregistered(
    machines: Listing[VirtualMachineId],
    vaults: Iterable[VaultCoverage],
    *,
    vaults_unread: bool,
) -> list[DatabaseCoverage]:
    """The VMs with SQL Server that no vault knows, each as one entry `*`.

    `vaults_unread`: some of the subscription's vaults could not be read, and one of them may know a VM.
    """
    vaults = list(vaults)
    known = {container.vm_id for vault in vaults for container in vault.containers}
    # A registration counts even where it cannot be read.
    known |= {
        entry.database.vm_id
        for vault in vaults
        for entry in vault.databases
        if entry.database.name == EVERY_DATABASE
    }
    return [
        not_registered(machine, vaults_unread=vaults_unread)
        for machine in machines.usable
        if machine not in known
    ] + [
        DatabaseCoverage(
            vault_id=None,
            database=Database(instance=EVERY_DATABASE, name=EVERY_DATABASE),
            state=CoverageState.UNKNOWN,
            code=unusable.code,
            message=f"The SQL virtual machine {unusable.name} {unusable.why}.",
            advice="Look at it in the portal.",
            server_name=unusable.name,
        )
        for unusable in machines.unusable
    ]


def not_registered(machine: VirtualMachineId, *, vaults_unread: bool = False) -> DatabaseCoverage:
    """The entry `*` of a VM with SQL Server that no vault knows, as far as they could be read."""
    message = "SQL Server is on it, and no vault of its subscription knows it"
    return DatabaseCoverage(
        vault_id=None,
        database=Database(vm_id=machine, instance=EVERY_DATABASE, name=EVERY_DATABASE),
        state=CoverageState.UNKNOWN if vaults_unread else CoverageState.UNPROTECTED,
        code=CoverageCode.NOT_REGISTERED,
        message=f"{message} that could be read." if vaults_unread else f"{message}.",
        advice="Protect its databases: a protect request registers it.",
    )
