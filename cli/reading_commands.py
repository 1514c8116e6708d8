"""The commands that only read, and the one that cancels a job."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

from cli.options import (
    SubCommands,
    add_command,
    add_database,
    add_group,
    add_output,
    add_reading,
    add_repeated,
    add_selection,
    add_vault,
    duration,
    later,
)
from cli.parsing import any_case

_JOB_STATUSES: Final = (
    "InProgress",
    "Completed",
    "CompletedWithWarnings",
    "Failed",
    "Cancelling",
    "Cancelled",
)
#: The operations that the service's filter for jobs takes (`JobOperationType`, API version 2024-04-01).
_JOB_OPERATIONS: Final = (
    "Backup",
    "Restore",
    "ConfigureBackup",
    "DisableBackup",
    "DeleteBackupData",
    "Undelete",
    "Register",
    "UnRegister",
    "CrossRegionRestore",
)


def add(commands: SubCommands) -> None:
    """Add these commands."""
    _add_databases(commands)
    _add_recovery_points(commands)
    _add_jobs(commands)
    _add_policies(commands)
    _add_runs(commands)
    _add_report(commands)


def _add_databases(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "databases",
        summary="list databases, protected and protectable",
        example="""
          sqlvmbackup databases -g rg-backup -v vault1
          sqlvmbackup databases -g rg-backup -v vault1 -o csv --query "[?lastBackupStatus!='Healthy']"
        """,
        handler=later("cli.listings", "show_databases"),
    )
    add_vault(parser, vm=" (default: every VM of the vault)")
    add_reading(parser, failed="databases whose last backup failed, or that cannot be used")


def _add_recovery_points(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "recovery-points",
        summary="list what a database can be restored to",
        example="""
          sqlvmbackup recovery-points --vault /subscriptions/.../vaults/vault1 \\
            --vm /subscriptions/.../virtualMachines/sql1 --database orders
        """,
        handler=later("cli.listings", "show_recovery_points"),
    )
    add_vault(parser, vm=" (where the name is not unique in the vault)")
    add_database(parser)
    add_reading(parser)


def _add_jobs(commands: SubCommands) -> None:
    actions = add_group(
        commands,
        "jobs",
        summary="the vault's jobs, whoever started them",
        example="""
          sqlvmbackup jobs list -g rg-backup -v vault1 --since 7d
          sqlvmbackup jobs show 0ec4824d-230a-4896-9ed4-8e8f265d3a6d -g rg-backup -v vault1
        """,
    )
    _add_jobs_list(actions)
    _add_jobs_show(actions)
    _add_jobs_wait(actions)
    _add_jobs_cancel(actions)


def _add_jobs_list(actions: SubCommands) -> None:
    parser = add_command(
        actions,
        "list",
        summary="list the jobs of a vault, those that failed last",
        example="""
          sqlvmbackup jobs list -g rg-backup -v vault1 --status Failed --since 7d
        """,
        notes="""
        Azure Backup lists no log backups that a policy's schedule started.
        """,
        handler=later("cli.jobs", "list_jobs"),
    )
    add_vault(parser)
    parser.add_argument(
        "--since",
        type=duration,
        default=timedelta(days=1),
        metavar="DURATION",
        help="how far back: 24h, 7d or ISO 8601 such as PT12H (default: 24h)",
    )
    parser.add_argument(
        "--status",
        action="append",
        type=any_case(_JOB_STATUSES),
        choices=_JOB_STATUSES,
        help="only these; may be repeated",
    )
    parser.add_argument(
        "--operation", type=any_case(_JOB_OPERATIONS), choices=_JOB_OPERATIONS, help="only this operation"
    )
    add_repeated(
        parser,
        "--database",
        metavar="NAME",
        help="only of these databases, by name, by pattern or as INSTANCE/NAME; may be repeated",
    )
    add_reading(parser, failed="jobs that failed or were cancelled")


def _add_jobs_show(actions: SubCommands) -> None:
    parser = add_command(
        actions,
        "show",
        summary="show all that is known of a job",
        example="""
          sqlvmbackup jobs show fe45d575-0735-4b62-bf5a-d32623dd6065 -g rg-backup -v vault1
        """,
        handler=later("cli.jobs", "show_job"),
    )
    parser.add_argument("id", metavar="ID", help="as `jobs list` shows it")
    add_vault(parser)
    add_reading(parser)


def _add_jobs_wait(actions: SubCommands) -> None:
    parser = add_command(
        actions,
        "wait",
        summary="wait until jobs have ended",
        example="""
          sqlvmbackup jobs wait fe45d575-0735-4b62-bf5a-d32623dd6065 -g rg-backup -v vault1
        """,
        notes="""
        Exit status: 0 all completed (warnings included), 1 something did not, 2 options or settings cannot be used.
        """,
        handler=later("cli.jobs", "wait_for_jobs"),
    )
    parser.add_argument("ids", nargs="+", metavar="ID", help="as `jobs list` shows it")
    add_vault(parser)
    parser.add_argument(
        "--timeout", type=duration, metavar="DURATION", help="such as 2h (default: however long it takes)"
    )
    add_reading(parser)


def _add_jobs_cancel(actions: SubCommands) -> None:
    parser = add_command(
        actions,
        "cancel",
        summary="cancel a running backup or restore, and wait until it has stopped",
        example="""
          sqlvmbackup jobs cancel fe45d575-0735-4b62-bf5a-d32623dd6065 -g rg-backup -v vault1
        """,
        notes="""
        A cancelled backup leaves no recovery point. A cancelled restore may leave its target unusable.
        Exit status: 0 it is cancelled, 1 it ended otherwise or cannot be cancelled, 2 options or settings cannot be
        used.
        """,
        handler=later("cli.jobs", "cancel_job"),
    )
    parser.add_argument("id", metavar="ID", help="as `jobs list` shows it")
    add_vault(parser)
    parser.add_argument(
        "--no-wait", action="store_true", help="return once the service has accepted the cancellation"
    )
    add_reading(parser)


def _add_policies(commands: SubCommands) -> None:
    actions = add_group(
        commands,
        "policies",
        summary="the vault's policies for SQL Server, in words",
        example="""
          sqlvmbackup policies list -g rg-backup -v vault1
        """,
    )
    parser = add_command(
        actions,
        "list",
        summary="list which backups a vault's policies take, when, and how long they are kept",
        example="""
          sqlvmbackup policies list -g rg-backup -v vault1
        """,
        handler=later("cli.policies", "list_policies"),
    )
    add_vault(parser)
    add_reading(parser)
    parser = add_command(
        actions,
        "show",
        summary="show a policy in words",
        example="""
          sqlvmbackup policies show HourlyLogBackup -g rg-backup -v vault1
        """,
        handler=later("cli.policies", "show_policy"),
    )
    parser.add_argument("name", metavar="NAME", help="the policy's name")
    add_vault(parser)
    add_reading(parser)


def _add_runs(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "runs",
        summary="show the requests that a state folder holds, and how to go on with those that are unfinished",
        example="""
          sqlvmbackup runs --state .sqlvmbackup
        """,
        handler=later("cli.runs", "show_runs"),
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="of earlier runs")
    add_output(parser)


def _add_report(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "report",
        summary="report how databases are backed up, the worst first; changes nothing",
        example="""
          sqlvmbackup report --vault /subscriptions/.../vaults/vault1 --html coverage.html
          sqlvmbackup report --subscription 00000000-0000-0000-0000-000000000001 --max-age 26h
        """,
        notes="""
        Ages are held against the schedules of the policies, or against --max-age. docs/coverage.md says what each state
        means and what cannot be known.
        Exit status: 0 no gap, 1 a gap or something that could not be read, 2 options or settings cannot be used.
        """,
        handler=later("cli.report", "show_report"),
    )
    group = parser.add_argument_group("vaults")
    add_repeated(
        group,
        "--vault",
        metavar="ID",
        help="full ARM id of a vault; may be repeated (default: SQLVMBACKUP_VAULT)",
    )
    group.add_argument("-g", "--resource-group", dest="group", metavar="NAME", help="or by its names")
    group.add_argument("-v", "--vault-name", dest="name", metavar="NAME", help="(with -g)")
    add_repeated(
        group,
        "--subscription",
        metavar="ID",
        help="all its vaults, and the SQL VMs that none of them knows; may be repeated (with -g and -v: the vault's)",
    )
    add_selection(parser, every="all user databases")
    parser.set_defaults(vm=None)
    group = parser.add_argument_group("coverage")
    group.add_argument(
        "--policy", metavar="NAME", help="the policy that should protect them (default: any will do)"
    )
    group.add_argument(
        "--max-age",
        metavar="DURATION",
        help="how old the last backup may be, such as 26h or P2D (default: as the policy's schedule has it)",
    )
    group.add_argument(
        "--read-singly",
        action="store_true",
        help="read up to 75 databases per subscription one by one, where the recovery model decides",
    )
    group.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained HTML page")
    add_reading(parser, failed="databases with a gap")
