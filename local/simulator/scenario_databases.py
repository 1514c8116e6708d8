"""Instances and databases as a scenario describes them."""

from __future__ import annotations

from local.simulator.estate import Database, Instance
from local.simulator.scenario import DatabaseScenario, InstanceScenario

# Names as in https://learn.microsoft.com/sql/relational-databases/databases/system-databases; directory as recorded
# in 2024.
_SYSTEM_DIRECTORY = "C:\\Program Files\\Microsoft SQL Server\\MSSQL14.MSSQLSERVER\\MSSQL\\DATA\\"
_SYSTEM_FILES = {
    name: tuple((logical, f"{_SYSTEM_DIRECTORY}{file}") for logical, file in files)
    for name, files in {
        "master": (("master", "master.mdf"), ("mastlog", "mastlog.ldf")),
        "model": (("modeldev", "model.mdf"), ("modellog", "modellog.ldf")),
        "msdb": (("MSDBData", "MSDBData.mdf"), ("MSDBLog", "MSDBLog.ldf")),
    }.items()
}


def new_instance(entry: InstanceScenario) -> Instance:
    return Instance(
        entry.name,
        entry.data_directory,
        entry.log_directory,
        {
            database.name.lower(): _database_in(database, entry.data_directory, entry.log_directory)
            for database in entry.databases
        },
        entry.failover_cluster,
        frozenset(name.lower() for name in entry.certificates),
        entry.system_is_sysadmin,
    )


def _database_in(entry: DatabaseScenario, data_directory: str, log_directory: str) -> Database:
    files = [
        ("Data", entry.name, f"{data_directory}{entry.name}.mdf"),
        ("Log", f"{entry.name}_log", f"{log_directory}{entry.name}_log.ldf"),
    ]
    if entry.files is not None:
        files = [(file.type, file.logical_name, file.path) for file in entry.files]
    elif (own := _SYSTEM_FILES.get(entry.name.lower())) is not None:
        data, log = own
        files = [("Data", *data), ("Log", *log)]
    return Database(
        entry.name,
        entry.size_mb,
        entry.effective_recovery_model,
        files,
        entry.read_only,
        files_told_by=entry.extended_info,
        corrupt=entry.corrupt,
        encrypted_by=entry.encrypted_by,
    )


def new_database(entry: DatabaseScenario, instance: Instance) -> Database:
    """A database of the scenario, with its files where the instance puts them."""
    return _database_in(entry, instance.data_directory, instance.log_directory)
