"""The scenario as a whole, and the file that it is read from."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from local.simulator.faults import Fault
from local.simulator.scenario.access import RoleAssignmentScenario, ServicePrincipalScenario
from local.simulator.scenario.app_resources import FunctionAppScenario, NamespaceScenario
from local.simulator.scenario.machines import (
    AvailabilityGroupScenario,
    DatabaseScenario,
    InstanceScenario,
    VirtualMachineScenario,
)
from local.simulator.scenario.parts import Moment, Part, no_duplicates
from local.simulator.scenario.service import DurationsScenario, ThrottlingScenario
from local.simulator.scenario.timeline import (
    DatabaseAppears,
    DatabaseIsRenamed,
    MachineStarts,
    MachineStops,
    ScheduledFailureScenario,
    TimelineEvent,
)
from local.simulator.scenario.vaults import VaultScenario
from local.simulator.service_version import DEFAULT, OLDEST, ServiceVersion

_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class ScenarioError(ValueError):
    """A scenario that cannot be used; the message is one sentence that says what is wrong, and where."""


def _default_databases() -> tuple[DatabaseScenario, ...]:
    return tuple(DatabaseScenario(name=name) for name in ("master", "model", "msdb", "orders", "billing"))


def _default_machines() -> tuple[VirtualMachineScenario, ...]:
    return tuple(
        VirtualMachineScenario(name=name, instances=(InstanceScenario(databases=_default_databases()),))
        for name in ("sqlvm1", "sqlvm2")
    )


class Scenario(Part):
    """Everything the simulator starts with. Every part is optional; an unknown key is an error."""

    subscription_id: str = "00000000-0000-0000-0000-000000000001"
    tenant_id: str = "00000000-0000-0000-0000-0000000000aa"
    location: str = "westeurope"
    service_version: str = Field(DEFAULT, pattern=r"^20\d\d-(0[1-9]|1[0-2])$")
    start_time: Moment = datetime(2026, 1, 5, 8, tzinfo=UTC)
    seed: int = 1
    retry_after: int = Field(60, ge=0)
    page_size: int = Field(200, ge=1)
    echo_activity_id: bool = True
    scheduled_backups: bool = True
    scheduled_failures: tuple[ScheduledFailureScenario, ...] = ()
    timeline: tuple[TimelineEvent, ...] = ()
    vaults: tuple[VaultScenario, ...] = (VaultScenario(),)
    virtual_machines: tuple[VirtualMachineScenario, ...] = Field(default_factory=_default_machines)
    availability_groups: tuple[AvailabilityGroupScenario, ...] = ()
    service_principals: tuple[ServicePrincipalScenario, ...] = ()
    role_assignments: tuple[RoleAssignmentScenario, ...] | None = None
    service_bus_namespaces: tuple[NamespaceScenario, ...] = ()
    function_apps: tuple[FunctionAppScenario, ...] = ()
    durations: DurationsScenario = DurationsScenario()
    throttling: ThrottlingScenario = ThrottlingScenario()
    faults: tuple[Fault, ...] = ()

    @field_validator("subscription_id", "tenant_id")
    @classmethod
    def _guid(cls, value: str) -> str:
        if not _GUID.fullmatch(value):
            raise ValueError("it must be a GUID")
        return value

    @field_validator("service_version")
    @classmethod
    def _recorded(cls, value: str) -> str:
        if value < OLDEST:
            raise ValueError(f"the service is known from {OLDEST} on")
        return value

    @property
    def service(self) -> ServiceVersion:
        """The version of the service that is simulated."""
        return ServiceVersion(self.service_version)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        no_duplicates([f"{vault.resource_group}/{vault.name}" for vault in self.vaults], "vaults")
        no_duplicates([f"{vm.resource_group}/{vm.name}" for vm in self.virtual_machines], "virtual machines")
        policies = {vault.name.lower(): vault.policy_names() for vault in self.vaults}
        for machine in self.virtual_machines:
            if machine.registered_to is None:
                continue
            known = policies.get(machine.registered_to.lower())
            if known is None:
                raise ValueError(
                    f"{machine.name} is registeredTo {machine.registered_to}, which is not among the vaults"
                )
            for what, key, policy in machine.policies_named():
                if policy.lower() not in known:
                    raise ValueError(
                        f"{what} of {machine.name} is {key} {policy}, which vault {machine.registered_to} does not "
                        "have"
                    )
        no_duplicates([group.name for group in self.availability_groups], "availability groups")
        no_duplicates([principal.client_id for principal in self.service_principals], "service principals")
        for group in self.availability_groups:
            self._check_group(group, policies)
        self._check_timeline()
        return self

    def _check_timeline(self) -> None:
        """Raise ValueError unless every event is possible at its moment."""
        there = {
            (machine.name.lower(), instance.name.lower()): {
                entry.name.lower() for entry in instance.databases
            }
            for machine in self.virtual_machines
            for instance in machine.instances
        }
        for event in sorted(self.timeline, key=lambda event: event.at):
            machine = self.machine_named(event.virtual_machine)
            if event.at < self.start_time:
                raise ValueError(f"{event.event} of {machine.name} happens before startTime")
            if isinstance(event, MachineStops | MachineStarts):
                continue
            names = there.get((machine.name.lower(), event.instance.lower()))
            if names is None:
                raise ValueError(f"{event.event}: {machine.name} has no instance {event.instance}")
            if isinstance(event, DatabaseAppears):
                gone, new = "", event.database.name
            else:
                gone = event.database
                new = event.to if isinstance(event, DatabaseIsRenamed) else ""
            place = f"instance {event.instance} of {machine.name}"
            if gone:
                if gone.lower() not in names:
                    raise ValueError(f"{event.event}: {place} has no database {gone} then")
                names.discard(gone.lower())
            if new:
                if new.lower() in names:
                    raise ValueError(f"{event.event}: {place} has a database {new} already")
                names.add(new.lower())

    def machine_named(self, name: str) -> VirtualMachineScenario:
        """The virtual machine of that name. Raises ValueError unless there is exactly one."""
        found = [machine for machine in self.virtual_machines if machine.name.lower() == name.lower()]
        if len(found) != 1:
            raise ValueError(f"there are {len(found)} virtual machines {name}, and there must be one")
        return found[0]

    def _check_group(self, group: AvailabilityGroupScenario, policies: dict[str, set[str]]) -> None:
        own = {database.name.lower() for database in group.databases}
        for other in self.availability_groups:
            shared = {name.lower() for name in other.virtual_machines} & {
                name.lower() for name in group.virtual_machines
            }
            if other is not group and shared and other.instance.lower() == group.instance.lower():
                twice = own & {database.name.lower() for database in other.databases}
                if twice:
                    raise ValueError(
                        f"availability groups {group.name} and {other.name} both have a database {min(twice)}"
                    )
        for name in group.virtual_machines:
            machine = self.machine_named(name)
            instance = next(
                (entry for entry in machine.instances if entry.name.lower() == group.instance.lower()), None
            )
            if instance is None:
                raise ValueError(
                    f"{name} has no instance {group.instance} for availability group {group.name}"
                )
            twice = own & {database.name.lower() for database in instance.databases}
            if twice:
                raise ValueError(
                    f"database {min(twice)} is in availability group {group.name} and on instance "
                    f"{group.instance} of {name}; name it in the group only"
                )
        vault = self.machine_named(group.primary_machine).registered_to
        for database in group.databases:
            if database.protected_by is None:
                continue
            if vault is None or group.basic:
                why = "is basic" if group.basic else "has a primary without registeredTo"
                raise ValueError(
                    f"database {database.name} has protectedBy, but availability group {group.name} {why}"
                )
            if database.protected_by.lower() not in policies.get(vault.lower(), set()):
                raise ValueError(
                    f"database {database.name} of availability group {group.name} is protectedBy "
                    f"{database.protected_by}, which vault {vault} does not have"
                )

    @classmethod
    def load(cls, path: Path | str) -> Scenario:
        """The scenario in a JSON file. Raises ScenarioError; its message is one sentence."""
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ScenarioError(f"The scenario file {path} cannot be read: {error.strerror}.") from error
        try:
            data = json.loads(text)
        except UnicodeDecodeError as error:
            raise ScenarioError(f"The scenario file {path} cannot be read: it is not UTF-8 text.") from error
        except ValueError as error:
            raise ScenarioError(f"The scenario file {path} is not JSON: {error}.") from error
        except RecursionError as error:
            raise ScenarioError(
                f"The scenario file {path} cannot be used: it is nested too deeply."
            ) from error
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = "; ".join(_problem(problem) for problem in error.errors(include_url=False))
            raise ScenarioError(f"The scenario file {path} cannot be used: {problems}.") from error


def _problem(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "this key is not known"
    elif error["type"] == "model_type" or error["type"] == "model_attributes_type":
        message = "expected a JSON object"
    return f"{where}: {message}" if where else message
