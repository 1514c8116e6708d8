"""The world that handlers act on: what there is, the time, the ids, and how a URL's names are looked up."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from local.simulator.calls import Call
from local.simulator.errors import ServiceError, arm, container_not_found, item_not_found
from local.simulator.estate import (
    AvailabilityGroup,
    Container,
    DeletedVault,
    Policy,
    Principal,
    ProtectedItem,
    RecoveryPoint,
    Vault,
    VirtualMachine,
)
from local.simulator.identifiers import Identifiers, UrlSigner
from local.simulator.naming import VmName, container_key, encoded, encoded_segment, item_key
from local.simulator.operations import Operation
from local.simulator.policies import default_policy, scenario_policy
from local.simulator.scenario import PolicyScenario, Scenario
from local.simulator.service_version import ServiceVersion
from local.simulator.timing import Agenda, Durations, SimulatedTime

POLL_VERSION_OF_CONTAINERS = "2019-05-13-preview"


@dataclass(frozen=True)
class IssuedToken:
    """A token of the token endpoint: when it expires, by the machine's clock, and whose it is."""

    expires: float
    principal: Principal | None = None


class World:
    """Everything there is at the moment. Not thread-safe: the simulator holds one lock around every call."""

    def __init__(self, scenario: Scenario, time: SimulatedTime) -> None:
        self.scenario = scenario
        self.time = time
        self.agenda = Agenda(time.now())
        self.ids = Identifiers(scenario.seed)
        self.signer = UrlSigner(scenario.seed)
        self.sequence = count(1)
        lengths = scenario.durations.model_dump(by_alias=True)
        self.durations = Durations(
            lengths,
            random.Random(f"durations {scenario.seed}"),
            random.Random(f"recorded durations {scenario.seed}"),
        )
        self.machines: dict[str, VirtualMachine] = {}
        self.vaults: dict[str, Vault] = {}
        self.deleted_vaults: list[DeletedVault] = []
        self.vault_operations: dict[str, Operation] = {}
        """The operations that create or delete vaults, by id; they outlive the vault."""
        self.resource_groups: dict[str, str] = {}
        self.groups: list[AvailabilityGroup] = []
        self.principals: dict[str, Principal] = {}
        """By lower-cased client id; empty where any client gets a token."""
        self.tokens: dict[str, IssuedToken] = {}
        self.graph_queries: list[datetime] = []
        """When Resource Graph was last queried."""
        self.compute_operations: dict[str, tuple[datetime, datetime]] = {}
        """When the operations of Microsoft.Compute began and end, by id."""
        self.configuring: set[tuple[str, str, tuple[str, str]]] = set()
        """Items whose protection is being changed: (vault, container, item)."""

    def new_vault(
        self,
        group: str,
        name: str,
        location: str,
        policies: Iterable[str | PolicyScenario] = ("HourlyLogBackup",),
    ) -> Vault:
        """Create a vault with the given SQL policies, and with the VM policy that every vault has."""
        soft_delete = "AlwaysON" if self.service.soft_delete_always_on else "Enabled"
        vault = Vault(group, name, location, self.now, soft_delete, {"name": "RS0", "tier": "Standard"})
        self.vaults[vault.key] = vault
        for entry in policies:
            title, properties = scenario_policy(entry, self.now)
            vault.policies[title.lower()] = Policy(title, properties, next(self.sequence))
        default = Policy("DefaultPolicy", default_policy(self.now), next(self.sequence))
        vault.policies.setdefault("defaultpolicy", default)
        return vault

    @property
    def now(self) -> datetime:
        return self.agenda.now

    @property
    def service(self) -> ServiceVersion:
        """The version of the service that is simulated."""
        return self.scenario.service

    # ---- what a URL names

    def vault(self, call: Call) -> Vault:
        """The vault named in the URL. Raises ServiceError (404) as ARM does."""
        self.check_subscription(call)
        group, name = call.parameters["group"], call.parameters["vault"]
        if group.lower() not in self.resource_groups:
            raise arm(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        vault = self.vaults.get(f"{group}/{name}".lower())
        if vault is None:
            raise arm(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.RecoveryServices/vaults/{name}' under resource group '{group}' was not "
                "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            )
        fabric = call.parameters.get("fabric")
        if fabric is not None and fabric.lower() != "azure":
            raise ServiceError(400, "CloudInvalidInput", "Invalid input error")
        return vault

    def check_subscription(self, call: Call) -> None:
        """Raise ServiceError (404) unless the subscription in the URL is the scenario's."""
        given = call.parameters["subscription"]
        if given.lower() != self.scenario.subscription_id.lower():
            raise arm(404, "SubscriptionNotFound", f"The subscription '{given}' could not be found.")

    def container(self, call: Call, vault: Vault) -> Container:
        """The registered container named in the URL. Raises ServiceError (404)."""
        name = call.parameters["container"]
        container = vault.containers.get(container_key(name) or "")
        if container is None:
            raise container_not_found(name)
        return container

    def item(self, call: Call, vault: Vault) -> ProtectedItem:
        """The protected item named in the URL. Raises ServiceError (404)."""
        container_name = container_key(call.parameters["container"]) or ""
        # An unregistered machine's items stay for as long as their backups do.
        container = vault.containers.get(container_name) or vault.deleted_containers.get(container_name)
        key = item_key(call.parameters["item"])
        item = container.items.get(key) if container is not None and key is not None else None
        if item is None:
            raise item_not_found()
        return item

    def point(self, item: ProtectedItem, name: str) -> RecoveryPoint:
        """The item's recovery point of that name. Raises ServiceError (404)."""
        for point in item.kept(self.now):
            if point.name == name:
                return point
        raise ServiceError(
            404,
            "BMSUserErrorRecoveryPointNotFound",
            f"The recovery point {name} was not found for this item.",
        )

    def machine(self, group: str, name: str) -> VirtualMachine:
        """The virtual machine of that name in that resource group. Raises KeyError."""
        return self.machines[VmName(group, name).key]

    # ---- ids as answers spell them

    def item_path(self, call: Call, item: ProtectedItem) -> str:
        """The protected item's id as answers to this call spell it."""
        container = item.container
        return (
            f"{call.vault_id(container.vault)}/backupFabrics/Azure/protectionContainers/"
            f"{encoded(item.container_name)}/protectedItems/{encoded_segment(item.name)}"
        )

    def canonical_vault_id(self, vault: Vault) -> str:
        """The vault's ARM id, however a request spelt it."""
        return (
            f"/subscriptions/{self.scenario.subscription_id}/resourceGroups/{vault.resource_group}"
            f"/providers/Microsoft.RecoveryServices/vaults/{vault.name}"
        )

    def canonical_item_id(self, item: ProtectedItem) -> str:
        """The protected item's ARM id, however a request spelt it."""
        container = item.container
        return (
            f"{self.canonical_vault_id(container.vault)}/backupFabrics/Azure/protectionContainers/"
            f"{item.container_name}/protectedItems/{item.name}"
        )


def region_of(world: World, call: Call) -> str:
    """The region in the URL. Raises ServiceError (400) where nothing is in that region."""
    region = call.parameters["location"].replace(" ", "").lower()
    vaults = [*world.vaults.values(), *(entry.vault for entry in world.deleted_vaults)]
    known = {world.scenario.location.lower()} | {vault.location.lower() for vault in vaults}
    if region not in known | {machine.location.lower() for machine in world.machines.values()}:
        raise arm(
            400,
            "NoRegisteredProviderFound",
            f"No registered resource provider found for location '{call.parameters['location']}'.",
        )
    return region
