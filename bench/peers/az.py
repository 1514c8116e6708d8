"""The calls that `az backup` makes, in the order and at the pace of its recorded sessions.

`tests/recordings` of azure-cli (command module `backup`, SQL tests): enabling lists the protectable items, gets
the policy, puts the item, asks `backupOperations` every 5 seconds until it has ended, then the job;
`backup-now` gets the item, posts, asks the operation until it names a job, and gets the job; `job wait` gets
the job twice, then every 30 seconds. It handles one database at a time; several run in parallel, as several processes
would. It ignores `Retry-After` on operations.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import requests

from bench.virtual_time import VirtualThreads
from local.simulator import FIXED_TOKEN, Simulator, SimulatorServer

OPERATION_POLL = 5.0
JOB_POLL = 30.0
_VERSION = "api-version=2024-04-01"
_RETRIES = 10


class AzCalls:
    """`az backup` against one vault of the simulator."""

    def __init__(self, simulator: Simulator, server: SimulatorServer, threads: VirtualThreads) -> None:
        self._threads = threads
        self._vault_id = simulator.vault_id()
        self._url = server.url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {FIXED_TOKEN}"
        self._session.trust_env = False
        self.ends: list[tuple[datetime, datetime]] = []
        self.failures = 0
        self._until: Callable[[], bool] | None = None

    def close(self) -> None:
        self._session.close()

    def protect_and_back_up(self, container: str, items: list[str], *, processes: int = 1) -> None:
        """Enable protection of each item, then back it up and wait; the VM is registered already."""
        self._threads.run(
            [partial(self._alone, container, item, protect=True) for item in items], threads=processes
        )

    def back_up(
        self,
        container: str,
        items: list[str],
        *,
        processes: int,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """Back each item up and wait for it, until `until` holds."""
        self._until = until
        self._threads.run([partial(self._alone, container, item) for item in items], threads=processes)

    def _alone(self, container: str, item: str, *, protect: bool = False) -> None:
        try:
            self._one(container, item, protect=protect)
        except requests.HTTPError:
            # The command ends with an error, and nobody follows its job.
            self.failures += 1

    def _one(self, container: str, item: str, *, protect: bool = False) -> None:
        path = f"/backupFabrics/Azure/protectionContainers/{quote(container)}/protectedItems/{quote(item)}"
        if protect:
            link: str | None = f"/backupProtectableItems?{_VERSION}&$filter=" + quote(
                "backupManagementType eq 'AzureWorkload' and workloadType eq 'SQLDataBase'"
            )
            while link:
                link = self._ask("GET", link).json().get("nextLink")
            self._ask("GET", f"/backupPolicies/HourlyLogBackup?{_VERSION}")
            answer = self._ask(
                "PUT",
                f"{path}?{_VERSION}",
                {
                    "properties": {
                        "protectedItemType": "AzureVmWorkloadSQLDatabase",
                        "policyId": f"{self._vault_id}/backupPolicies/HourlyLogBackup",
                    }
                },
            )
            job = self._follow(answer)
            self._ask("GET", f"/backupJobs/{job}?{_VERSION}")
        self._ask("GET", f"{path}?{_VERSION}")
        answer = self._ask(
            "POST",
            f"{path}/backup?{_VERSION}",
            {"properties": {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}},
        )
        job = self._follow(answer)
        self._ask("GET", f"/backupJobs/{job}?{_VERSION}")
        self._ask("GET", f"/backupJobs/{job}?{_VERSION}")
        while True:
            if self._until is not None and self._until():
                return
            found = self._ask("GET", f"/backupJobs/{job}?{_VERSION}").json()["properties"]
            if found["status"] not in ("InProgress", "Cancelling"):
                break
            self._threads.sleep(JOB_POLL)
        self.ends.append((self._threads.clock.now(), datetime.fromisoformat(found["endTime"])))

    def _follow(self, answer: requests.Response) -> str:
        operation = answer.headers["Azure-AsyncOperation"].split("?")[0].rsplit("/", 1)[1]
        while True:
            status = self._ask("GET", f"/backupOperations/{operation}?{_VERSION}").json()
            if status["status"] != "InProgress":
                return str(status["properties"]["jobId"])
            self._threads.sleep(OPERATION_POLL)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        url = path if path.startswith("http") else f"{self._url}{self._vault_id}{path}"
        data = json.dumps(body) if body is not None else None
        for _ in range(_RETRIES):
            answer = self._session.request(
                method, url, data=data, headers={"Content-Type": "application/json"}
            )
            if answer.status_code != 429:
                break
            self._threads.sleep(float(answer.headers["Retry-After"]))
        answer.raise_for_status()
        return answer
