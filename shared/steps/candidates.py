"""The databases that a request can mean: one candidate for each database of the vault's listings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from shared.arm.ids import ContainerId, VirtualMachineId
from shared.azure_backup.listings import Listing, Unusable
from shared.engine.result import Failure
from shared.messages.identity import Database
from shared.messages.requests import SYSTEM_DATABASES
from shared.names import name_key, same_name

if TYPE_CHECKING:
    from shared.azure_backup.models import Container, ProtectableItem, ProtectedItem

#: A listing without entries.
NOTHING: Final[Listing[Any]] = Listing([], [])


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One database of the estate, protected or not."""

    database: Database
    protected: ProtectedItem | None = None
    protectable: ProtectableItem | None = None
    #: why this app cannot use it, though it is listed
    unusable: Unusable | None = None

    @property
    def server_name(self) -> str:
        """The host's name as it appears in jobs."""
        if self.protected is not None:
            return self.protected.server_name
        return self.protectable.server_name if self.protectable is not None else ""

    @property
    def is_system(self) -> bool:
        """Whether it is one of SQL Server's own databases."""
        return name_key(self.database.name) in SYSTEM_DATABASES

    @property
    def in_availability_group(self) -> bool:
        """Whether it is in an availability group, and so on no one VM."""
        return self.database.availability_group is not None

    @property
    def cannot(self) -> Failure | None:
        """Why this app can do nothing with it."""
        if self.unusable is None:
            return None
        return Failure(self.unusable.code, f"{self.database} {self.unusable.why}.")


def is_protected(item: ProtectedItem) -> bool:
    """Whether backups of a database go on: it is neither soft-deleted nor stopped."""
    stopped = item.protection_state.lower() in ("protectionstopped", "backupssuspended")
    return not item.is_scheduled_for_deferred_delete and not stopped


def registered_container(
    registered: Listing[Container], vm_id: VirtualMachineId
) -> Container | Failure | None:
    """The VM's container; None where it is not registered, a Failure where this app cannot use its container."""
    for container in registered.usable:
        if container.virtual_machine_id == vm_id:
            return container
    for entry in registered.unusable:
        names_vm = entry.virtual_machine_id is not None or entry.container is not None
        if names_vm and _may_be_on(vm_id, entry.virtual_machine_id, container=entry.container):
            return Failure(
                entry.code,
                f"the virtual machine {vm_id} is registered as {entry.shown}, which {entry.why}.",
            )
    return None


def candidates(
    protected: Listing[ProtectedItem],
    protectable: Listing[ProtectableItem] = NOTHING,
    *,
    vm_id: VirtualMachineId | None,
    container: ContainerId | None = None,
) -> list[Candidate]:
    """The databases of a VM (or of the whole vault), each once; a protected one is not protectable too.

    A protectable database of an instance counts only with its `container`, which tells its VM; one of an availability
    group always counts. Databases that this app cannot use are included.
    """
    collected = _Collected(vm_id, container)
    for item in protected.usable:
        collected.add_protected(item)
    for entry in protected.unusable:
        collected.add_unusable_protected(entry)
    for offered in protectable.usable:
        collected.add_protectable(offered)
    for entry in protectable.unusable:
        collected.add_unusable_protectable(entry)
    return collected.candidates()


class _Collected:
    """The databases of the entries that were added so far, each once."""

    def __init__(self, vm_id: VirtualMachineId | None, container: ContainerId | None) -> None:
        self._vm_id = vm_id
        self._container = container
        # Names that differ only in case may be two databases: that depends on the instance's collation.
        self._candidates: dict[tuple[str, str], Candidate] = {}
        #: instances that are protected as a whole
        self._whole_instances: dict[tuple[str, str], Unusable] = {}

    def add_protected(self, item: ProtectedItem) -> None:
        on_vm = _may_be_on(self._vm_id, item.virtual_machine_id, container=item.id.container)
        if not item.in_availability_group and not on_vm:
            return
        # As the request spells the VM: the service writes parts of the id in lower case.
        database = _database(item, self._vm_id or item.virtual_machine_id)
        known = self._known(database)
        # A database that was deleted and protected again is listed twice: the live item counts.
        if known is None or _is_soft_deleted(known):
            self._add(Candidate(database=database, protected=item))

    def add_unusable_protected(self, entry: Unusable) -> None:
        on_vm = _may_be_on(self._vm_id, entry.virtual_machine_id, container=entry.container)
        if not entry.in_availability_group and not on_vm:
            return
        database = _unusable_database(entry, self._vm_id or entry.virtual_machine_id)
        if entry.is_whole_instance:
            self._whole_instances[_place(database)] = entry
        elif self._known(database) is None:
            self._add(Candidate(database=database, unusable=entry))

    def add_protectable(self, offered: ProtectableItem) -> None:
        if not offered.is_database:
            return
        if not offered.in_availability_group and offered.container != self._container:
            return
        database = _database(offered, self._vm_id)
        known = self._known(database)
        if known is None:
            self._add(Candidate(database=database, protectable=offered))
        elif _is_soft_deleted(known):
            self._add(replace(known, protectable=offered))

    def add_unusable_protectable(self, entry: Unusable) -> None:
        elsewhere = entry.container is not None and entry.container != self._container
        if not entry.is_database or (elsewhere and not entry.in_availability_group):
            return
        database = _unusable_database(entry, self._vm_id)
        if self._known(database) is None:
            self._add(Candidate(database=database, unusable=entry))

    def candidates(self) -> list[Candidate]:
        """All candidates; a database that is not protected on its own is protected with its instance, or will be."""
        listed = [self._with_its_instance(candidate) for candidate in self._candidates.values()]
        places = {_place(candidate.database) for candidate in listed}
        return listed + [
            Candidate(
                database=_unusable_database(entry, self._vm_id or entry.virtual_machine_id), unusable=entry
            )
            for place, entry in self._whole_instances.items()
            if place not in places
        ]

    def _with_its_instance(self, candidate: Candidate) -> Candidate:
        whole = self._whole_instances.get(_place(candidate.database))
        if whole is None or candidate.protected is not None or candidate.unusable is not None:
            return candidate
        return replace(candidate, protectable=None, unusable=whole)

    def _known(self, database: Database) -> Candidate | None:
        return self._candidates.get((database.key, database.name))

    def _add(self, candidate: Candidate) -> None:
        self._candidates[candidate.database.key, candidate.database.name] = candidate


def _database(item: ProtectedItem | ProtectableItem, vm_id: VirtualMachineId | None) -> Database:
    return Database.inside(item.instance, item.name, group=item.in_availability_group, vm_id=vm_id)


def _unusable_database(entry: Unusable, vm_id: VirtualMachineId | None) -> Database:
    return Database.inside(entry.parent, entry.name, group=entry.in_availability_group, vm_id=vm_id)


def _is_soft_deleted(candidate: Candidate) -> bool:
    return candidate.protected is not None and candidate.protected.is_scheduled_for_deferred_delete


def _may_be_on(
    vm_id: VirtualMachineId | None, listed: VirtualMachineId | None, *, container: ContainerId | None
) -> bool:
    """Whether an entry that is `listed` with that VM and container may be on the VM; None: on any VM.

    The container's name decides where the VM is missing or no VM's id; where neither tells, any VM is possible.
    """
    if vm_id is None:
        return True
    if listed is not None or container is None:
        return listed is None or listed == vm_id
    group, _, name = container.name.rpartition(";")
    return same_name(name, vm_id.name) and same_name(group.rpartition(";")[2], vm_id.resource_group)


def _place(database: Database) -> tuple[str, str]:
    """Identifies an instance or availability group."""
    vm = database.vm_id.key if database.vm_id is not None else ""
    return vm, name_key(database.parent)
