"""`sqlvmbackup demo`: protect, back up and restore databases against the simulator, over real HTTP."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cli.output import Output
from cli.request_lines import SOURCE, RequestLine, request_line
from cli.run import RunOptions, run_requests
from cli.trace_file import traced_to

#: A minute of the simulated service takes a little more than a second.
TIME_SCALE: Final = 0.02
_SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000001"
_VAULT: Final = (
    f"/subscriptions/{_SUBSCRIPTION}/resourceGroups/rg-backup/providers/Microsoft.RecoveryServices"
    "/vaults/vault1"
)
_PORT: Final = 8080
_POLICY: Final = "HourlyLogBackup"
_INSTANCE: Final = "MSSQLSERVER"
_SYSTEM: Final = ("master", "model", "msdb")


def demo(databases: int, virtual_machines: int, *, output: Output, trace: Path | None = None) -> int:
    """Run the demonstration; returns the exit status. `trace` is a file that gets its spans."""
    with traced_to(trace), simulated_azure(databases, virtual_machines) as endpoint:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AZURE_")},
            "TIME_SCALE": str(TIME_SCALE),
            "TRACK_INTERVAL": "PT15S",
        }
        for name in ("RESTORE_ALLOWED_TARGETS", "RESTORE_ALLOW_OVERWRITE"):
            environment.pop(name, None)
        print(
            f"Azure is simulated at {endpoint}; its clock runs {1 / TIME_SCALE:.0f} times as fast.",
            file=sys.stderr,
        )
        options = RunOptions(
            arm_endpoint=endpoint,
            in_order=True,
            output=output,
            left="the simulated Azure has ended with it.",
        )
        status = run_requests(list(_requests(databases, virtual_machines)), options, environment)
    if status == 0 and output.is_table:
        _say_what_next()
    return status


def _say_what_next() -> None:
    """Print three commands that work as printed, in the directory where this one was run."""
    command = _own_name()
    print(
        f"""
Next:
  {command} demo --databases 20 --vms 2    # a fleet
  {command} simulator --port {_PORT}           # a simulated Azure that stays, until Ctrl-C
  {command} databases --arm-endpoint http://127.0.0.1:{_PORT} --vault {_VAULT}    # in another terminal""",
        file=sys.stderr,
    )


def _own_name() -> str:
    """How to type this command: its name or, if the shell would not find that, the path that was typed."""
    given = Path(sys.argv[0])
    if given.name == "__main__.py":
        return f"{Path(sys.executable).name} -m cli"
    found = shutil.which(given.stem)
    return given.stem if found is not None and Path(found).resolve() == given.resolve() else str(given)


@contextmanager
def simulated_azure(databases: int, virtual_machines: int) -> Iterator[str]:
    """A simulator of Azure on loopback with that estate; yields its endpoint."""
    from local.simulator import SERVICE_LIMITS, Scenario, Simulator, SimulatorServer

    scenario = {**_scenario(databases, virtual_machines), "throttling": SERVICE_LIMITS}
    simulator = Simulator(Scenario.model_validate(scenario), time_scale=TIME_SCALE)
    with SimulatorServer(simulator) as server:
        yield server.url


def _scenario(databases: int, virtual_machines: int) -> dict[str, Any]:
    return {
        "subscriptionId": _SUBSCRIPTION,
        "vaults": [{"resourceGroup": "rg-backup", "name": "vault1", "policies": [_POLICY]}],
        "virtualMachines": [
            {
                "resourceGroup": "rg-sql",
                "name": f"sqlvm{vm}",
                "instances": [
                    {
                        "name": _INSTANCE,
                        "databases": [
                            *({"name": name, "sizeMB": 10} for name in _SYSTEM),
                            *(
                                {"name": _database(number), "sizeMB": 20, "recoveryModel": "Full"}
                                for number in range(1, databases + 1)
                            ),
                        ],
                    }
                ],
            }
            for vm in range(1, virtual_machines + 1)
        ],
    }


def _database(number: int) -> str:
    return "orders" if number == 1 else f"orders{number}"


def _vm(number: int) -> str:
    return (
        f"/subscriptions/{_SUBSCRIPTION}/resourceGroups/rg-sql/providers/Microsoft.Compute"
        f"/virtualMachines/sqlvm{number}"
    )


def _requests(databases: int, virtual_machines: int) -> Iterator[RequestLine]:
    user_databases = [{"instance": _INSTANCE, "database": "*" if databases > 1 else _database(1)}]
    for vm in range(1, virtual_machines + 1):
        yield _request(
            "protect",
            f"protect-sqlvm{vm}",
            {
                "vaultId": _VAULT,
                "vmId": _vm(vm),
                "policyName": _POLICY,
                "databases": user_databases,
            },
        )
    yield _request("backup", "backup", {"vaultId": _VAULT, "databases": user_databases, "backupType": "Full"})
    yield _request(
        "restore",
        "restore",
        {
            "vaultId": _VAULT,
            "vmId": _vm(1),
            "instance": _INSTANCE,
            "database": _database(1),
            "recoveryPoint": {"latest": "full"},
            "target": {
                "kind": "alternate",
                "vmId": _vm(1),
                "instance": _INSTANCE,
                "database": f"{_database(1)}_restored",
            },
        },
    )


def _request(operation: str, request_id: str, data: dict[str, Any]) -> RequestLine:
    return request_line(
        {
            "specversion": "1.0",
            "type": f"sqlvmbackup.{operation}.requested.v1",
            "source": SOURCE,
            "id": request_id,
            "data": data,
        }
    )
