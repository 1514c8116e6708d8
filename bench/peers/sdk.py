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

        def discover() -> None:
            containers = self.client.protection_containers
            operation = self._operation_of(
                lambda cls: containers.refresh(
                    self._vault,
                    self._group,
                    _FABRIC,
                    filter="backupManagementType eq 'AzureWorkload'",
                    cls=cls,
                )
            )
            results = self.client.protection_container_refresh_operation_results
            while True:
                self._threads.sleep(POLL)
                if self._status(
                    lambda cls: results.get(self._vault, self._group, _FABRIC, operation, cls=cls)
                ) in (200, 204):
                    break
            offered = self.client.protectable_containers.list(
                self._vault, self._group, _FABRIC, filter="backupManagementType eq 'AzureWorkload'"
            )
            found = next(
                container for container in offered if container.properties.container_id.lower() == vm.lower()
            )
            container = m.ProtectionContainerResource(
                properties=m.AzureVMAppContainerProtectionContainer(
                    backup_management_type="AzureWorkload",
                    source_resource_id=vm,
                    workload_type="SQLDataBase",
                    operation_type="Register",
                )
            )
            poller = containers.begin_register(
                self._vault, self._group, _FABRIC, found.name, container, polling=_Polling(timeout=POLL)
            )
            poller.polling_method().follow()
            operation = self._operation_of(
                lambda cls: containers.inquire(
                    self._vault,
                    self._group,
                    _FABRIC,
                    found.name,
                    filter="workloadType eq 'SQLDataBase'",
                    cls=cls,
                )
            )
            done = self.client.protection_container_operation_results
            while True:
                self._threads.sleep(POLL)
                if self._status(
                    lambda cls: done.get(self._vault, self._group, _FABRIC, found.name, operation, cls=cls)
                ) in (200, 204):
                    break
            items = self.client.backup_protectable_items.list(self._vault, self._group, filter=_SQL_DATABASES)
            self._found = [
                (found.name, item.name)
                for item in items
                if item.properties.protectable_item_type.lower() == "sqldatabase"
            ]

        self._threads.run([discover], threads=1)
        self._threads.run([partial(self._protect, *item, policy) for item in self._found], threads=_POOL)
        self.back_up(self._found)

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
                        lambda cls: self.client.backups.trigger(
                            self._vault, self._group, _FABRIC, container, item, request, cls=cls
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

    def _operation_of(self, call: Callable[[Any], Any]) -> str:
        location: str = call(lambda response, _body, _headers: response.http_response.headers["Location"])
        return location.split("?", maxsplit=1)[0].rsplit("/", 1)[1]

    def _status(self, call: Callable[[Any], Any]) -> int:
        return int(call(lambda response, _body, _headers: response.http_response.status_code))
