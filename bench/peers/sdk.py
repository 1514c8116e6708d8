"""azure-mgmt-recoveryservicesbackup, as a good engineer would use it in a script: a pool of threads, and the SDK's
pollers. The SDK itself runs: its pipeline, its retry policy, its pollers. Only two things are replaced: the
authentication policy (the SDK sends tokens over https alone, and the simulator is on loopback), and sleeping, which
is done on the stepped clock. Where the SDK has no poller, the script polls every 30 seconds, the SDK's default.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.mgmt.core.polling.arm_polling import ARMPolling
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient
from azure.mgmt.recoveryservicesbackup import models as m

from bench.virtual_time import VirtualThreads
from local.simulator import FIXED_TOKEN, Simulator, SimulatorServer

POLL = 30.0
_POOL = 32
_FABRIC = "Azure"
_SQL_DATABASES = "backupManagementType eq 'AzureWorkload' and workloadType eq 'SQLDataBase'"
_RUNNING = ("InProgress", "Cancelling")


class _Credential:
    def get_token(self, *_scopes: str, **_options: Any) -> Any:
        raise AssertionError("the authentication policy was exchanged")


class _Token(SansIOHTTPPolicy[Any, Any]):
    def on_request(self, request: Any) -> None:
        request.http_request.headers["Authorization"] = f"Bearer {FIXED_TOKEN}"


class _Transport(RequestsTransport):  # type: ignore[misc]  # re-exported without its type
    def __init__(self, threads: VirtualThreads) -> None:
        super().__init__()
        self._threads = threads

    def sleep(self, duration: float) -> None:
        self._threads.sleep(duration)


class _Polling(ARMPolling):
    """The SDK's polling, run by the calling thread instead of one of its own."""

    def run(self) -> None:
        return

    def follow(self) -> Any:
        super().run()
        return self.resource()


class SdkScript:
    """A script on the SDK, against one vault of the simulator."""

    def __init__(self, simulator: Simulator, server: SimulatorServer, threads: VirtualThreads) -> None:
        self._threads = threads
        parts = simulator.vault_id().split("/")
        self._group, self._vault = parts[4], parts[8]
        self._simulator = simulator
        # Its models are loosely typed, so the client is Any.
        self.client: Any = RecoveryServicesBackupClient(
            _Credential(),
            simulator.subscription_id,
            base_url=server.url,
            authentication_policy=_Token(),
            transport=_Transport(threads),
        )
        #: when the script saw the end of a job, and when the job ended
        self.ends: list[tuple[datetime, datetime]] = []
        self.failures = 0

    def close(self) -> None:
        self.client.close()

    def protect_and_back_up(self, vm: str) -> None:
        """Register the VM, protect all its databases, and take the first backup of each."""
        policy = f"{self._simulator.vault_id()}/backupPolicies/HourlyLogBackup"
        found: list[tuple[str, str]] = []
        self._threads.run([lambda: found.extend(self._discover(vm))], threads=1)
        self._threads.run([partial(self._protect, *item, policy) for item in found], threads=_POOL)
        self.back_up(found)

    def _discover(self, vm: str) -> list[tuple[str, str]]:
        """Register the VM and inquire its databases; returns them as container and item."""
        vault = self._vault, self._group
        containers = self.client.protection_containers
        operation = self._operation_of(
            partial(containers.refresh, *vault, _FABRIC, filter="backupManagementType eq 'AzureWorkload'")
        )
        results = self.client.protection_container_refresh_operation_results
        self._wait_for(partial(results.get, *vault, _FABRIC, operation))
        offered = self.client.protectable_containers.list(
            *vault, _FABRIC, filter="backupManagementType eq 'AzureWorkload'"
        )
        name = next(entry.name for entry in offered if entry.properties.container_id.lower() == vm.lower())
        container = m.ProtectionContainerResource(
            properties=m.AzureVMAppContainerProtectionContainer(
                backup_management_type="AzureWorkload",
                source_resource_id=vm,
                workload_type="SQLDataBase",
                operation_type="Register",
            )
        )
        poller = containers.begin_register(*vault, _FABRIC, name, container, polling=_Polling(timeout=POLL))
        poller.polling_method().follow()
        operation = self._operation_of(
            partial(containers.inquire, *vault, _FABRIC, name, filter="workloadType eq 'SQLDataBase'")
        )
        done = self.client.protection_container_operation_results
        self._wait_for(partial(done.get, *vault, _FABRIC, name, operation))
        items = self.client.backup_protectable_items.list(*vault, filter=_SQL_DATABASES)
        return [
            (name, item.name)
            for item in items
            if item.properties.protectable_item_type.lower() == "sqldatabase"
        ]

    def _protect(self, container: str, item: str, policy: str) -> None:
        body = m.ProtectedItemResource(properties=m.AzureVmWorkloadSQLDatabaseProtectedItem(policy_id=policy))
        poller = self.client.protected_items.begin_create_or_update(
            self._vault, self._group, _FABRIC, container, item, body, polling=_Polling(timeout=POLL)
        )
        poller.polling_method().follow()

    def back_up(self, items: list[tuple[str, str]], *, until: Callable[[], bool] | None = None) -> None:
        """Trigger a backup of each item, then poll every job each 30 seconds until all have ended."""
        jobs: list[str] = []

        def trigger(container: str, item: str) -> None:
            request = m.BackupRequestResource(properties=m.AzureWorkloadBackupRequest(backup_type="Full"))
            while True:
                try:
                    operation = self._operation_of(
                        partial(
                            self.client.backups.trigger,
                            self._vault,
                            self._group,
                            _FABRIC,
                            container,
                            item,
                            request,
                        )
                    )
                    break
                except HttpResponseError as error:
                    if error.status_code != 429:
                        raise
                    self.failures += 1
                    self._threads.sleep(POLL)
            while until is None or not until():
                try:
                    status = self.client.backup_operation_statuses.get(self._vault, self._group, operation)
                except HttpResponseError:
                    self.failures += 1
                    self._threads.sleep(POLL)
                    continue
                job = getattr(status.properties, "job_id", None)
                if job:
                    jobs.append(job)
                    return
                self._threads.sleep(POLL)

        self._threads.run([partial(trigger, *item) for item in items], threads=_POOL)
        self.follow(jobs, until=until)

    def follow(self, jobs: list[str], *, until: Callable[[], bool] | None = None) -> None:
        """Poll every job each 30 seconds until all have ended, or `until` is true."""

        def look(job: str) -> None:
            if until is not None and until():
                return
            try:
                found = self.client.job_details.get(self._vault, self._group, job)
            except HttpResponseError:
                # Its retries are used up; the next round tries again.
                self.failures += 1
                return
            if found.properties.status not in _RUNNING:
                self.ends.append((self._threads.clock.now(), found.properties.end_time))
                jobs.remove(job)

        while jobs and (until is None or not until()):
            began = self._threads.clock.monotonic()
            self._threads.run([partial(look, job) for job in list(jobs)], threads=_POOL)
            left = POLL - (self._threads.clock.monotonic() - began)
            if jobs and left > 0:
                self._threads.run([partial(self._threads.sleep, left)], threads=1)

    def _operation_of(self, call: Callable[..., Any]) -> str:
        """The id of the operation that a call starts."""
        location: str = call(cls=lambda response, _body, _headers: response.http_response.headers["Location"])
        return location.split("?", maxsplit=1)[0].rsplit("/", 1)[1]

    def _wait_for(self, result: Callable[..., Any]) -> None:
        """Ask for the result of an operation until it is there."""
        status = 202
        while status not in (200, 204):
            self._threads.sleep(POLL)
            status = result(cls=lambda response, _body, _headers: response.http_response.status_code)
