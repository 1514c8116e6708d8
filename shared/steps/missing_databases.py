"""Why a database that a request names is not there: the errors say what was asked for, and what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from shared.arm.ids import VirtualMachineId
from shared.azure_backup.listings import Listing, Unusable
from shared.engine.result import Failure
from shared.messages.error_codes import ErrorCode
from shared.messages.identity import Database
from shared.messages.requests import DatabaseSelector
from shared.names import enumeration, same_name
from shared.steps.candidates import Candidate

if TYPE_CHECKING:
    from shared.azure_backup.models import ProtectableItem, ProtectedItem


@dataclass(frozen=True)
class Trouble:
    """Why databases may be unknown: the error of the last inquiry of their VM, instance or group."""

    code: str
    text: str
    is_group: bool = False


def parent_troubles(protectable: Sequence[ProtectableItem]) -> dict[str, Trouble]:
    """What is wrong with instances and availability groups as a whole, by their names.

    An instance without sysadmin rights, a failover cluster instance or a basic availability group is listed
    itself, with the reason, while its databases are not.
    """
    troubles: dict[str, Trouble] = {}
    for item in protectable:
        error = item.prebackup_validation
        if error is None or not (item.is_instance or item.is_availability_group):
            continue
        kind = "availability group" if item.is_availability_group else "instance"
        text = f"The service does not back up the {kind} {item.name}: {error.code}: {error.message}"
        troubles[item.name] = Trouble(error.code, text.rstrip(": "), item.is_availability_group)
    return troubles


def missing(
    selector: DatabaseSelector,
    available: Sequence[Candidate],
    *,
    vm_id: VirtualMachineId | None,
    why: str = "",
    trouble: Trouble | None = None,
    parents: Mapping[str, Trouble] = MappingProxyType({}),
    protected_only: bool = False,
) -> tuple[Database, Failure]:
    """The failure of a selector that matches no database: what was asked for, and what exists.

    `protected_only`: unprotected databases are not known, so the database may exist.
    """
    database = Database.inside(
        selector.parent,
        selector.database,
        group=selector.availability_group is not None,
        vm_id=vm_id,
    )
    of_parent = [
        candidate
        for candidate in available
        if selector.matches_parent(candidate.database.parent, candidate.in_availability_group)
    ]
    if (whole := protected_as_a_whole(of_parent)) is not None:
        return database, Failure(whole.code, f"{database} {whole.why}.")
    code: str = ErrorCode.DATABASE_NOT_FOUND
    parents_of_it = (
        known for name, known in parents.items() if selector.matches_parent(name, known.is_group)
    )
    trouble = next(parents_of_it, trouble)
    if trouble is not None:
        why = trouble.text
        if not of_parent:
            code = trouble.code
    elif any(same_name(str(candidate.database), selector.database) for candidate in available):
        # As outcomes are shown: VM, instance, database.
        why = f"If {selector.instance} is a VM, give it as vmId, and {selector.database} as instance and database."
    names = enumeration(str(candidate.database) for candidate in available)
    text = f"{_nothing_meant(selector, vm_id, protected_only=protected_only)}: {names}."
    return database, Failure(code, f"{text} {why}" if why else text)


def _nothing_meant(
    selector: DatabaseSelector, vm_id: VirtualMachineId | None, *, protected_only: bool
) -> str:
    """That nothing is called so, up to the names of what there is."""
    place = f" on {vm_id.path}" if vm_id is not None else ""
    if protected_only:
        asked = "no protected database matches" if selector.is_pattern else "the vault protects no database"
        return f"{asked} {selector}{place}; {'it protects there' if place else 'it protects'}"
    asked = "no database matches" if selector.is_pattern else "there is no database"
    return f"{asked} {selector}{place}; there are"


def protected_as_a_whole(available: Sequence[Candidate]) -> Unusable | None:
    """The entry of an instance that is protected as a whole, if all candidates are such entries."""
    entries = [candidate.unusable for candidate in available]
    if all(entry is not None and entry.is_whole_instance for entry in entries):
        return next(iter(entries), None)
    return None


def machines_instead(protected: Listing[ProtectedItem], vm_id: VirtualMachineId | None) -> str:
    """A sentence on which VMs the vault protects databases, if it protects none on the requested VM; else empty."""
    listed = {item.virtual_machine_id for item in protected.usable}
    listed |= {entry.virtual_machine_id for entry in protected.unusable}
    if vm_id is None or vm_id in listed:
        return ""
    return f"The vault protects databases on these VMs: {enumeration(map(str, listed - {None}))}."
