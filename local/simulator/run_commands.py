"""Managed run commands of a machine, and what the script of a restore drill would do there.

States and bodies are those of recordings (Azure/azure-cli, 2024-08, and Azure/azure-powershell, 2021-11), none of
which shows a script that succeeded on Windows. No PowerShell is run: a script that holds DBCC CHECKDB and DROP
DATABASE and takes the parameters attempt, action, instance and database is simulated by these parameters; any other
prints nothing.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from typing import Any

from local.simulator.estate import Database, Instance, RunCommand, VirtualMachine
from local.simulator.timing import whole_seconds

MOST = 25
"""Managed run commands of a machine: "The maximum number of managed Run commands (max=25, current=25) ..."."""
OUTPUT = 4096
"""The last bytes of output that are kept."""
DEFAULT_TIMEOUT = 90 * 60
_PARAMETER = re.compile(r"[A-Za-z0-9_-]+")
_WORDS = ("$attempt", "$action", "$instance", "$database", "DBCC CHECKDB", "DROP DATABASE")


def render(command: RunCommand, path: str, location: str, *, viewed: bool) -> dict[str, Any]:
    """The resource; `viewed`: with its instance view."""
    properties: dict[str, Any] = {
        "source": {"script": command.script},
        **({"parameters": [dict(each) for each in command.parameters]} if command.parameters else {}),
        "timeoutInSeconds": command.timeout,
        "provisioningState": command.provisioning_state,
        "asyncExecution": command.asynchronous,
    }
    if viewed:
        properties["instanceView"] = _view(command)
    return {
        "name": command.name,
        "id": path,
        "type": "Microsoft.Compute/virtualMachines/runCommands",
        "location": location,
        "properties": properties,
    }


def _view(command: RunCommand) -> dict[str, Any]:
    view: dict[str, Any] = {
        "exitCode": command.exit_code,
        "executionState": command.state,
        "executionMessage": command.message,
        "output": last(command.output),
        "error": "",
    }
    for name, moment in (("startTime", command.start), ("endTime", command.end)):
        if moment is not None:
            view[name] = f"{whole_seconds(moment)[:-1]}+00:00"
    return view


def last(text: str) -> str:
    """The last 4 KB of a text."""
    return text.encode()[-OUTPUT:].decode(errors="ignore")


def execute(machine: VirtualMachine, command: RunCommand, now: datetime) -> str:
    """Simulate a script; returns what it prints."""
    if not all(word in command.script for word in _WORDS):
        return ""
    given = {each["name"]: each["value"] for each in command.parameters}
    took = round((now - (command.start or now)).total_seconds(), 1)
    result = {"attempt": given.get("attempt", ""), "action": given.get("action", ""), "result": "failed"}
    return json.dumps({**_run(machine, given, result), "seconds": took}, separators=(",", ":")) + "\n"


def _run(machine: VirtualMachine, given: dict[str, str], result: dict[str, Any]) -> dict[str, Any]:
    """Do what the parameters say; returns the result as the script prints it."""
    try:
        name, server = _decoded(given.get("database", "")), _decoded(given.get("instance", ""))
    except ValueError:
        return _failed(result, (0, "a parameter is not base64url"))
    if not name.startswith("drill_"):
        return _failed(result, (0, "the database is no drill database"))
    instance = machine.instances.get(server.lower())
    if instance is None:
        return _failed(result, (-1, "A network-related or instance-specific error occurred."))
    database = instance.databases.get(name.lower())
    if database is None or database.name != name:
        return {**result, "result": "absent"}
    if given.get("action") == "check":
        return _checked(result, instance, database, machine)
    if given.get("action") == "drop":
        return _dropped(result, instance, database)
    return _failed(result, (0, "the action is neither check nor drop"))


def _decoded(text: str) -> str:
    if not _PARAMETER.fullmatch(text):
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def _failed(result: dict[str, Any], *errors: tuple[int, str]) -> dict[str, Any]:
    return {
        **result,
        "errors": len(errors),
        "numbers": list(dict.fromkeys(number for number, _ in errors))[:20],
        "messages": [text[:120] for _, text in errors[:3]],
    }


def _checked(
    result: dict[str, Any], instance: Instance, database: Database, machine: VirtualMachine
) -> dict[str, Any]:
    if not instance.system_is_sysadmin:
        return _failed(
            result,
            (
                916,
                f'The server principal "NT AUTHORITY\\SYSTEM" is not able to access the database "{database.name}".',
            ),
        )
    result = {**result, "sizeMB": round(database.size_mb)}
    if machine.free_mb is not None:
        result["freeMB"] = round(machine.free_mb)
    if database.corrupt:
        return _failed(
            result,
            (
                8939,
                "Table error: Object ID 0, index ID -1, partition ID 0, alloc unit ID 0, page (1:153). Test failed.",
            ),
            (8928, "Object ID 245575913, index ID 1: Page (1:153) could not be processed."),
        )
    return {**result, "result": "ok"}


def _dropped(result: dict[str, Any], instance: Instance, database: Database) -> dict[str, Any]:
    if not instance.system_is_sysadmin:
        text = f"Cannot drop the database '{database.name}', because it does not exist or you do not have permission."
        return _failed(result, (3701, text))
    del instance.databases[database.name.lower()]
    return {**result, "result": "ok"}
