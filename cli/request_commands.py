"""The commands that change something: each sends a request, or runs requests."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from cli.options import (
    OF_OUTCOMES,
    Group,
    SubCommands,
    add_command,
    add_database,
    add_output,
    add_repeated,
    add_run_options,
    add_selection,
    add_time_zone,
    add_vault,
    later,
)
from cli.parsing import any_case, whole_number
from shared.messages.requests import MOST_DRILLS, BackupType

_BACKUP_TYPES: Final = tuple(backup_type.value for backup_type in BackupType)
_REDUNDANCIES: Final = ("LocallyRedundant", "ZoneRedundant", "GeoRedundant")
_ON_EXISTING: Final = ("fail", "keep", "changePolicy")


def add(commands: SubCommands) -> None:
    """Add these commands."""
    _add_demo(commands)
    _add_run(commands)
    _add_protect(commands)
    _add_backup(commands)
    _add_restore(commands)
    _add_drill(commands)


def _add_demo(commands: SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.demo import demo
        from cli.output import Format, output_of

        output = output_of(options, default=Format.TABLE)
        return demo(options.databases, options.vms, output=output, trace=options.trace)

    parser = add_command(
        commands,
        "demo",
        summary="protect, back up and restore databases against a simulated Azure",
        example="""
          sqlvmbackup demo --databases 20 --vms 2
        """,
        handler=handler,
    )
    parser.add_argument(
        "--databases", type=whole_number(1, 2000), default=1, metavar="N", help="on each VM (1)"
    )
    parser.add_argument(
        "--vms", type=whole_number(1, 50), default=1, metavar="M", help="virtual machines (1)"
    )
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write OpenTelemetry spans to this file, one JSON line each",
    )
    add_output(parser, default="a table", failed=OF_OUTCOMES)


def _add_run(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "run",
        summary="run the requests of a file through the whole app, in this process",
        example="""
          sqlvmbackup run --requests requests.jsonl --outcomes outcomes.jsonl --state .sqlvmbackup
        """,
        notes="""
        Each line of the file is one request, a CloudEvent, for instance:
          {"specversion": "1.0", "type": "sqlvmbackup.backup.requested.v1", "source": "/nightly", "id": "1",
           "data": {"vaultId": "/subscriptions/.../vaults/vault1", "backupType": "Full",
                    "databases": [{"instance": "MSSQLSERVER", "database": "orders"}]}}

        Without --requests, what the state of an earlier run holds is finished.
        Settings come from the environment (docs/settings.md); credentials as azure-identity finds them.
        Exit status: 0 all succeeded, 1 something did not, 2 options or settings cannot be used, 130 it was interrupted.
        """,
        handler=later("cli.run", "run_file"),
    )
    parser.add_argument("--requests", metavar="FILE", help="JSONL; - reads standard input")
    parser.add_argument(
        "--in-order", action="store_true", help="wait for each request before the next (default: all at once)"
    )
    add_run_options(parser)


def _add_protect(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "protect",
        summary="protect databases of a VM by a policy of a vault",
        example="""
          sqlvmbackup protect --vault /subscriptions/.../vaults/vault1 --vm /subscriptions/.../virtualMachines/sql1 \\
            --policy HourlyLogBackup --database 'orders*' --exclude orders_old
        """,
        handler=request_handler,
    )
    add_vault(parser, vm="; required, unless all databases are given with --group-database")
    add_selection(parser, every="all user databases of the VM's instances")
    group = parser.add_argument_group("protection")
    group.add_argument("--policy", required=True, metavar="NAME", help="the policy's name")
    group.add_argument(
        "--on-existing",
        type=any_case(_ON_EXISTING),
        choices=_ON_EXISTING,
        help="where another policy protects a database (default: fail)",
    )
    group.add_argument("--resume", action="store_true", help="resume protection that was stopped")
    group.add_argument("--undelete", action="store_true", help="bring back what was soft-deleted")
    group.add_argument("--first-backup-now", action="store_true", help="take a full once it is protected")
    add_repeated(
        group,
        "--auto-protect",
        metavar="INSTANCE",
        help="have the service also protect databases that this instance gets later",
    )
    group.add_argument("--create-vault", metavar="LOCATION", help="create the vault where there is none")
    group.add_argument(
        "--redundancy",
        type=any_case(_REDUNDANCIES),
        choices=_REDUNDANCIES,
        help="of the vault that is created; fixed once it protects anything",
    )
    add_repeated(group, "--tag", metavar="NAME=VALUE", help="of that vault")
    group.add_argument(
        "--create-policy", type=Path, metavar="FILE", help="JSON of `createPolicy`, used where there is none"
    )
    add_request_options(parser)


def _add_backup(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "backup",
        summary="back up protected databases now",
        example="""
          sqlvmbackup backup -g rg-backup -v vault1 --type CopyOnlyFull --retain-for 14d \\
            --database orders
        """,
        handler=request_handler,
    )
    add_vault(parser, vm=" (default: every VM of the vault)")
    add_selection(parser, every="all user databases")
    group = parser.add_argument_group("backup")
    group.add_argument(
        "--type",
        default="Full",
        type=any_case(_BACKUP_TYPES),
        choices=_BACKUP_TYPES,
        metavar="TYPE",
        help="Full, Differential, Log or CopyOnlyFull (default: Full)",
    )
    group.add_argument(
        "--retain-for",
        metavar="DURATION",
        help="how long it is kept, such as 14d (default: 45d for Full, 30d for CopyOnlyFull)",
    )
    group.add_argument("--retain-until", metavar="MOMENT", help="such as 2027-01-31T00:00:00Z")
    group.add_argument(
        "--compression", action=argparse.BooleanOptionalAction, default=None, help="compress it"
    )
    group.add_argument(
        "--if-running",
        type=str.lower,
        choices=("wait", "skip"),
        help="where another operation runs (default: wait)",
    )
    group.add_argument(
        "--unless-newer-than",
        metavar="DURATION",
        help="before a change: take no backup where the newest restorable moment is younger than this, such as 2h",
    )
    group.add_argument(
        "--restore-request",
        type=Path,
        metavar="FILE",
        help="write the request that restores it to this file, for `sqlvmbackup run --requests FILE`",
    )
    add_time_zone(group)
    add_request_options(parser)


def _add_restore(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "restore",
        summary="restore a database to a moment or a recovery point",
        example="""
          sqlvmbackup restore --vault /subscriptions/.../vaults/vault1 --vm /subscriptions/.../virtualMachines/sql1 \\
            --database orders --point-in-time 2026-01-05T07:30:00Z --to-database orders_0730
        """,
        notes="""
        What a restore may overwrite and where it may write is up to RESTORE_ALLOW_OVERWRITE,
        RESTORE_ALLOWED_TARGETS and RESTORE_ALLOWED_PATHS (docs/settings.md).
        """,
        handler=request_handler,
    )
    add_vault(parser, vm=" that the database is on; required, unless --availability-group is given")
    add_database(parser)
    group = parser.add_argument_group("what it goes back to")
    _add_recovery_point(group)
    group = parser.add_argument_group("where it goes")
    group.add_argument(
        "--to-original", action="store_true", help="over the database itself; needs --overwrite"
    )
    group.add_argument("--to-database", metavar="NAME", help="its new name (default: NAME_restored_MOMENT)")
    group.add_argument("--to-vm", metavar="VM", help="name or full ARM id of another VM (default: the same)")
    group.add_argument("--to-instance", metavar="NAME", help="another instance (default: the same)")
    group.add_argument("--to-files", metavar="PATH", help="as backup files in this directory of the VM")
    group.add_argument("--data-directory", metavar="PATH", help="for data files (default: the instance's)")
    group.add_argument("--log-directory", metavar="PATH", help="for log files (default: the instance's)")
    add_repeated(group, "--file", metavar="LOGICAL=PATH", help="where one file goes; may be repeated")
    group.add_argument("--overwrite", action="store_true", help="replace a database that is there")
    group.add_argument("--no-recovery", action="store_true", help="leave it ready for more log backups")
    add_request_options(parser)


def _add_drill(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "drill",
        summary="prove backups: restore, check and drop databases on a drill target",
        example="""
          export DRILL_TARGETS='[{"vmId": "/subscriptions/.../virtualMachines/drills1", "instance": "MSSQLSERVER"}]'
          sqlvmbackup drill --vault /subscriptions/.../vaults/vault1 --count 10 \\
            --to-vm /subscriptions/.../virtualMachines/drills1
        """,
        notes="""
        Where drills may restore to is up to DRILL_TARGETS (docs/drills.md). One is done after the other.
        """,
        handler=request_handler,
    )
    add_vault(parser)
    add_selection(parser, every="all user databases of every instance", system=False)
    group = parser.add_argument_group("the drills")
    group.add_argument(
        "--count",
        type=whole_number(1, MOST_DRILLS),
        metavar="N",
        help="at most this many, those whose last drill is longest ago (default: all that match)",
    )
    _add_recovery_point(group)
    group.add_argument(
        "--to-vm", required=True, metavar="VM", help="name or full ARM id of the drill target's VM"
    )
    group.add_argument("--to-instance", metavar="NAME", help="its instance (default: MSSQLSERVER)")
    group.add_argument(
        "--check",
        default="checkdb",
        type=any_case(("none", "checkdb")),
        choices=("none", "checkdb"),
        help="what is run on the restored database (default: checkdb)",
    )
    group.add_argument(
        "--clean-up",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="drop the restored database (default)",
    )
    add_request_options(parser)


def _add_recovery_point(group: Group) -> None:
    """Add the options for what a restore goes back to."""
    when = group.add_mutually_exclusive_group()
    when.add_argument("--point-in-time", metavar="MOMENT", help="a whole second inside a log range")
    when.add_argument("--recovery-point", metavar="NAME", help="as `recovery-points` lists it")
    when.add_argument("--before", metavar="MOMENT", help="the newest moment before this one")
    when.add_argument(
        "--latest",
        type=str.lower,
        choices=("any", "full"),
        help="the newest moment, of the log or of any backup; or the newest full (default: any)",
    )
    add_time_zone(group)


def request_handler(options: argparse.Namespace) -> int:
    from cli.requesting import send_request

    return send_request(options)


def add_request_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the request")
    group.add_argument("--dry-run", action="store_true", help="show what it would do, and change nothing")
    group.add_argument(
        "--job-timeout", metavar="DURATION", help="how long its jobs are followed, such as 12h (default: 7d)"
    )
    group.add_argument("--source", metavar="TEXT", help="who sends the request: its `source`")
    group.add_argument(
        "--id", metavar="TEXT", help="id of the request, unique within its source (default: a new one)"
    )
    group.add_argument("--correlation-id", metavar="TEXT", help="carried through to every event")
    group.add_argument("--namespace", metavar="NAME", help="send it to the app deployed with this namespace")
    group.add_argument("--no-wait", action="store_true", help="with --namespace: do not wait for outcomes")
    add_run_options(parser)
