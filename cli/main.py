"""The command `sqlvmbackup`: its sub-commands, their options and their help."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Final

from cli.errors import CommandError

UNUSABLE: Final = 2
_INTERRUPTED: Final = 1

Handler = Callable[[argparse.Namespace], int]
if TYPE_CHECKING:
    _SubCommands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 all succeeded, 1 some did not, 2 it could not be done."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["simulator"]:
        # It has its own options and help, and nothing of the app on its import path.
        from local.simulator import main as simulator

        return simulator(arguments[1:])
    options = _parser().parse_args(arguments)
    _log_to_standard_error(verbose=options.verbose)
    handler: Handler = options.handler
    try:
        return handler(options)
    except CommandError as error:
        print(f"sqlvmbackup {options.command}: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone: there is nobody left to tell.
        sys.stderr.close()
        return _INTERRUPTED


def _log_to_standard_error(*, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose else logging.ERROR)
    logging.getLogger("urllib3").setLevel(logging.INFO)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sqlvmbackup",
        description="Protect, back up and restore SQL Server databases in Azure VMs.",
        epilog="Each command has its own --help with an example.",
        allow_abbrev=False,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what the app does")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_simulator(commands)
    return parser


def _add(
    commands: _SubCommands, name: str, *, summary: str, example: str, handler: Handler
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="example:\n" + dedent(example).strip("\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(handler=handler)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="results as JSON lines, or as a table (default: a table on a terminal, JSON lines in a pipe)",
    )


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return parse


def _add_demo(commands: _SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from cli.demo import demo

        return demo(options.databases, options.vms, as_json=options.json)

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
    _add_json(parser)


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


def _add_simulator(commands: _SubCommands) -> None:
    # Only for the list of commands: `main` hands it over before options are read.
    commands.add_parser("simulator", help="simulate Azure Backup for any client", add_help=False)


if __name__ == "__main__":
    sys.exit(main())
