"""Drives a simulator in this process, on a clock that the test moves."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from local.simulator import FIXED_TOKEN, Scenario, Simulator
from local.simulator.http_messages import Request
from local.stepped_clock import SteppedClock

VERSION = "2024-04-01"
ORIGIN = "http://127.0.0.1:1"
POLICY = "HourlyLogBackup"


@dataclass
class Answer:
    """An answer with its JSON body (None where there is none) and headers by lower-cased name."""

    status: int
    body: Any
    headers: dict[str, str]
    text: bytes
    dropped: bool

    @property
    def code(self) -> str:
        """The error's code."""
        code: str = self.body["error"]["code"]
        return code


@dataclass
class Driver:
    """One simulator and its clock."""

    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Operations and jobs say all at once, but where a test is about those that do not.
        durations = {"accept": 0, "young": 0, **self.settings.get("durations", {})}
        scenario = Scenario.model_validate({**self.settings, "durations": durations})
        self.clock = SteppedClock(scenario.start_time)
        self.simulator = Simulator(scenario, clock=self.clock, **self.options)
        self.vault = self.simulator.vault_id()

    def wait(self, seconds: float = 0, *, hours: float = 0, days: float = 0) -> None:
        self.clock.advance(timedelta(seconds=seconds, hours=hours, days=days))

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Call a path of the vault, an absolute path, or a URL that the simulator handed out."""
        parts = urlsplit(path if path.startswith(("/subscriptions", "http", "/Subs")) else self.vault + path)
        query = (
            parts.query if "api-version" in parts.query else f"{parts.query}&api-version={VERSION}".strip("&")
        )
        sent = {"authorization": f"Bearer {FIXED_TOKEN}", **(headers or {})}
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        response = self.simulator.handle(Request(method, parts.path, query, sent, data, ORIGIN))
        try:
            parsed = json.loads(response.body) if response.body else None
        except ValueError:
            parsed = None
        found = {name.lower(): value for name, value in response.headers}
        return Answer(response.status, parsed, found, response.body, response.drop)

    def get(self, path: str, **options: Any) -> Any:
        """The body of a GET that must succeed."""
        answer = self.call("GET", path, **options)
        assert answer.status == 200, answer.body
        return answer.body

    # ---- the flow

    def container(self, machine: str = "sqlvm1", group: str = "rg-sql") -> str:
        return f"/backupFabrics/Azure/protectionContainers/VMAppContainer;Compute;{group};{machine}"

    def item(self, database: str = "orders", machine: str = "sqlvm1", instance: str = "mssqlserver") -> str:
        return f"{self.container(machine)}/protectedItems/SQLDataBase;{instance};{database}"

    def refresh(self) -> None:
        sql = "$filter=backupManagementType eq 'AzureWorkload'"
        assert self.call("POST", f"/backupFabrics/Azure/refreshContainers?{sql}").status == 202
        self.wait(20)

    def register(self, machine: str = "sqlvm1", group: str = "rg-sql", kind: str = "Register") -> Answer:
        answer = self.call(
            "PUT",
            self.container(machine, group),
            {
                "properties": {
                    "backupManagementType": "AzureWorkload",
                    "containerType": "VMAppContainer",
                    "workloadType": "SQLDataBase",
                    "sourceResourceId": self.simulator.vm_id(machine, group),
                    "operationType": kind,
                }
            },
        )
        self.wait(240)
        return answer

    def inquire(self, machine: str = "sqlvm1") -> Answer:
        answer = self.call("POST", f"{self.container(machine)}/inquire")
        self.wait(60)
        return answer

    def put(self, item: str, wait: float = 75, **properties: Any) -> Answer:
        answer = self.call(
            "PUT", item, {"properties": {"protectedItemType": "AzureVmWorkloadSQLDatabase", **properties}}
        )
        self.wait(wait)
        return answer

    def policy_id(self, name: str = POLICY) -> str:
        return f"{self.vault}/backupPolicies/{name}"

    def protect(self, database: str = "orders", machine: str = "sqlvm1", policy: str = POLICY) -> Answer:
        return self.put(self.item(database, machine), policyId=self.policy_id(policy))

    def backup(self, database: str = "orders", kind: str = "Full", wait: float = 120, **more: Any) -> Answer:
        answer = self.call(
            "POST",
            f"{self.item(database)}/backup",
            {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": kind, **more}},
        )
        self.wait(wait)
        return answer

    def points(self, database: str = "orders", query: str = "") -> list[Any]:
        value: list[Any] = self.get(f"{self.item(database)}/recoveryPoints{query}")["value"]
        return value

    def ranges(self, database: str = "orders") -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.points(database)[-1]["properties"]["timeRanges"]
        return found

    def restore(self, point: str, wait: float = 272, database: str = "orders", **properties: Any) -> Answer:
        body = {"objectType": "AzureWorkloadSQLRestoreRequest", **properties}
        answer = self.call(
            "POST", f"{self.item(database)}/recoveryPoints/{point}/restore", {"properties": body}
        )
        self.wait(wait)
        return answer

    def job(self, answer: Answer) -> dict[str, Any]:
        """The properties of the job that an accepted call started."""
        assert answer.status == 202, answer.body
        operation = self.get(answer.headers["azure-asyncoperation"])
        assert operation["status"] == "Succeeded", operation
        found: dict[str, Any] = self.get(f"/backupJobs/{operation['properties']['jobId']}")["properties"]
        return found

    def failure(self, answer: Answer) -> str:
        """The symbolic code that the started job failed with."""
        job = self.job(answer)
        assert job["status"] == "Failed", job
        title: str = job["errorDetails"][0]["errorTitle"]
        return title


def estate(*databases: dict[str, Any], **machine: Any) -> dict[str, Any]:
    """A scenario with `sqlvm1`, registered, with these databases; those without protectedBy get the policy."""
    entries = [{"protectedBy": POLICY, **database} for database in databases]
    return {
        "scheduledBackups": False,
        "virtualMachines": [
            {"name": "sqlvm1", "registeredTo": "vault1", "instances": [{"databases": entries}], **machine}
        ],
    }
