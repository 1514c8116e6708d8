"""The calls for managed run commands of a virtual machine.

https://learn.microsoft.com/azure/virtual-machines/windows/run-command-managed. Every method raises what
`shared.arm.client.ArmClient` raises. Whoever may write run commands of a VM is SYSTEM on that VM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Protocol

from shared.arm.client import ArmClient
from shared.arm.errors import ArmStatusError
from shared.arm.ids import VirtualMachineId, quote_segment
from shared.run_commands.models import RunCommand

__all__ = ["API_VERSION", "RunCommandMutations", "RunCommandReads", "RunCommands"]

#: The newest API version that recordings show.
API_VERSION: Final = "2024-07-01"
_VIEWED: Final = {"$expand": "instanceView", "api-version": API_VERSION}
_NAME: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{0,79}")
#: Windows passes parameters on a command line, where nothing else is safe and an empty value is lost.
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_-]{1,2048}")


class RunCommandReads(Protocol):
    """Calls that only read."""

    def list_all(self, vm: VirtualMachineId) -> list[RunCommand]: ...

    def get(self, vm: VirtualMachineId, name: str) -> RunCommand | None: ...


class RunCommandMutations(Protocol):
    """Calls that change something."""

    def put(
        self,
        vm: VirtualMachineId,
        name: str,
        *,
        location: str,
        script: str,
        parameters: Mapping[str, str],
        timeout: timedelta,
        client_request_id: str,
    ) -> None: ...

    def delete(self, vm: VirtualMachineId, name: str, *, client_request_id: str) -> None: ...


class RunCommands:
    """Managed run commands through an ARM client. Safe to share between threads, as the client is."""

    def __init__(self, arm: ArmClient) -> None:
        self._arm = arm

    def list_all(self, vm: VirtualMachineId) -> list[RunCommand]:
        """All run commands of a VM, whoever made them; some may come without their instance view."""
        pages = self._arm.pages("list the run commands", f"{vm.url_path}/runCommands", params=_VIEWED)
        return [RunCommand.from_wire(body) for body in pages if isinstance(body, dict)]

    def get(self, vm: VirtualMachineId, name: str) -> RunCommand | None:
        """A run command with its instance view; None where it no longer exists."""
        try:
            response = self._arm.get("get the run command", _path(vm, name), params=_VIEWED)
        except ArmStatusError as error:
            if error.status == 404:
                return None
            raise
        return RunCommand.from_wire(response.body if isinstance(response.body, dict) else {})

    def put(
        self,
        vm: VirtualMachineId,
        name: str,
        *,
        location: str,
        script: str,
        parameters: Mapping[str, str],
        timeout: timedelta,
        client_request_id: str,
    ) -> None:
        """Run a script as SYSTEM; the call returns before the script has run (`asyncExecution`).

        If a run command of that name has the same script, nothing runs: it has to be deleted first.
        """
        for parameter, value in parameters.items():
            if not _PARAMETER.fullmatch(value):
                raise ValueError(f"the run command's parameter {parameter} has a value that is not base64url")
        self._arm.put(
            "put the run command",
            _path(vm, name),
            params={"api-version": API_VERSION},
            json={
                "location": location,
                "properties": {
                    "source": {"script": script},
                    "parameters": [{"name": key, "value": value} for key, value in parameters.items()],
                    "asyncExecution": True,
                    # The default is 90 minutes.
                    "timeoutInSeconds": max(1, int(timeout.total_seconds())),
                    "treatFailureAsDeploymentFailure": False,
                },
            },
            client_request_id=client_request_id,
        )

    def delete(self, vm: VirtualMachineId, name: str, *, client_request_id: str) -> None:
        """Delete a run command, which takes a while and would end a running script."""
        self._arm.delete(
            "delete the run command",
            _path(vm, name),
            params={"api-version": API_VERSION},
            client_request_id=client_request_id,
        )


def _path(vm: VirtualMachineId, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a run command of the app")
    return f"{vm.url_path}/runCommands/{quote_segment(name)}"
