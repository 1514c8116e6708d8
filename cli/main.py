"""The command `sqlvmbackup`: its sub-commands, their options and their help."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from cli import operator_commands, reading_commands, request_commands
from cli.encoding import escape_what_cannot_be_written
from cli.errors import INTERRUPTED, UNUSABLE, CommandError
from cli.options import VERBOSE, Handler, SubCommands
from cli.parsing import Parser
from cli.request_commands import request_handler

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: Set by a shell that asks for completions (argcomplete).
_COMPLETING: Final = "_ARGCOMPLETE"


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
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Run the command of these options; the exit status."""
    handler: Handler = options.handler
    try:
        if hasattr(options, "vault_name") and handler is not request_handler:
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
        # The reader of the output has gone: nobody is left to tell.
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
    """Discard the rest of the output, which could not be written at exit either."""
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
    parser.add_argument("--verbose", action="store_true", help=VERBOSE)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for part in (request_commands, reading_commands, operator_commands):
        part.add(commands)
    _add_simulator(commands)
    return parser


def _add_simulator(commands: SubCommands) -> None:
    # Only for the list of commands: `main` hands it over before options are read.
    commands.add_parser("simulator", help="simulate Azure Backup for any client", add_help=False)


if __name__ == "__main__":
    sys.exit(main())
