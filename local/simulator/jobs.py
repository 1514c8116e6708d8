"""Jobs: what an operation started, its tasks and its end, in the shape of `AzureWorkloadJob`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from local.simulator.errors import JobError
from local.simulator.service_version import ServiceVersion
from local.simulator.timing import duration, instant

RUNNING = ("InProgress", "Cancelling")
UNREPORTED = timedelta(minutes=5)
"""Jobs of up to this length report no percentage: no recorded one did, and all were shorter."""


@dataclass
class Job:
    """One job. `operation` is what filters match (`Backup`), `shown` what an answer says (`Backup (Full)`).

    `shown_at_end` is what an answer says once it has ended. Until `young_until` it reports less.
    """

    id: str
    sequence: int
    operation: str
    entity: str
    item_name: str
    start: datetime
    due: datetime
    activity_id: str
    user_triggered: bool = True
    named: str = ""
    """The entity's name once the job is no longer young: with the server in brackets."""
    young_until: datetime | None = None
    typeless_while_young: bool = False
    task: str | None = None
    shown: str = ""
    shown_at_end: str = ""
    cancellable: bool = False
    listed: bool = True
    status: str = "InProgress"
    end: datetime | None = None
    property_bag: dict[str, str] = field(default_factory=dict)
    errors: list[JobError] = field(default_factory=list)
    dynamic_error: str | None = None
    rendered: tuple[object, bytes] | None = None
    """A cache of its entry in lists once it has ended: what the entry was made from, and its JSON."""

    @property
    def running(self) -> bool:
        return self.status in RUNNING

    def progress(self, now: datetime) -> float:
        """The share of the work done, 0 to 1."""
        whole = (self.due - self.start).total_seconds()
        return 1.0 if whole <= 0 else min(max((now - self.start).total_seconds() / whole, 0.0), 1.0)

    def finish(self, status: str, now: datetime) -> None:
        """End with that status."""
        self.status, self.end = status, now

    def render(
        self,
        prefix: str,
        now: datetime,
        service: ServiceVersion,
        *,
        details: bool,
        status: str | None = None,
    ) -> dict[str, Any]:
        """The job resource; in lists (`details` False) without its extendedInfo, as recorded."""
        shown_status = status or self.status
        young = self.young(now)
        properties: dict[str, Any] = {"jobType": "AzureWorkloadJob"}
        if self.cancellable:
            properties["actionsInfo"] = ["Cancellable"] if service.named_values else [1]
        if not (young and self.typeless_while_young):
            properties["workloadType"] = "SQLDataBase"
        properties["duration"] = duration((self.end or now) - self.start)
        if self.errors:
            properties["errorDetails"] = [error.detail() for error in self.errors]
        if details:
            properties["extendedInfo"] = self._extended(now, service, young=young)
        properties |= {
            "isUserTriggered": self.user_triggered,
            "entityFriendlyName": self.entity if young or not self.named else self.named,
            "backupManagementType": "AzureWorkload",
            "operation": self._operation(young=young),
            "status": shown_status,
            "startTime": instant(self.start),
        }
        if self.end is not None:
            properties["endTime"] = instant(self.end)
        properties["activityId"] = self.activity_id
        return {
            "id": f"{prefix}/backupJobs/{self.id}",
            "name": self.id,
            "type": "Microsoft.RecoveryServices/vaults/backupJobs",
            "properties": properties,
        }

    def young(self, now: datetime) -> bool:
        """Whether it still reports less."""
        return self.running and self.young_until is not None and now < self.young_until

    def _operation(self, *, young: bool) -> str:
        if young:
            return self.operation
        return (self.shown if self.running else self.shown_at_end) or self.operation

    def _extended(self, now: datetime, service: ServiceVersion, *, young: bool) -> dict[str, Any]:
        tasks: list[dict[str, Any]] = []
        if self.task is not None and not young:
            state = {"CompletedWithWarnings": "Completed", "Cancelling": "InProgress"}.get(
                self.status, self.status
            )
            kind = {"taskType": "Normal"} if service.named_values else {}
            tasks.append({"taskId": self.task, **kind, "status": state})
        extended: dict[str, Any] = {"tasksList": tasks, "propertyBag": dict(self.property_bag)}
        # The one recorded job that waited for the archive tier reported none.
        if self.running and tasks and self.cancellable and self.due - self.start > UNREPORTED:
            extended["progressPercentage"] = round(100 * self.progress(now), 1)
        if self.dynamic_error is not None:
            extended["dynamicErrorMessage"] = self.dynamic_error
        return extended
