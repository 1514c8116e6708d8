"""Why a job fails, in the words of Azure Backup."""

from __future__ import annotations

from local.simulator.errors import JobError
from local.simulator.estate import Container, ProtectedItem, VirtualMachine


def machine_down(machine: VirtualMachine) -> JobError:
    """The machine is shut down."""
    return JobError(
        510025,
        "VMNotInRunningStateUserError",
        f"SQL server VM {machine.name.name} is either shutdown and inaccessible to Azure Backup service.",
        ["Ensure that the SQL server VM is running."],
    )


def unreachable(container: Container) -> JobError | None:
    """Why every job there fails: the machine is down, or the primary replica is not in this vault. None: it can run."""
    if container.group is not None and container.machine.registered_with is not container.vault:
        return JobError(
            510055,
            "FabricSvcBackupPreferenceCheckFailedUserError",
            "Backup preference for SQL Always On Availability Group cannot be met as some nodes of the "
            "Availability Group are not registered.",
            ["Ensure that all the nodes of the Availability Group are registered and healthy."],
        )
    if not container.machine.running:
        return machine_down(container.machine)
    return None


def database_is_gone(item: ProtectedItem) -> JobError:
    """The item's database was dropped or renamed."""
    return JobError(
        520003,
        "UserErrorSQLPODoesNotExist",
        f"The database {item.database} does not exist on instance {item.instance}.",
        ["Ensure that the database is online and run the discovery of databases again."],
    )


def busy_error() -> JobError:
    """Another operation runs on the database: the job that came second ends with this."""
    return JobError(
        510008,
        "OperationCancelledBecauseConflictingOperationRunningUserError",
        "Operation cancelled as a conflicting operation was already running on the same database.",
        ["Please wait for the other operation on the database to end and try the operation again."],
    )
