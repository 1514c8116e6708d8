"""Containers: discovery, registration, inquiry and unregistration of virtual machines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

from local.simulator.calls import Answer, Call, Effect
from local.simulator.discovery import forget_groups, inquire_container, register_machine
from local.simulator.errors import ServiceError, container_not_found, invalid_input
from local.simulator.estate import AvailabilityGroup, Container, Inquiry, Vault, VirtualMachine
from local.simulator.filters import matches, parse_filter
from local.simulator.job_errors import machine_down
from local.simulator.job_lifecycle import start_job
from local.simulator.jobs import Job
from local.simulator.naming import GroupName, VmName, container_key, encoded, parse_id
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.paging import paged
from local.simulator.service_version import ServiceVersion
from local.simulator.timing import instant
from local.simulator.world import POLL_VERSION_OF_CONTAINERS, World

_CONTAINER_FIELDS = frozenset(
    {"backupmanagementtype", "containertype", "backupenginename", "fabricname", "status", "friendlyname"}
)
FABRIC = "Microsoft.RecoveryServices/vaults/backupFabrics"


def not_running(machine: VirtualMachine) -> ServiceError:
    """The machine is shut down."""
    error = machine_down(machine)
    return ServiceError(400, error.title, error.message)


def container_id(call: Call, vault: Vault, source: VirtualMachine | AvailabilityGroup) -> str:
    return encoded(_container_path(call, vault, source))


def _container_path(call: Call, vault: Vault, source: VirtualMachine | AvailabilityGroup) -> str:
    return f"{call.vault_path(vault)}/backupFabrics/Azure/protectionContainers/{source.name.container}"


def _effect(world: World, vault: Vault, source: VirtualMachine | AvailabilityGroup) -> Effect:
    return Effect(
        f"{world.canonical_vault_id(vault)}/backupFabrics/Azure/protectionContainers/{source.name.container}"
    )


def _kind(container: Container) -> str:
    return "VMAppContainer" if container.group is None else "SQLAGWorkLoadContainer"


def render_nodes(world: World, vault: Vault, group: AvailabilityGroup) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    for node in group.nodes:
        registered = node.registered_with is vault
        entry: dict[str, Any] = {
            "nodeName": node.server_name,
            "status": "Succeeded" if registered else "Failed",
        }
        if registered:
            entry["sourceResourceId"] = node.name.vm_id(world.scenario.subscription_id)
        else:
            entry["errorDetail"] = {
                "code": "FabricSvcNodeNotRegistered",
                "message": f"The node {node.server_name} is not registered with this vault.",
                "recommendations": ["Register the virtual machine of the node."],
            }
        nodes.append(entry)
    return nodes


def _render_inquiry(service: ServiceVersion, inquiry: Inquiry) -> dict[str, Any]:
    validation: dict[str, Any] = {
        "status": inquiry.validation_status,
        "errorDetail": {
            "code": inquiry.validation_code,
            "message": inquiry.validation_message,
            "recommendations": [""],
        },
        "additionalDetail": "",
    }
    if service.protectable_item_count:
        validation["protectableItemCount"] = {
            "SQLInstance": len(inquiry.found),
            "SQLDataBase": inquiry.databases(),
        }
    return {
        "status": "Success",
        "errorDetail": {"code": "Success", "message": "", "recommendations": [""]},
        "inquiryDetails": [
            {"type": "SQL", "itemCount": inquiry.databases(), "inquiryValidation": validation}
        ],
    }


def _render_container(
    world: World, call: Call, container: Container, *, typed: bool = True, status: str = "Registered"
) -> dict[str, Any]:
    source = container.source
    body: dict[str, Any] = {
        "id": container_id(call, container.vault, source),
        "name": source.name.container,
    }
    if typed:
        body["type"] = f"{FABRIC}/protectionContainers"
    properties: dict[str, Any] = {}
    extended: dict[str, Any] = {
        "hostServerName": container.server_name,
        "inquiryInfo": _render_inquiry(world.service, container.inquiry),
    }
    if isinstance(source, AvailabilityGroup):
        extended["nodesList"] = render_nodes(world, container.vault, source)
    else:
        properties["sourceResourceId"] = source.name.vm_id(world.scenario.subscription_id)
    body["properties"] = {
        **properties,
        "lastUpdatedTime": instant(container.updated),
        "extendedInfo": extended,
        "friendlyName": source.name.name,
        "backupManagementType": "AzureWorkload",
        "registrationStatus": status,
        "healthStatus": "Deleted" if isinstance(source, VirtualMachine) and source.deleted else "Healthy",
        "containerType": _kind(container),
        "protectableObjectType": _kind(container),
    }
    return body


def refresh(world: World, call: Call) -> Answer:
    """POST refreshContainers: discover the virtual machines of the vault's region. Ends with 204."""
    vault = world.vault(call)
    wanted = parse_filter(call.filter, frozenset({"backupmanagementtype"}))
    if "backupmanagementtype" not in wanted:
        wanted = {"backupmanagementtype": "AzureIaasVM"}

    def discover() -> None:
        if not matches("AzureWorkload", wanted["backupmanagementtype"]):
            return
        vault.discovered = {
            machine.name.key
            for machine in world.machines.values()
            if machine.location.lower() == vault.location.lower()
        }

    fabric = f"{call.vault_path(vault)}/backupFabrics/Azure"
    operation = start_operation(
        world,
        call,
        vault,
        fabric,
        status_version=POLL_VERSION_OF_CONTAINERS,
        length=world.durations.draw("refresh"),
        complete=discover,
    )
    return accepted_answer(world, call, operation, Effect(world.canonical_vault_id(vault)))


Source = TypeVar("Source", VirtualMachine, AvailabilityGroup)


def _by_name(sources: Iterable[Source]) -> list[Source]:
    """Sorted as in recorded lists: by name, whatever its case."""
    return sorted(sources, key=lambda source: source.name.container.lower())


def list_protectable_containers(world: World, call: Call) -> Answer:
    """GET the machines that were discovered and are registered with no vault."""
    vault = world.vault(call)
    wanted = parse_filter(call.filter, frozenset({"backupmanagementtype", "status", "containertype"}))
    machines = [
        (index, machine)
        for index, machine in enumerate(_by_name(world.machines.values()))
        if machine.name.key in vault.discovered
        and machine.registered_with is None
        and not machine.deleted
        and matches("AzureWorkload", wanted.get("backupmanagementtype"))
    ]

    def render(entry: tuple[int, VirtualMachine]) -> dict[str, Any]:
        machine = entry[1]
        return {
            "id": (
                f"{call.vault_id(vault)}/backupFabrics/Azure/protectableContainers/"
                f"{encoded(machine.name.container)}"
            ),
            "name": machine.name.container,
            "type": f"{FABRIC}/protectableContainers",
            "properties": {
                "friendlyName": machine.name.name,
                "backupManagementType": "AzureWorkload",
                "protectableContainerType": "VMAppContainer",
                "healthStatus": "Healthy",
                "containerId": machine.name.vm_id(world.scenario.subscription_id),
            },
        }

    return paged(world, call, machines, lambda entry: entry[0], render)


def list_containers(world: World, call: Call) -> Answer:
    """GET the vault's registered containers; those of availability groups only where the filter names their type."""
    return _list_containers(world, call, deleted=False)


def list_deleted_containers(world: World, call: Call) -> Answer:
    """GET the containers that were unregistered while their items are only soft-deleted."""
    return _list_containers(world, call, deleted=True)


def _list_containers(world: World, call: Call, *, deleted: bool) -> Answer:
    vault = world.vault(call)
    wanted = parse_filter(call.filter, _CONTAINER_FIELDS)
    status = "SoftDeleted" if deleted else "Registered"
    found = [
        container
        for container in (vault.deleted_containers if deleted else vault.containers).values()
        if matches("AzureWorkload", wanted.get("backupmanagementtype"))
        and matches(_kind(container), wanted.get("containertype", "VMAppContainer"))
        and matches("Azure", wanted.get("fabricname"))
        and matches(status, wanted.get("status"))
        and matches(container.name.name, wanted.get("friendlyname"))
        and "backupenginename" not in wanted
    ]
    names: list[VmName | GroupName] = [machine.name for machine in _by_name(world.machines.values())]
    names += [group.name for group in _by_name(world.groups)]
    places = {name.key: index for index, name in enumerate(names)}
    found.sort(key=lambda container: places[container.name.key])
    return paged(
        world,
        call,
        found,
        lambda container: places[container.name.key],
        lambda container: _render_container(world, call, container, status=status),
    )


def get_container(world: World, call: Call) -> Answer:
    """GET a registered container."""
    vault = world.vault(call)
    return Answer(200, _render_container(world, call, world.container(call, vault)))


def _machine_to_register(
    world: World, call: Call, vault: Vault, properties: dict[str, Any]
) -> VirtualMachine:
    name = call.parameters["container"]
    key = container_key(name)
    if key is None:
        raise ServiceError(
            400, "BMSUserErrorContainerNameIncorrectFormat", "Container name is not in the correct format."
        )
    machine = world.machines.get(key)
    if machine is None:
        raise container_not_found(name)
    source = parse_id(properties.get("sourceResourceId"))
    by_machine = source is not None and source.kind == "virtualmachines" and not source.rest
    source_key = None
    if source is not None and by_machine:
        source_key = f"{source.resource_group};{source.name}"
    elif source is not None and source.rest[-2:-1] == ("protectablecontainers",):
        source_key = container_key(source.rest[-1])
    if source_key != key:
        raise invalid_input("Parameter sourceResourceId in request is invalid.")
    for field, accepted in (
        ("containerType", ("vmappcontainer",)),
        ("backupManagementType", ("azureworkload",)),
        ("workloadType", ("sqldatabase", "sql", None)),
    ):
        value = properties.get(field)
        if (value.lower() if isinstance(value, str) else value) not in accepted:
            raise invalid_input(f"Parameter {field} in request is invalid.")
    if machine.location.lower() != vault.location.lower():
        raise invalid_input("The virtual machine and the vault must be in the same region.")
    other = machine.registered_with or machine.registering
    if other is not None and other is not vault:
        raise ServiceError(
            400,
            "UserErrorVMAlreadyRegisteredToAnotherVault",
            f"The virtual machine {machine.name.name} is already registered to another vault.",
        )
    return machine


def register(world: World, call: Call) -> Answer:
    """PUT a container: register the machine, register it again, or bring back one that was soft-deleted."""
    vault = world.vault(call)
    properties = call.properties()
    kind = properties.get("operationType", "Register")
    if kind not in ("Register", "Reregister", "Rehydrate", "Invalid", None):
        raise invalid_input("Parameter operationType in request is invalid.")
    machine = _machine_to_register(world, call, vault, properties)
    if kind == "Reregister" and machine.name.key not in vault.containers:
        raise container_not_found(call.parameters["container"])
    machine.registering = vault
    length = world.durations.draw("register")

    def complete() -> None:
        if not machine.running:
            machine.registering = None
            raise not_running(machine)
        if machine.registered_with not in (None, vault):
            raise invalid_input("The virtual machine was registered to another vault meanwhile.")
        register_machine(world, vault, machine)

    _start_job(world, call, vault, machine, operation="Register", length=length)
    path = _container_path(call, vault, machine)
    operation = start_operation(
        world,
        call,
        vault,
        path,
        status_version=POLL_VERSION_OF_CONTAINERS,
        length=length,
        complete=complete,
        body_while_running=True,
        full_id=True,
        result=lambda: _result(world, call, vault, machine),
    )
    return accepted_answer(world, call, operation, _effect(world, vault, machine))


def _start_job(
    world: World, call: Call, vault: Vault, machine: VirtualMachine, *, operation: str, length: timedelta
) -> None:
    """Start the job of a registration or unregistration: it is listed, but no answer names it."""

    def complete(_: Job) -> None:
        if operation == "Register" and not machine.running:
            raise machine_down(machine)

    start_job(
        world, call, vault, operation, entity=machine.name.name, item=None, length=length, complete=complete
    )


def _result(
    world: World, call: Call, vault: Vault, source: VirtualMachine | AvailabilityGroup
) -> dict[str, Any] | None:
    container = vault.containers.get(source.name.key)
    return None if container is None else _render_container(world, call, container, typed=False)


def unregister(world: World, call: Call) -> Answer:
    """DELETE a container, whose items must have been deleted; 204 when there is none."""
    vault = world.vault(call)
    container = vault.containers.get(container_key(call.parameters["container"]) or "")
    if container is None:
        return Answer(204)
    if container.group is not None:
        raise invalid_input("The container of an availability group goes with its nodes; unregister those.")
    machine = container.machine
    _refuse_with_items(world, container)
    vault.intents = {
        name: intent for name, intent in vault.intents.items() if intent.container is not container
    }

    def complete() -> None:
        if vault.containers.get(machine.name.key) is not container:
            return
        _refuse_with_items(world, container)
        del vault.containers[machine.name.key]
        if container.items:
            vault.deleted_containers[machine.name.key] = container
        machine.registered_with = None
        vault.discovered.add(machine.name.key)
        forget_groups(vault)

    path = call.vault_path(vault)
    length = world.durations.draw("register", factor=0.5)
    _start_job(world, call, vault, machine, operation="UnRegister", length=length)
    operation = start_operation(
        world,
        call,
        vault,
        path,
        status="backupFabrics/Azure/operationsStatus",
        results="backupOperationResults",
        status_version=POLL_VERSION_OF_CONTAINERS,
        length=length,
        complete=complete,
        malformed_location=True,
    )
    return accepted_answer(world, call, operation, _effect(world, vault, machine))


def _refuse_with_items(world: World, container: Container) -> None:
    machine = container.machine
    stopped_too = not world.service.unregistration_of_stopped

    def holds(other: Container) -> bool:
        return any(
            not item.soft_deleted and (stopped_too or not item.stopped) for item in other.items.values()
        )

    for other in container.vault.containers.values():
        if other.group is not None and any(node is machine for node in other.group.nodes) and holds(other):
            raise ServiceError(
                400,
                "BMSUserErrorNodePartOfActiveAG",
                f"The server is a node of the availability group {other.group.name.name}, which has databases under "
                "protection. Stop their protection to proceed with unregistration.",
            )
    if holds(container):
        raise ServiceError(
            400,
            "BMSUserErrorContainerHasDatasources",
            "There are backup items associated with the server. Stop protection and delete backups for each of the "
            "backup items to proceed with unregistration.",
        )


def inquire(world: World, call: Call) -> Answer:
    """POST inquire: find out which databases the machine has. Ends with 200 and the container."""
    vault = world.vault(call)
    container = world.container(call, vault)
    parse_filter(call.filter, frozenset({"backupmanagementtype", "workloadtype"}))
    machine, source = container.machine, container.source

    def complete() -> None:
        if not machine.running:
            raise not_running(machine)
        if vault.containers.get(source.name.key) is container:
            inquire_container(world, container)

    path = _container_path(call, vault, source)
    operation = start_operation(
        world,
        call,
        vault,
        path,
        status_version=POLL_VERSION_OF_CONTAINERS,
        length=world.durations.draw("inquire"),
        complete=complete,
        full_id=True,
        result=lambda: _result(world, call, vault, source),
    )
    return accepted_answer(world, call, operation, _effect(world, vault, source))
