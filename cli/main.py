"""The command `sqlvmbackup`: its sub-commands, their options and their help."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from textwrap import dedent, indent
from typing import TYPE_CHECKING, Final

from cli.encoding import escape_what_cannot_be_written
from cli.errors import INTERRUPTED, UNUSABLE, CommandError
from cli.parsing import Parser, any_case, read_duration, whole_number

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BACKUP_TYPES: Final = ("Full", "Differential", "Log", "CopyOnlyFull")
_REDUNDANCIES: Final = ("LocallyRedundant", "ZoneRedundant", "GeoRedundant")
_ON_EXISTING: Final = ("fail", "keep", "changePolicy")
_FORMATS: Final = ("table", "json", "jsonl", "csv", "tsv")
_SHELLS: Final = ("bash", "zsh", "fish", "powershell")
_JOB_STATUSES: Final = (
    "InProgress",
    "Completed",
    "CompletedWithWarnings",
    "Failed",
    "Cancelling",
    "Cancelled",
)
#: As the service's filter of jobs has them (`JobOperationType`, API version 2024-04-01).
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
_MOST_DRILLS: Final = 100
_VERBOSE: Final = "log what the app does"
#: Set by a shell that asks what may be typed next (argcomplete).
_COMPLETING: Final = "_ARGCOMPLETE"
_OF_OUTCOMES: Final = "what did not succeed"

Handler = Callable[[argparse.Namespace], int]
if TYPE_CHECKING:
    _SubCommands = argparse._SubParsersAction[Parser]
    _Group = argparse._ArgumentGroup


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns the exit status: 0 all succeeded, 1 something did not, 2 options or settings cannot be used, 130 it was
    interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = next((place for place, word in enumerate(arguments) if not word.startswith("-")), None)
    if command is not None and arguments[command] == "simulator":
        # It has its own options and help, and nothing of the app on its import path.
        from local.simulator import main as simulator

        return simulator(arguments[command + 1 :])
    parser = build_parser()
    if _COMPLETING in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    escape_what_cannot_be_written()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    _log_to_standard_error(verbose=options.verbose)
    handler: Handler = options.handler
    try:
        if hasattr(options, "vault_name") and handler is not _request_handler:
            # (Those who build a request tell what is wrong with it all at once.)
            from cli.places import find_places

            find_places(options)
        status = handler(options)
        sys.stdout.flush()
        return status
    except CommandError as error:
        print(f"sqlvmbackup {options.command}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone: there is nobody left to tell.
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        print(
            f"sqlvmbackup {options.command}: the output cannot be written ({error.strerror}): make room.",
            file=sys.stderr,
        )
        _discard_output()
        return UNUSABLE


def _discard_output() -> None:
    """What is left of the output cannot be written when the process ends either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _log_to_standard_error(*, verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if verbose:
        # It would log the URLs that the app does not: those of operations are signed.
        logging.getLogger("urllib3").setLevel(logging.INFO)


class _Version(argparse.Action):
    """Looked up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("sql-vm-backup-functions")
        except PackageNotFoundError:
            found = "(a checkout that is not installed)"
        print(f"sqlvmbackup {found}")
        parser.exit()


def build_parser() -> Parser:
    """Every command with its options."""
    parser = Parser(
        prog="sqlvmbackup",
        description="Protect, back up and restore SQL Server databases in Azure VMs.",
        epilog="Each command has its own --help with an example. Exit status: 0 all succeeded, 1 something did not,"
        " 2 options or settings cannot be used, 130 it was interrupted.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.add_argument("--verbose", action="store_true", help=_VERBOSE)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_protect(commands)
    _add_backup(commands)
    _add_restore(commands)
    _add_drill(commands)
    _add_databases(commands)
    _add_recovery_points(commands)
    _add_jobs(commands)
    _add_policies(commands)
    _add_runs(commands)
    _add_report(commands)
    _add_replay(commands)
    _add_doctor(commands)
    _add_status(commands)
    _add_watch(commands)
    _add_completion(commands)
    _add_simulator(commands)
    return parser


def _add(
    commands: _SubCommands, name: str, *, summary: str, example: str, handler: Handler, notes: str = ""
) -> Parser:
    shown = f"example:\n{indent(dedent(example).strip(), '  ')}\n\n{dedent(notes).strip()}"
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=shown.rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    # Before the command and after it mean the same: what is not given after it leaves the other alone.
    parser.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help=_VERBOSE)
    return parser


def _duration(text: str) -> timedelta:
    """A duration of an option. The parser tells what it raises."""
    from shared.messages.model import parse_duration

    try:
        return parse_duration(read_duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_output(
    parser: argparse.ArgumentParser,
    *,
    default: str = "a table on a terminal, JSON lines in a pipe",
    failed: str | None = None,
) -> None:
    """How results are written. `failed`: what `--failed-only` keeps, where there is such a thing."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o",
        "--output",
        type=any_case(_FORMATS),
        choices=_FORMATS,
        metavar="FORMAT",
        help=f"table, json, jsonl, csv or tsv (default: {default})",
    )
    group.add_argument(
        "--query",
        metavar="JMESPATH",
        help="what to take of the results, as `az` has it (default output: json)",
    )
    if failed is not None:
        group.add_argument("--failed-only", action="store_true", help=f"only {failed}")
    # What scripts have used.
    for flag, format_ in (("--json", "jsonl"), ("--no-json", "table")):
        group.add_argument(flag, dest="output", action="store_const", const=format_, help=argparse.SUPPRESS)


def _add_demo(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.demo import demo
        from cli.output import Format, output_of

        output = output_of(options, default=Format.TABLE)
        return demo(options.databases, options.vms, output=output, trace=options.trace)

    parser = _add(
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
        "--trace", type=Path, metavar="FILE", help="gets the spans of OpenTelemetry, a JSON line each"
    )
    _add_output(parser, default="a table", failed=_OF_OUTCOMES)


def _add_run(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.run import run_file

        return run_file(options)

    parser = _add(
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
        handler=handler,
    )
    parser.add_argument("--requests", metavar="FILE", help="JSONL; - reads standard input")
    parser.add_argument(
        "--in-order", action="store_true", help="wait for each request before the next (default: all at once)"
    )
    _add_run_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the run")
    _add_endpoint(group)
    group.add_argument(
        "--outcomes", type=Path, metavar="FILE", help="each outcome is added to it, a JSON line each"
    )
    group.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="keeps the run: `sqlvmbackup run --state DIR` goes on where it was",
    )
    _add_output(parser, failed=_OF_OUTCOMES)


def _add_endpoint(group: _Group) -> None:
    group.add_argument(
        "--arm-endpoint", metavar="URL", help="Azure Resource Manager (default: ARM_ENDPOINT, then Azure)"
    )


def _request_handler(options: argparse.Namespace) -> int:
    from cli.requesting import send_request

    return send_request(options)


def _add_request_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the request")
    group.add_argument("--dry-run", action="store_true", help="show what it would do, and change nothing")
    group.add_argument(
        "--job-timeout", metavar="DURATION", help="how long its jobs are followed, such as 12h (default: 7d)"
    )
    group.add_argument("--source", metavar="TEXT", help="who asks: `source` of the request")
    group.add_argument(
        "--id", metavar="TEXT", help="what tells the request from others of its source (default: a new one)"
    )
    group.add_argument("--correlation-id", metavar="TEXT", help="carried through to every event")
    group.add_argument("--namespace", metavar="NAME", help="send it to the app deployed with this namespace")
    group.add_argument("--no-wait", action="store_true", help="with --namespace: do not wait for outcomes")
    _add_run_options(parser)


def _add_vault(parser: argparse.ArgumentParser, *, vm: str | None = None) -> None:
    """The vault, and the VM where one may be named; `vm` is what its help adds."""
    group = parser.add_argument_group("vault" if vm is None else "vault and VM")
    group.add_argument(
        "--vault",
        metavar="ID",
        help="full ARM id of the vault (default: SQLVMBACKUP_VAULT), or by its names:",
    )
    group.add_argument("-g", "--resource-group", metavar="NAME", help="the vault's resource group")
    group.add_argument("-v", "--vault-name", metavar="NAME", help="the vault's name")
    group.add_argument(
        "--subscription",
        metavar="ID",
        help="the vault's subscription, by id or name (default: AZURE_SUBSCRIPTION_ID, then that of `az`)",
    )
    if vm is not None:
        group.add_argument("--vm", metavar="VM", help=f"name or full ARM id of the VM{vm}")


def _add_selection(parser: argparse.ArgumentParser, *, every: str, system: bool = True) -> None:
    """Which databases; `system` where those of the system can be among them."""
    group = parser.add_argument_group("databases")
    group.add_argument("--instance", metavar="NAME", help="SQL Server instance (default: every one)")
    group.add_argument(
        "--database",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a database or a pattern, as NAME or INSTANCE/NAME; may be repeated (default: {every})",
    )
    group.add_argument(
        "--group-database",
        action="append",
        default=[],
        metavar="GROUP/NAME",
        help="a database of an availability group; may be repeated",
    )
    group.add_argument(
        "--exclude", action="append", default=[], metavar="NAME", help="not these; may be repeated"
    )
    if system:
        group.add_argument(
            "--include-system",
            action="store_true",
            help="patterns match master, model and msdb too; otherwise they must be named in full",
        )


def _add_protect(commands: _SubCommands) -> None:
    parser = _add(
        commands,
        "protect",
        summary="protect databases of a VM by a policy of a vault",
        example="""
          sqlvmbackup protect --vault /subscriptions/.../vaults/vault1 --vm /subscriptions/.../virtualMachines/sql1 \\
            --policy HourlyLogBackup --database 'orders*' --exclude orders_old
        """,
        handler=_request_handler,
    )
    _add_vault(parser, vm=" (not for availability groups)")
    _add_selection(parser, every="all user databases of the VM's instances")
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
    group.add_argument(
        "--auto-protect",
        action="append",
        default=[],
        metavar="INSTANCE",
        help="have the service protect databases that this instance gets later, too",
    )
    group.add_argument("--create-vault", metavar="LOCATION", help="create the vault where there is none")
    group.add_argument(
        "--redundancy",
        type=any_case(_REDUNDANCIES),
        choices=_REDUNDANCIES,
        help="of the vault that is created; fixed once it protects anything",
    )
    group.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="of that vault")
    group.add_argument(
        "--create-policy", type=Path, metavar="FILE", help="JSON of `createPolicy`, used where there is none"
    )
    _add_request_options(parser)


def _add_backup(commands: _SubCommands) -> None:
    parser = _add(
        commands,
        "backup",
        summary="back up protected databases now",
        example="""
          sqlvmbackup backup -g rg-backup -v vault1 --type CopyOnlyFull --retain-for 14d \\
            --database orders
        """,
        handler=_request_handler,
    )
    _add_vault(parser, vm=" (default: every VM of the vault)")
    _add_selection(parser, every="all user databases")
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
    group.add_argument("--retain-until", metavar="MOMENT", help="such as 2027-01-31")
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
        help="before a change: take none where the database can be restored to a moment that is younger, such as 2h",
    )
    group.add_argument(
        "--restore-request",
        type=Path,
        metavar="FILE",
        help="write the restore request that goes back to it, for `sqlvmbackup run --requests FILE`",
    )
    _add_time_zone(group)
    _add_request_options(parser)


def _add_time_zone(group: _Group) -> None:
    group.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="of moments that name no offset, such as Europe/Berlin (default: none, and such are refused)",
    )


def _add_restore(commands: _SubCommands) -> None:
    parser = _add(
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
        handler=_request_handler,
    )
    _add_vault(parser, vm=" that the database is on")
    _add_database(parser)
    group = parser.add_argument_group("what it goes back to")
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
    _add_time_zone(group)
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
    group.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="LOGICAL=PATH",
        help="where one file goes; may be repeated",
    )
    group.add_argument("--overwrite", action="store_true", help="replace a database that is there")
    group.add_argument("--no-recovery", action="store_true", help="leave it ready for more log backups")
    _add_request_options(parser)


def _add_drill(commands: _SubCommands) -> None:
    parser = _add(
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
        handler=_request_handler,
    )
    _add_vault(parser)
    _add_selection(parser, every="all user databases of every instance", system=False)
    group = parser.add_argument_group("the drills")
    group.add_argument(
        "--count",
        type=whole_number(1, _MOST_DRILLS),
        metavar="N",
        help="so many, those whose last drill is longest ago (default: all that are meant)",
    )
    when = group.add_mutually_exclusive_group()
    when.add_argument("--point-in-time", metavar="MOMENT", help="a whole second inside a log range")
    when.add_argument("--recovery-point", metavar="NAME", help="as `recovery-points` lists it")
    when.add_argument("--before", metavar="MOMENT", help="the newest moment before this one")
    when.add_argument("--latest", choices=("any", "full"), help="the newest moment, or full (default: any)")
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
    _add_request_options(parser)


def _add_database(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("database")
    group.add_argument(
        "--database", required=True, metavar="NAME", help="the database, as NAME or INSTANCE/NAME"
    )
    group.add_argument("--instance", metavar="NAME", help="SQL Server instance (default: MSSQLSERVER)")
    group.add_argument("--availability-group", metavar="NAME", help="instead of an instance")


def _add_databases(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.listings import show_databases

        return show_databases(options)

    parser = _add(
        commands,
        "databases",
        summary="list databases, protected and protectable",
        example="""
          sqlvmbackup databases -g rg-backup -v vault1
          sqlvmbackup databases -g rg-backup -v vault1 -o csv --query "[?lastBackupStatus!='Healthy']"
        """,
        handler=handler,
    )
    _add_vault(parser, vm=" (default: every VM of the vault)")
    _add_reading(parser, failed="databases whose last backup failed, or that cannot be used")


def _add_reading(parser: argparse.ArgumentParser, *, failed: str | None = None) -> None:
    _add_endpoint(parser.add_argument_group("Azure"))
    _add_output(parser, failed=failed)


def _add_recovery_points(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.listings import show_recovery_points

        return show_recovery_points(options)

    parser = _add(
        commands,
        "recovery-points",
        summary="list what a database can be restored to",
        example="""
          sqlvmbackup recovery-points --vault /subscriptions/.../vaults/vault1 \\
            --vm /subscriptions/.../virtualMachines/sql1 --database orders
        """,
        handler=handler,
    )
    _add_vault(parser, vm=" (where the name is not unique in the vault)")
    _add_database(parser)
    _add_reading(parser)


def _add_group(commands: _SubCommands, name: str, *, summary: str) -> _SubCommands:
    """A command of several actions, each with options and help of its own."""
    parser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    parser.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help=_VERBOSE)
    return parser.add_subparsers(dest="action", required=True)


def _add_jobs(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli import jobs

        actions: dict[str, Handler] = {
            "list": jobs.list_jobs,
            "show": jobs.show_job,
            "wait": jobs.wait_for_jobs,
            "cancel": jobs.cancel_job,
        }
        return actions[options.action](options)

    actions = _add_group(commands, "jobs", summary="the vault's jobs, whoever started them")
    parser = _add(
        actions,
        "list",
        summary="list the jobs of a vault, those that failed last",
        example="""
          sqlvmbackup jobs list -g rg-backup -v vault1 --status Failed --since 7d
        """,
        notes="""
        Azure Backup lists no log backups that a policy's schedule started.
        """,
        handler=handler,
    )
    _add_vault(parser)
    parser.add_argument(
        "--since",
        type=_duration,
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
    parser.add_argument(
        "--database",
        action="append",
        default=[],
        metavar="NAME",
        help="only of these databases, by name, by pattern or as INSTANCE/NAME; may be repeated",
    )
    _add_reading(parser, failed="jobs that failed or were cancelled")

    parser = _add(
        actions,
        "show",
        summary="show all that is known of a job",
        example="""
          sqlvmbackup jobs show fe45d575-0735-4b62-bf5a-d32623dd6065 -g rg-backup -v vault1
        """,
        handler=handler,
    )
    parser.add_argument("id", metavar="ID", help="as `jobs list` shows it")
    _add_vault(parser)
    _add_reading(parser)

    parser = _add(
        actions,
        "wait",
        summary="wait until jobs have ended",
        example="""
          sqlvmbackup jobs wait fe45d575-0735-4b62-bf5a-d32623dd6065 -g rg-backup -v vault1
        """,
        notes="""
        Exit status: 0 all completed (warnings included), 1 something did not, 2 options or settings cannot be used.
        """,
        handler=handler,
    )
    parser.add_argument("ids", nargs="+", metavar="ID", help="as `jobs list` shows it")
    _add_vault(parser)
    parser.add_argument(
        "--timeout", type=_duration, metavar="DURATION", help="such as 2h (default: however long it takes)"
    )
    _add_reading(parser)

    parser = _add(
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
        handler=handler,
    )
    parser.add_argument("id", metavar="ID", help="as `jobs list` shows it")
    _add_vault(parser)
    parser.add_argument(
        "--no-wait", action="store_true", help="return once the service has taken the cancellation"
    )
    _add_reading(parser)


def _add_policies(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli import policies

        return policies.list_policies(options) if options.action == "list" else policies.show_policy(options)

    actions = _add_group(commands, "policies", summary="the vault's policies for SQL Server, in words")
    parser = _add(
        actions,
        "list",
        summary="list what the policies of a vault take when, and how long it is kept",
        example="""
          sqlvmbackup policies list -g rg-backup -v vault1
        """,
        handler=handler,
    )
    _add_vault(parser)
    _add_reading(parser)
    parser = _add(
        actions,
        "show",
        summary="show a policy in words",
        example="""
          sqlvmbackup policies show HourlyLogBackup -g rg-backup -v vault1
        """,
        handler=handler,
    )
    parser.add_argument("name", metavar="NAME", help="the policy's name")
    _add_vault(parser)
    _add_reading(parser)


def _add_runs(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.runs import show_runs

        return show_runs(options)

    parser = _add(
        commands,
        "runs",
        summary="show the requests that a state folder holds, and how to go on with those that are unfinished",
        example="""
          sqlvmbackup runs --state .sqlvmbackup
        """,
        handler=handler,
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="of earlier runs")
    _add_output(parser)


def _add_report(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.report import show_report

        return show_report(options)

    parser = _add(
        commands,
        "report",
        summary="tell how databases are backed up, the worst first; changes nothing",
        example="""
          sqlvmbackup report --vault /subscriptions/.../vaults/vault1 --html coverage.html
          sqlvmbackup report --subscription 00000000-0000-0000-0000-000000000001 --max-age 26h
        """,
        notes="""
        Ages are held against the schedules of the policies, or against --max-age. docs/coverage.md says what each state
        means and what cannot be known.
        Exit status: 0 no gap, 1 a gap or something that could not be read, 2 options or settings cannot be used.
        """,
        handler=handler,
    )
    group = parser.add_argument_group("vaults")
    group.add_argument(
        "--vault",
        action="append",
        default=[],
        metavar="ID",
        help="full ARM id of a vault; may be repeated (default: SQLVMBACKUP_VAULT)",
    )
    group.add_argument("-g", "--resource-group", dest="group", metavar="NAME", help="or by its names")
    group.add_argument("-v", "--vault-name", dest="name", metavar="NAME", help="(with -g)")
    group.add_argument(
        "--subscription",
        action="append",
        default=[],
        metavar="ID",
        help="all vaults of it, and the SQL VMs that none of them knows; may be repeated (with -g and -v: theirs)",
    )
    _add_selection(parser, every="all user databases")
    parser.set_defaults(vm=None)
    group = parser.add_argument_group("coverage")
    group.add_argument(
        "--policy", metavar="NAME", help="the policy that should protect them (default: any will do)"
    )
    group.add_argument(
        "--max-age",
        metavar="DURATION",
        help="how old a last backup may be, such as 26h or P2D (default: as the policy's schedule has it)",
    )
    group.add_argument(
        "--read-singly",
        action="store_true",
        help="read up to 75 databases of a subscription one by one, whose recovery model decides",
    )
    group.add_argument("--html", type=Path, metavar="FILE", help="write one page that needs nothing else")
    _add_reading(parser, failed="databases with a gap")


def _add_replay(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        if options.requests is not None:
            from cli.lost_requests import send_lost_requests

            return send_lost_requests(options)
        from cli.replay import replay

        return replay(options)

    parser = _add(
        commands,
        "replay",
        summary="list, show or send again the messages that were parked",
        example="""
          sqlvmbackup replay list --state .sqlvmbackup
          sqlvmbackup replay send 3 --state .sqlvmbackup
          sqlvmbackup replay send --all --namespace my-namespace
        """,
        handler=handler,
    )
    parser.add_argument(
        "action",
        nargs="?",
        type=str.lower,
        choices=("list", "show", "send"),
        default="list",
        help="default: list",
    )
    parser.add_argument(
        "numbers",
        nargs="*",
        type=whole_number(0, 2**63 - 1),
        metavar="N",
        help="numbers, as `list` shows them",
    )
    parser.add_argument("--all", action="store_true", help="every parked message")
    parser.add_argument(
        "--requests",
        metavar="FILE",
        help="with send: the requests of this JSONL file, whose messages are gone with their namespace",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="have it done again where it is so old that nobody can tell what it did before",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--state", type=Path, metavar="DIR", help="of a run")
    where.add_argument("--namespace", metavar="NAME", help="of a deployed app")
    _add_output(parser)


def _add_completion(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from argcomplete.shell_integration import shellcode

        print(shellcode(["sqlvmbackup"], shell=options.shell))
        return 0

    parser = _add(
        commands,
        "completion",
        summary="print the script by which a shell completes commands and options",
        example="""
          sqlvmbackup completion bash > ~/.local/share/bash-completion/completions/sqlvmbackup
        """,
        notes="""
        zsh, fish and PowerShell:
          sqlvmbackup completion zsh > "${fpath[1]}/_sqlvmbackup"
          sqlvmbackup completion fish > ~/.config/fish/completions/sqlvmbackup.fish
          sqlvmbackup completion powershell | Out-String | Invoke-Expression
        """,
        handler=handler,
    )
    parser.add_argument("shell", type=str.lower, choices=_SHELLS, help="bash, zsh, fish or powershell")


def _add_doctor(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.doctor import doctor

        return doctor(options)

    parser = _add(
        commands,
        "doctor",
        summary="say what is wrong with settings, rights and queues, and what to grant; it changes nothing",
        example="""
          sqlvmbackup doctor --app my-app --vault /subscriptions/.../vaults/vault1 \\
            --vm /subscriptions/.../virtualMachines/sql1
        """,
        notes="""
        With --app, settings, identity and namespace are those of the deployed app. Without it, settings are those
        of the environment, WORKFLOWS among them, and without --identity it looks at what you yourself may do, as
        `sqlvmbackup run` would be allowed. Exit status: 0 nothing is wrong, 1 something is.
        """,
        handler=handler,
    )
    parser.add_argument("--app", metavar="NAME", help="the deployed Function App, by name or full ARM id")
    parser.add_argument(
        "--namespace",
        metavar="NAME",
        help="the app's namespace, by name or full ARM id (default: as the settings say)",
    )
    parser.add_argument(
        "--subscription", metavar="ID", help="where app and namespace are (default: the first vault's)"
    )
    parser.add_argument(
        "--vault",
        action="append",
        default=[],
        metavar="ID",
        help="full ARM id of a vault; may be repeated (default: SQLVMBACKUP_VAULT)",
    )
    parser.add_argument(
        "--vm",
        action="append",
        default=[],
        metavar="ID",
        help="full ARM id of a VM to protect or restore to; may be repeated",
    )
    parser.add_argument(
        "--drill-vm",
        action="append",
        default=[],
        metavar="ID",
        help="of a VM kept for drills; may be repeated",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        choices=("firstBackup", "autoProtect", "createPolicy", "createVault"),
        help="what requests ask for beyond their workflow; may be repeated",
    )
    parser.add_argument(
        "--identity",
        metavar="ID",
        help="object id of the app's identity (default: with --app the app's, else your own rights)",
    )
    _add_reading(parser, failed="what is wrong")


def _add_status(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.status import show_status

        return show_status(options)

    parser = _add(
        commands,
        "status",
        summary="show what a deployed app has in flight, the oldest first, and what waits for somebody",
        example="""
          sqlvmbackup status --namespace my-namespace
        """,
        notes="""
        It looks into every queue and takes nothing out: the role Azure Service Bus Data Receiver does.
        Exit status: 0, or 1 where there are dead letters or parked messages.
        """,
        handler=handler,
    )
    _add_looked_at(parser)


def _add_watch(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.status import watch

        return watch(options)

    parser = _add(
        commands,
        "watch",
        summary="show what a deployed app has in flight, again every few seconds",
        example="""
          sqlvmbackup watch --namespace my-namespace
        """,
        notes="Of `-o jsonl`, each look is a line for each request and step, and one of sums.",
        handler=handler,
    )
    parser.add_argument("--once", action="store_true", help="look once")
    _add_looked_at(parser)


def _add_looked_at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--namespace",
        metavar="NAME",
        help="of the app (default: ServiceBusConnection__fullyQualifiedNamespace of the environment)",
    )
    _add_output(parser)


def _add_simulator(commands: _SubCommands) -> None:
    # Only for the list of commands: `main` hands it over before options are read.
    commands.add_parser("simulator", help="simulate Azure Backup for any client", add_help=False)


if __name__ == "__main__":
    sys.exit(main())
