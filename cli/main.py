"""The command `sqlvmbackup`: its sub-commands, their options and their help."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent, indent
from typing import TYPE_CHECKING, Final

from cli.encoding import replace_what_cannot_be_written
from cli.errors import UNUSABLE, CommandError

_INTERRUPTED: Final = 1
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DEFAULT_INSTANCE: Final = "MSSQLSERVER"
_BACKUP_TYPES: Final = ("Full", "Differential", "Log", "CopyOnlyFull")
_REDUNDANCIES: Final = ("LocallyRedundant", "ZoneRedundant", "GeoRedundant")
_VERBOSE: Final = "log what the app does"

Handler = Callable[[argparse.Namespace], int]
if TYPE_CHECKING:
    _SubCommands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 all succeeded, 1 some did not, 2 it could not be done."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = next((place for place, word in enumerate(arguments) if not word.startswith("-")), None)
    if command is not None and arguments[command] == "simulator":
        # It has its own options and help, and nothing of the app on its import path.
        from local.simulator import main as simulator

        return simulator(arguments[command + 1 :])
    options = build_parser().parse_args(arguments)
    _log_to_standard_error(verbose=options.verbose)
    handler: Handler = options.handler
    replace_what_cannot_be_written()
    try:
        status = handler(options)
        sys.stdout.flush()
        return status
    except CommandError as error:
        print(f"sqlvmbackup {options.command}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone: there is nobody left to tell.
        sys.stderr.close()
        return _INTERRUPTED
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
        level=logging.DEBUG if verbose else logging.ERROR, format="%(levelname)s %(name)s: %(message)s"
    )
    if verbose:
        # It would log the URLs that the app does not: those of operations are signed.
        logging.getLogger("urllib3").setLevel(logging.INFO)


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="sqlvmbackup",
        description="Protect, back up and restore SQL Server databases in Azure VMs.",
        epilog="Each command has its own --help with an example.",
        allow_abbrev=False,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help=_VERBOSE)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_protect(commands)
    _add_backup(commands)
    _add_restore(commands)
    _add_databases(commands)
    _add_recovery_points(commands)
    _add_replay(commands)
    _add_doctor(commands)
    _add_status(commands)
    _add_watch(commands)
    _add_simulator(commands)
    return parser


def _add(
    commands: _SubCommands, name: str, *, summary: str, example: str, handler: Handler, notes: str = ""
) -> argparse.ArgumentParser:
    shown = f"example:\n{indent(dedent(example).strip(), '  ')}\n\n{dedent(notes).strip()}"
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=shown,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(handler=handler)
    # Before the command and after it mean the same: what is not given after it leaves the other alone.
    parser.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help=_VERBOSE)
    return parser


def _add_json(
    parser: argparse.ArgumentParser, *, default: str = "a table on a terminal, JSON lines in a pipe"
) -> None:
    parser.add_argument(
        "--json",
        action=argparse.BooleanOptionalAction,
        default=None,
        help=f"results as JSON lines, or as a table (default: {default})",
    )


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return parse


def _any_case(*values: str) -> Callable[[str], str]:
    """One of these values, in whatever case it is typed."""
    canonical = {value.lower(): value for value in values}
    return lambda text: canonical.get(text.lower(), text)


def _add_demo(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.demo import demo

        return demo(options.databases, options.vms, as_json=bool(options.json), trace=options.trace)

    parser = _add(
        commands,
        "demo",
        summary="protect, back up and restore databases against a simulated Azure",
        example="""
          sqlvmbackup demo --databases 20 --vms 2
        """,
        handler=handler,
    )
    parser.add_argument("--databases", type=_number(1, 2000), default=1, metavar="N", help="on each VM (1)")
    parser.add_argument("--vms", type=_number(1, 50), default=1, metavar="M", help="virtual machines (1)")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="gets the spans of OpenTelemetry, a JSON line each"
    )
    _add_json(parser, default="a table")


def _add_run(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.run import RunOptions, read_file, run_requests

        return run_requests(
            read_file(options.requests),
            RunOptions(
                arm_endpoint=options.arm_endpoint,
                outcomes=options.outcomes,
                state=options.state,
                in_order=options.in_order,
                as_json=options.json,
            ),
        )

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

        Settings come from the environment (docs/settings.md); credentials as azure-identity finds them.
        Exit status: 0 all succeeded, 1 some did not, 2 options, settings or files cannot be used.
        """,
        handler=handler,
    )
    parser.add_argument("--requests", required=True, metavar="FILE", help="JSONL; - reads standard input")
    parser.add_argument(
        "--in-order", action="store_true", help="wait for each request before the next (default: all at once)"
    )
    _add_run_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--arm-endpoint", metavar="URL", help="Azure Resource Manager (default: ARM_ENDPOINT, then Azure)"
    )
    parser.add_argument("--outcomes", type=Path, metavar="FILE", help="gets each outcome, a JSON line each")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="keeps the run: started again, it goes on where it was"
    )
    _add_json(parser)


def _request_handler(options: argparse.Namespace) -> int:
    from cli.requesting import send_request

    return send_request(options)


def _add_request_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job-timeout", metavar="DURATION", help="ISO 8601, such as PT12H (default P7D)")
    parser.add_argument("--source", metavar="TEXT", help="who asks: `source` of the request")
    parser.add_argument(
        "--id", metavar="TEXT", help="what tells the request from others of its source (default: a new one)"
    )
    parser.add_argument("--correlation-id", metavar="TEXT", help="carried through to every event")
    parser.add_argument("--dry-run", action="store_true", help="show what it would do, and change nothing")
    parser.add_argument("--namespace", metavar="NAME", help="send it to the app deployed with this namespace")
    parser.add_argument("--no-wait", action="store_true", help="with --namespace: do not wait for outcomes")
    _add_run_options(parser)


def _add_vault(parser: argparse.ArgumentParser, *, vm: str) -> None:
    parser.add_argument("--vault", required=True, metavar="ID", help="full ARM id of the vault")
    parser.add_argument("--vm", metavar="ID", help=f"full ARM id of the VM{vm}")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--instance",
        metavar="NAME",
        help="SQL Server instance (default: every one)",
    )
    parser.add_argument(
        "--database",
        action="append",
        default=[],
        metavar="NAME",
        help="a database or a pattern, of the instance or as INSTANCE/NAME; may be repeated (default: all)",
    )
    parser.add_argument(
        "--group-database",
        action="append",
        default=[],
        metavar="GROUP/NAME",
        help="a database of an availability group; may be repeated",
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="NAME", help="not these; may be repeated"
    )
    parser.add_argument(
        "--include-system", action="store_true", help="patterns mean master, model and msdb as well"
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
    parser.add_argument("--policy", required=True, metavar="NAME", help="the policy's name")
    _add_selection(parser)
    parser.add_argument(
        "--on-existing",
        choices=("fail", "keep", "changePolicy"),
        help="where another policy protects a database (default: fail)",
    )
    parser.add_argument("--resume", action="store_true", help="resume protection that was stopped")
    parser.add_argument("--undelete", action="store_true", help="bring back what was soft-deleted")
    parser.add_argument("--first-backup-now", action="store_true", help="take a full once it is protected")
    parser.add_argument("--create-vault", metavar="LOCATION", help="create the vault where there is none")
    parser.add_argument(
        "--redundancy",
        type=_any_case(*_REDUNDANCIES),
        choices=_REDUNDANCIES,
        help="of the vault that is created; fixed once it protects anything",
    )
    parser.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="of that vault")
    parser.add_argument(
        "--create-policy", type=Path, metavar="FILE", help="JSON of `createPolicy`, used where there is none"
    )
    _add_request_options(parser)


def _add_backup(commands: _SubCommands) -> None:
    parser = _add(
        commands,
        "backup",
        summary="back up protected databases now",
        example="""
          sqlvmbackup backup --vault /subscriptions/.../vaults/vault1 --type CopyOnlyFull --retain-for P14D \\
            --database orders
        """,
        handler=_request_handler,
    )
    _add_vault(parser, vm=" (default: every VM of the vault)")
    _add_selection(parser)
    parser.add_argument(
        "--type",
        default="Full",
        type=_any_case(*_BACKUP_TYPES),
        choices=_BACKUP_TYPES,
        help="default: Full",
    )
    parser.add_argument(
        "--retain-for", metavar="DURATION", help="ISO 8601, such as P45D (the default of Full)"
    )
    parser.add_argument("--retain-until", metavar="MOMENT", help="such as 2027-01-31T00:00:00Z")
    parser.add_argument(
        "--compression", action=argparse.BooleanOptionalAction, default=None, help="compress it"
    )
    parser.add_argument(
        "--if-running", choices=("wait", "skip"), help="where another operation runs (default: wait)"
    )
    _add_request_options(parser)


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
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--point-in-time", metavar="MOMENT", help="a whole second inside a log range")
    when.add_argument("--recovery-point", metavar="NAME", help="as `recovery-points` lists it")
    when.add_argument("--before", metavar="MOMENT", help="the newest moment before this one")
    when.add_argument(
        "--latest",
        choices=("any", "full"),
        help="the newest moment, of the log or of any backup; or the newest full (default: any)",
    )
    parser.add_argument(
        "--to-original", action="store_true", help="over the database itself; needs --overwrite"
    )
    parser.add_argument("--to-database", metavar="NAME", help="its new name (default: NAME_restored_MOMENT)")
    parser.add_argument("--to-vm", metavar="ID", help="full ARM id of another VM (default: the same)")
    parser.add_argument("--to-instance", metavar="NAME", help="another instance (default: the same)")
    parser.add_argument("--to-files", metavar="PATH", help="as backup files in this directory of the VM")
    parser.add_argument("--data-directory", metavar="PATH", help="for data files (default: the instance's)")
    parser.add_argument("--log-directory", metavar="PATH", help="for log files (default: the instance's)")
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="LOGICAL=PATH",
        help="where one file goes; may be repeated",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a database that is there")
    parser.add_argument("--no-recovery", action="store_true", help="leave it ready for more log backups")
    _add_request_options(parser)


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--database", required=True, metavar="NAME", help="the database, by its name or as INSTANCE/NAME"
    )
    parser.add_argument(
        "--instance",
        metavar="NAME",
        help=f"SQL Server instance ({_DEFAULT_INSTANCE})",
    )
    parser.add_argument("--availability-group", metavar="NAME", help="instead of an instance")


def _add_databases(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.listings import show_databases

        return show_databases(options)

    parser = _add(
        commands,
        "databases",
        summary="list databases, protected and protectable",
        example="""
          sqlvmbackup databases --vault /subscriptions/.../vaults/vault1
        """,
        handler=handler,
    )
    _add_vault(parser, vm=" (default: every VM of the vault)")
    _add_reading(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--arm-endpoint", metavar="URL", help="Azure Resource Manager (default: ARM_ENDPOINT, then Azure)"
    )
    _add_json(parser)


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
        "action", nargs="?", choices=("list", "show", "send"), default="list", help="default: list"
    )
    parser.add_argument(
        "numbers", nargs="*", type=_number(0, 2**63 - 1), metavar="N", help="numbers, as `list` shows them"
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
    _add_json(parser)


def _add_doctor(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.doctor import doctor

        return doctor(options)

    parser = _add(
        commands,
        "doctor",
        summary="say what is wrong with settings, rights and queues, and what to grant; it changes nothing",
        example="""
          sqlvmbackup doctor --namespace my-namespace --vault /subscriptions/.../vaults/vault1 \\
            --vm /subscriptions/.../virtualMachines/sql1 --identity 11111111-1111-1111-1111-111111111111
        """,
        notes="""
        Settings are those of the environment, WORKFLOWS among them. Without --identity it looks at what you
        yourself may do, as `sqlvmbackup run` would be allowed. Exit status: 0 nothing is wrong, 1 something is.
        """,
        handler=handler,
    )
    parser.add_argument("--namespace", metavar="NAME", help="the app's namespace, by name or full ARM id")
    parser.add_argument(
        "--subscription", metavar="ID", help="where the namespace is (default: the first vault's)"
    )
    parser.add_argument(
        "--vault", action="append", default=[], metavar="ID", help="full ARM id of a vault; may be repeated"
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
        choices=("firstBackup", "createPolicy", "createVault"),
        help="what requests ask for beyond their workflow; may be repeated",
    )
    parser.add_argument(
        "--identity", metavar="ID", help="object id of the app's identity (default: your own rights)"
    )
    _add_reading(parser)


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
        notes="With --json each look is a line for each request and step, and one of sums.",
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
    _add_json(parser)


def _add_simulator(commands: _SubCommands) -> None:
    # Only for the list of commands: `main` hands it over before options are read.
    commands.add_parser("simulator", help="simulate Azure Backup for any client", add_help=False)


if __name__ == "__main__":
    sys.exit(main())
