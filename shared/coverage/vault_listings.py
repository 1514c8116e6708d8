"""A vault's listings: what they hold, and how they are read in as few calls as possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from shared.arm.ids import ContainerId, ProtectedItemId, VaultId, VirtualMachineId
from shared.azure_backup.listings import Listing
from shared.azure_backup.models import Container, Job, Policy, ProtectableItem, ProtectedItem
from shared.coverage.states import group_key

if TYPE_CHECKING:
    from shared.azure_backup.calls import Reads

_NOTHING: Final[Listing[Any]] = Listing([], [])


@dataclass(frozen=True, kw_only=True)
class VaultListings:
    """A vault's listings, and the items that were read one by one."""

    vault_id: VaultId
    protected: Listing[ProtectedItem]
    protectable: Listing[ProtectableItem]
    containers: Listing[Container]
    policies: Sequence[Policy]
    #: the newest jobs, as far back as they were listed
    jobs: Sequence[Job] = ()
    #: protected items that were read one by one, with their recovery model and newest restorable moment
    read: Mapping[ProtectedItemId, ProtectedItem] = field(default_factory=dict)

    @cached_property
    def machines(self) -> Mapping[ContainerId, VirtualMachineId]:
        """The VMs that are registered, by their containers."""
        return {
            container.id: container.virtual_machine_id
            for container in self.containers.usable
            if container.virtual_machine_id is not None
        }

    def place_key(self, item: ProtectableItem) -> str:
        """As `DatabaseCoverage.place_key`, for a database, an instance or an availability group that is listed."""
        if item.is_availability_group:
            return group_key(item.name)
        if item.is_database and item.in_availability_group:
            return group_key(item.instance)
        machine = self.machines.get(item.container)
        return machine.key if machine is not None else ""


def read_listings(azure: Reads, vault_id: VaultId) -> VaultListings:
    """Read a vault's containers and protected items and, if there are any, its protectable items and policies.

    Raises what `azure` raises.
    """
    containers = azure.list_registered_containers(vault_id)
    protected = azure.list_protected_items(vault_id)
    known = any((*containers, *protected))
    return VaultListings(
        vault_id=vault_id,
        protected=protected,
        protectable=azure.list_protectable_items(vault_id) if known else _NOTHING,
        containers=containers,
        policies=azure.list_policies(vault_id) if known else (),
    )
