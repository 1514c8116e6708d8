"""The commands of those who operate the app."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from cli.options import (
    SubCommands,
    add_command,
    add_output,
    add_reading,
    add_repeated,
    later,
)
from cli.parsing import whole_number

_SHELLS: Final = ("bash", "zsh", "fish", "powershell")


def add(commands: SubCommands) -> None:
    """Add these commands."""
    _add_replay(commands)
    _add_doctor(commands)
    _add_status(commands)
    _add_watch(commands)
    _add_completion(commands)


def _replay(options: argparse.Namespace) -> int:
    if options.requests is not None:
        from cli.lost_requests import send_lost_requests

        return send_lost_requests(options)
    from cli.replay import replay

    return replay(options)


def _add_replay(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "replay",
        summary="list, show or send again the messages that were parked",
        example="""
          sqlvmbackup replay list --state .sqlvmbackup
          sqlvmbackup replay send 3 --state .sqlvmbackup
          sqlvmbackup replay send --all --namespace my-namespace
        """,
        handler=_replay,
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
        help="with send: the requests in this JSONL file, whose messages were lost with their namespace",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="send it again although it is so old that what it did before can no longer be found",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--state", type=Path, metavar="DIR", help="of a run")
    where.add_argument("--namespace", metavar="NAME", help="of a deployed app")
    add_output(parser)


def _add_doctor(commands: SubCommands) -> None:
    parser = add_command(
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
        handler=later("cli.doctor", "doctor"),
    )
    parser.add_argument("--app", metavar="NAME", help="the deployed Function App, by name or full ARM id")
    parser.add_argument(
        "--namespace",
        metavar="NAME",
        help="the app's namespace, by name or full ARM id (default: as the settings say)",
    )
    parser.add_argument(
        "--subscription", metavar="ID", help="subscription of app and namespace (default: the first vault's)"
    )
    add_repeated(
        parser,
        "--vault",
        metavar="ID",
        help="full ARM id of a vault; may be repeated (default: SQLVMBACKUP_VAULT)",
    )
    add_repeated(
        parser, "--vm", metavar="ID", help="full ARM id of a VM to protect or restore to; may be repeated"
    )
    add_repeated(
        parser, "--drill-vm", metavar="ID", help="full ARM id of a VM kept for drills; may be repeated"
    )
    add_repeated(
        parser,
        "--option",
        choices=("firstBackup", "autoProtect", "createPolicy", "createVault"),
        help="an optional feature that requests use; may be repeated",
    )
    parser.add_argument(
        "--identity",
        metavar="ID",
        help="object id of the app's identity (default: with --app the app's, else your own rights)",
    )
    add_reading(parser, failed="what is wrong")


def _add_status(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "status",
        summary="show what a deployed app has in flight, the oldest first, and what needs attention",
        example="""
          sqlvmbackup status --namespace my-namespace
        """,
        notes="""
        It looks into every queue and takes nothing out: the role Azure Service Bus Data Receiver does.
        Exit status: 0, or 1 where there are dead letters or parked messages.
        """,
        handler=later("cli.status", "show_status"),
    )
    _add_looked_at(parser)


def _add_watch(commands: SubCommands) -> None:
    parser = add_command(
        commands,
        "watch",
        summary="show what a deployed app has in flight, again every few seconds",
        example="""
          sqlvmbackup watch --namespace my-namespace
        """,
        notes="With `-o jsonl`, each look is a line per request and step, and one with the sums.",
        handler=later("cli.status", "watch"),
    )
    parser.add_argument("--once", action="store_true", help="look once")
    _add_looked_at(parser)


def _add_completion(commands: SubCommands) -> None:
    def handler(options: argparse.Namespace) -> int:
        from argcomplete.shell_integration import shellcode

        print(shellcode(["sqlvmbackup"], shell=options.shell))
        return 0

    parser = add_command(
        commands,
        "completion",
        summary="print the script with which a shell completes commands and options",
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


def _add_looked_at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--namespace",
        metavar="NAME",
        help="of the app (default: ServiceBusConnection__fullyQualifiedNamespace of the environment)",
    )
    add_output(parser)
