"""Options that commands share, and what makes a command of its summary, its example and its handler."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, Final, TypeAlias

from cli.parsing import Parser, any_case, read_duration

_FORMATS: Final = ("table", "json", "jsonl", "csv", "tsv")
VERBOSE: Final = "log what the app does"
OF_OUTCOMES: Final = "what did not succeed"

Handler = Callable[[argparse.Namespace], int]
Group = argparse._ArgumentGroup
SubCommands: TypeAlias = "argparse._SubParsersAction[Parser]"


def later(module: str, function: str) -> Handler:
    """A handler that is imported when its command runs, so that no command waits for imports of others."""

    def handler(options: argparse.Namespace) -> int:
        handle: Handler = getattr(import_module(module), function)
        return handle(options)

    return handler


def add_command(
    commands: SubCommands, name: str, *, summary: str, example: str, handler: Handler, notes: str = ""
) -> Parser:
    parser = _add_parser(commands, name, summary=summary, example=example, notes=notes)
    parser.set_defaults(handler=handler)
    return parser


def _add_parser(commands: SubCommands, name: str, *, summary: str, example: str, notes: str = "") -> Parser:
    shown = f"example:\n{indent(dedent(example).strip(), '  ')}\n\n{dedent(notes).strip()}"
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=shown.rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Before the command and after it mean the same: what is not given after it leaves the other alone.
    parser.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help=VERBOSE)
    return parser


def add_group(commands: SubCommands, name: str, *, summary: str, example: str) -> SubCommands:
    """A command of several actions, each with options and help of its own."""
    parser = _add_parser(commands, name, summary=summary, example=example)
    return parser.add_subparsers(dest="action", required=True)


def duration(text: str) -> timedelta:
    """The duration in an option. The parser shows the error that it raises."""
    from shared.messages.model import parse_duration

    try:
        return parse_duration(read_duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_repeated(group: argparse.ArgumentParser | Group, flag: str, **details: Any) -> None:
    """A flag that may be given more than once, or not at all."""
    group.add_argument(flag, action="append", default=[], **details)


def add_output(
    parser: argparse.ArgumentParser,
    *,
    default: str = "a table on a terminal, JSON lines in a pipe",
    failed: str | None = None,
) -> None:
    """Add the options for output. `failed`: what `--failed-only` keeps, if the command has that."""
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
        help="JMESPath query over the results, as in `az` (default output: json)",
    )
    if failed is not None:
        group.add_argument("--failed-only", action="store_true", help=f"only {failed}")
    # Kept for existing scripts.
    for flag, format_ in (("--json", "jsonl"), ("--no-json", "table")):
        group.add_argument(flag, dest="output", action="store_const", const=format_, help=argparse.SUPPRESS)


def add_endpoint(group: Group) -> None:
    group.add_argument(
        "--arm-endpoint", metavar="URL", help="Azure Resource Manager (default: ARM_ENDPOINT, then Azure)"
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the run")
    add_endpoint(group)
    group.add_argument(
        "--outcomes", type=Path, metavar="FILE", help="append each outcome to this file, one JSON line each"
    )
    group.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="keeps the run: `sqlvmbackup run --state DIR` goes on where it was",
    )
    add_output(parser, failed=OF_OUTCOMES)


def add_vault(parser: argparse.ArgumentParser, *, vm: str | None = None) -> None:
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
        help="the vault's subscription, by id or name (default: AZURE_SUBSCRIPTION_ID, then that in SQLVMBACKUP_VAULT,"
        " then that of `az`)",
    )
    if vm is not None:
        group.add_argument("--vm", metavar="VM", help=f"name or full ARM id of the VM{vm}")


def add_selection(parser: argparse.ArgumentParser, *, every: str, system: bool = True) -> None:
    """Which databases; `system` where those of the system can be among them."""
    group = parser.add_argument_group("databases")
    group.add_argument("--instance", metavar="NAME", help="SQL Server instance (default: every one)")
    add_repeated(
        group,
        "--database",
        metavar="NAME",
        help=f"a database or a pattern, as NAME or INSTANCE/NAME; may be repeated (default: {every})",
    )
    add_repeated(
        group,
        "--group-database",
        metavar="GROUP/NAME",
        help="a database of an availability group; may be repeated",
    )
    add_repeated(group, "--exclude", metavar="NAME", help="leave these out; may be repeated")
    if system:
        group.add_argument(
            "--include-system",
            action="store_true",
            help="patterns match master, model and msdb too; otherwise they must be named in full",
        )


def add_time_zone(group: Group) -> None:
    group.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="time zone of moments without an offset, such as Europe/Berlin (default: they are refused)",
    )


def add_database(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("database")
    group.add_argument(
        "--database", required=True, metavar="NAME", help="the database, as NAME or INSTANCE/NAME"
    )
    group.add_argument("--instance", metavar="NAME", help="SQL Server instance (default: MSSQLSERVER)")
    group.add_argument("--availability-group", metavar="NAME", help="instead of an instance")


def add_reading(parser: argparse.ArgumentParser, *, failed: str | None = None) -> None:
    add_endpoint(parser.add_argument_group("Azure"))
    add_output(parser, failed=failed)
