"""The calls for managed run commands of a virtual machine.

https://learn.microsoft.com/azure/virtual-machines/windows/run-command-managed. Every method raises what
`shared.arm.client.ArmClient` raises. What may write run commands is SYSTEM on that VM.
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

#: The newest that recordings show.
API_VERSION: Final = "2024-07-01"
_VIEWED: Final = {"$expand": "instanceView", "api-version": API_VERSION}
_NAME: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{0,79}")
#: Windows hands parameters to the script on a command line: nothing else is safe there, and an empty one is none.
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_-]{1,2048}")


class RunCommandReads(Protocol):
    """What asks, and changes nothing."""

    def list_all(self, vm: VirtualMachineId) -> list[RunCommand]: ...

    def get(self, vm: VirtualMachineId, name: str) -> RunCommand | None: ...


class RunCommandMutations(Protocol):
    """What changes something."""

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
        """The run commands of a VM, whoever made them; not each may come with its instance view."""
        pages = self._arm.pages("list the run commands", f"{vm.url_path}/runCommands", params=_VIEWED)
        return [RunCommand.from_wire(body) for body in pages]

    def get(self, vm: VirtualMachineId, name: str) -> RunCommand | None:
        """A run command with its instance view; None where it is not there any more."""
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
        """Have a script run as SYSTEM; the call is answered before it has run (`asyncExecution`).

        A run command of that name with the same script runs nothing: it has to be deleted first.
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
                    # Left out, it is 90 minutes.
                    "timeoutInSeconds": max(1, int(timeout.total_seconds())),
                    "treatFailureAsDeploymentFailure": False,
                },
            },
            client_request_id=client_request_id,
        )

    def delete(self, vm: VirtualMachineId, name: str, *, client_request_id: str) -> None:
        """Delete a run command; that takes a while. One that runs would be ended by it."""
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
