"""A simulator over real HTTP, asked as any client asks it, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests

from local.simulator import FIXED_TOKEN, Scenario, Simulator, SimulatorServer
from local.stepped_clock import SteppedClock

JsonObject = dict[str, Any]
POLICY = "HourlyLogBackup"
SQL = "backupManagementType eq 'AzureWorkload'"


@dataclass
class Azure:
    """One simulator with its address and its clock."""

    simulator: Simulator
    url: str
    clock: SteppedClock

    @property
    def vault(self) -> str:
        return self.simulator.vault_id()

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        filter: str | None = None,  # noqa: A002 - as the service calls it
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> requests.Response:
        """Ask a path of the vault, an absolute path, or a URL that the service handed out."""
        if not path.startswith("http"):
            path = self.url + (path if path.startswith("/subscriptions") else self.vault + path)
        parameters = dict(query) if "api-version" in path else {"api-version": "2024-04-01", **query}
        if filter is not None:
            parameters["$filter"] = filter
        sent = {"Authorization": f"Bearer {FIXED_TOKEN}", **(headers or {})}
        return requests.request(method, path, params=parameters, json=body, headers=sent, timeout=10)

    def get(self, path: str, **more: Any) -> Any:
        """The body of a GET that must succeed."""
        answer = self.ask("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @staticmethod
    def container(vm: str = "sqlvm1", group: str = "rg-sql") -> str:
        return f"/backupFabrics/Azure/protectionContainers/VMAppContainer;Compute;{group};{vm}"

    def item(self, database: str = "orders", vm: str = "sqlvm1", group: str = "rg-sql") -> str:
        return f"{self.container(vm, group)}/protectedItems/SQLDataBase;mssqlserver;{database}"

    def put(self, item: str, **properties: Any) -> requests.Response:
        return self.ask(
            "PUT", item, {"properties": {"protectedItemType": "AzureVmWorkloadSQLDatabase", **properties}}
        )

    def policy_id(self, name: str = POLICY) -> str:
        return f"{self.vault}/backupPolicies/{name}"

    def backup(self, database: str = "orders", kind: str = "Full", **more: Any) -> requests.Response:
        answer = self.ask(
            "POST",
            f"{self.item(database)}/backup",
            {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": kind}},
            **more,
        )
        assert answer.status_code == 202, answer.text
        return answer

    def points(self, database: str = "orders", **more: Any) -> list[JsonObject]:
        found: list[JsonObject] = self.get(f"{self.item(database)}/recoveryPoints", **more)["value"]
        return found

    def restore(
        self, database: str = "orders", point: str | None = None, **properties: Any
    ) -> requests.Response:
        point = point or self.points(database)[0]["name"]
        body = {
            "objectType": "AzureWorkloadSQLRestoreRequest",
            "recoveryType": "AlternateLocation",
            "targetInfo": {
                "overwriteOption": "FailOnConflict",
                "containerId": f"{self.vault}{self.container()}",
                "databaseName": f"MSSQLSERVER/{database}_restored",
            },
            **properties,
        }
        return self.ask("POST", f"{self.item(database)}/recoveryPoints/{point}/restore", {"properties": body})

    def operation(self, accepted: requests.Response) -> JsonObject:
        """The status of an accepted operation."""
        found: JsonObject = self.get(accepted.headers["Azure-AsyncOperation"])
        return found

    def job(self, accepted: requests.Response, *, after: float = 3600) -> JsonObject:
        """The job of an accepted operation as it is after so many seconds."""
        assert accepted.status_code == 202, accepted.text
        self.wait(after)
        found: JsonObject = self.get(f"/backupJobs/{self.operation(accepted)['properties']['jobId']}")
        return found

    def jobs(self, wanted: str | None = None) -> list[JsonObject]:
        """The vault's jobs as its list has them."""
        found: list[JsonObject] = self.get("/backupJobs", filter=wanted)["value"]
        return found


def protected(
    *databases: str | JsonObject, vm: Mapping[str, Any] | None = None, **settings: Any
) -> JsonObject:
    """A scenario with `sqlvm1`, registered, and these databases, protected with three days of history."""
    entries = [
        {"protectedBy": POLICY, "historyDays": 3} | ({"name": entry} if isinstance(entry, str) else entry)
        for entry in databases
    ]
    machine = {
        "name": "sqlvm1",
        "registeredTo": "vault1",
        "instances": [{"databases": entries}],
        **(vm or {}),
    }
    return {"scheduledBackups": False, "virtualMachines": [machine], **settings}


@contextmanager
def azure(scenario: Mapping[str, Any]) -> Iterator[Azure]:
    """A simulated Azure that is closed at the end."""
    read = Scenario.model_validate(dict(scenario))
    clock = SteppedClock(read.start_time)
    simulator = Simulator(read, clock=clock)
    with SimulatorServer(simulator) as server:
        yield Azure(simulator, server.url, clock)
