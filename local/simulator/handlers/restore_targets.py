"""Where a restore goes, and what prevents it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local.simulator.errors import JobError, ServiceError, invalid_input
from local.simulator.estate import Container, Database, Instance, ProtectedItem, Vault, VirtualMachine
from local.simulator.job_errors import machine_down
from local.simulator.naming import container_key, parse_id
from local.simulator.world import World


@dataclass
class Target:
    """The target of a restore. Without `instance` and `database` it is a restore as files."""

    container: Container
    instance: Instance | None
    database: str
    overwrite: bool
    files: list[tuple[str, str, str]]
    destination: str
    kind: str


def invalid(message: str) -> ServiceError:
    return ServiceError(400, "UserErrorOperationFailedInvalidParameters", message)


def find_target(
    world: World,
    vault: Vault,
    item: ProtectedItem,
    properties: dict[str, Any],
    files: list[tuple[str, str, str]],
) -> Target:
    recovery = properties.get("recoveryType")
    source = properties.get("sourceResourceId")
    group = item.container.group
    machines = group.nodes if group is not None else [item.container.machine]
    own_ids = {machine.name.vm_id(world.scenario.subscription_id).lower() for machine in machines}
    if source is not None and str(source).lower() not in own_ids:
        raise invalid("Parameter sourceResourceId in request is not the virtual machine of the item.")
    if recovery == "OriginalLocation":
        return _original_target(item, files)
    if recovery != "AlternateLocation":
        raise invalid_input("Parameter recoveryType in request is invalid.")
    return _alternate_target(world, vault, properties, files)


def _original_target(item: ProtectedItem, files: list[tuple[str, str, str]]) -> Target:
    container = item.container
    if container.group is not None:
        raise invalid(
            "SQL Availability Groups do not support restoring a database directly into an Availability Group. "
            "Restore the database to a standalone SQL instance and join it to the Availability Group."
        )
    instance = container.machine.instances.get(item.instance.lower())
    destination = f"{container.machine.server_name}/{item.instance}/{item.database}"
    kind = "Recovery to the original database"
    return Target(container, instance, item.database, True, files, destination, kind)


def _alternate_target(
    world: World, vault: Vault, properties: dict[str, Any], files: list[tuple[str, str, str]]
) -> Target:
    info = properties.get("targetInfo")
    if not isinstance(info, dict):
        raise invalid("Parameter targetInfo in request is missing.")
    if info.get("overwriteOption", "FailOnConflict") not in ("Overwrite", "FailOnConflict", "Invalid"):
        raise invalid_input("Parameter overwriteOption in request is invalid.")
    overwrite = info.get("overwriteOption") == "Overwrite"
    container = _target_container(vault, info.get("containerId"))
    machine_id = properties.get("targetVirtualMachineId")
    target_id = container.machine.name.vm_id(world.scenario.subscription_id)
    if machine_id is not None and str(machine_id).lower() != target_id.lower():
        raise invalid(
            "Parameter targetVirtualMachineId in request is not the machine of the target container."
        )
    if properties.get("recoveryMode") == "FileRecovery":
        directory = info.get("targetDirectoryForFileRestore")
        if not isinstance(directory, str) or not directory:
            raise invalid("Parameter targetDirectoryForFileRestore in request is missing.")
        return Target(container, None, "", overwrite, [], directory, "Restore as files")
    instance_name, _, database = str(info.get("databaseName") or "").partition("/")
    instance = container.machine.instances.get(instance_name.lower())
    if not database or instance is None:
        raise invalid(
            "Parameter databaseName in request is not of the form INSTANCE/Database of the target machine."
        )
    mapped = _mapped_files(properties.get("alternateDirectoryPaths"), files, instance, database)
    destination = f"{container.machine.server_name}/{instance.name}/{database}"
    return Target(
        container, instance, database, overwrite, mapped, destination, "Recovery to an alternate database"
    )


def _target_container(vault: Vault, value: object) -> Container:
    parsed = parse_id(value)
    if parsed is None or parsed.rest[-2:-1] != ("protectioncontainers",):
        raise invalid("Parameter containerId in request is not the id of a protection container.")
    if f"{parsed.resource_group}/{parsed.name}" != vault.key:
        raise invalid("Parameter containerId in request belongs to another vault.")
    container = vault.containers.get(container_key(parsed.rest[-1]) or "")
    if container is None:
        raise invalid(
            "Parameter containerId in request names a container that is not registered with the vault."
        )
    if container.group is not None:
        raise invalid(
            "Parameter containerId in request names an Availability Group; a database is restored to a standalone "
            "SQL instance and joined to the Availability Group."
        )
    return container


def _mapped_files(
    value: object, files: list[tuple[str, str, str]], instance: Instance, database: str
) -> list[tuple[str, str, str]]:
    if value is None or value == []:
        mapped = []
        for kind, logical, path in files:
            directory = instance.data_directory if kind == "Data" else instance.log_directory
            extension = path.rsplit(".", 1)[-1]
            mapped.append((kind, logical, f"{directory}{database}_{logical}.{extension}"))
        return mapped
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise invalid_input("Parameter alternateDirectoryPaths in request is invalid.")
    targets: dict[str, str] = {}
    for entry in value:
        kind, logical, path = (
            entry.get("mappingType"),
            entry.get("sourceLogicalName"),
            entry.get("targetPath"),
        )
        if (
            kind not in ("Data", "Log")
            or not isinstance(path, str)
            or not path
            or not isinstance(logical, str)
        ):
            raise invalid_input("Parameter alternateDirectoryPaths in request is invalid.")
        if (kind, logical) not in {(known, name) for known, name, _ in files} or logical in targets:
            raise invalid(f"The database has no {kind} file {logical}, or it is mapped twice.")
        targets[logical] = path
    if len({path.lower() for path in targets.values()}) != len(targets):
        raise invalid("Two files of the database are mapped to the same target path.")
    missing = [logical for _, logical, _ in files if logical not in targets]
    if missing:
        raise invalid(f"The files {', '.join(missing)} of the database are not mapped to a target path.")
    return [(kind, logical, targets[logical]) for kind, logical, _ in files]


def check_target(target: Target) -> None:
    """Raise JobError if the target prevents the restore; the restore's job and a validation check this."""
    machine = target.container.machine
    if not machine.running:
        raise machine_down(machine)
    if target.kind == "Restore as files":
        return
    if target.instance is None:
        raise JobError(520003, "UserErrorSQLPODoesNotExist", "The target instance does not exist.", [])
    existing = target.instance.databases.get(target.database.lower())
    if existing is not None and not target.overwrite:
        raise JobError(
            520023,
            "UserErrorCannotRestoreExistingDBWithoutForceOverwrite",
            "Database with same name already exists at the target location.",
            ["Change the target database name, or use the option to overwrite."],
        )
    if existing is not None and existing.group is not None:
        raise JobError(
            520024,
            "UserErrorRestoreFailedDatabaseCannotBeOfflined",
            "Restore failed as the database could not be brought offline.",
            ["Take the database out of the availability group, or change the target database name."],
        )
    if (clash := _file_of_another(machine, existing, target.files)) is not None:
        raise JobError(
            520123,
            "UserErrorRestoreFailedTargetFileAlreadyExists",
            f"Restore failed as the file {clash} already exists and belongs to another database.",
            ["Map the files of the database to other paths."],
        )


def _file_of_another(
    machine: VirtualMachine, restored_over: Database | None, files: list[tuple[str, str, str]]
) -> str | None:
    """The first of these paths that a database of the machine uses, except the one being overwritten."""
    taken = {
        path.lower()
        for instance in machine.instances.values()
        for database in instance.databases.values()
        if database is not restored_over
        for _, _, path in database.files
    }
    return next((path for _, _, path in files if path.lower() in taken), None)
