"""Asynchronous operations: their status, in the forms of the real service, and their result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.simulator.timing import NO_END, instant


@dataclass
class Operation:
    """One operation. Its headers point at `status_path` and `result_path`, given here without origin and query."""

    id: str
    status_path: str
    result_path: str
    status_version: str
    result_version: str
    start: datetime
    job_id: str | None = None
    status: str = "InProgress"
    end: datetime | None = None
    error: tuple[str, str] | None = None
    failure_status: int = 400
    body_while_running: bool = False
    """Whether answers that say "still running" have the body `{}`, as registrations do."""
    malformed_location: bool = False
    """Whether its Location has two question marks, as an unregistration's."""
    full_id: bool = False
    """Whether its status has the whole path as id and never an end time, as for a registration."""
    endless: bool = False
    """Whether its status never has an end time, as for a restore from the archive tier."""
    properties: dict[str, Any] | None = None
    """The properties of its status once it has succeeded, if it has no job."""
    result: Callable[[], dict[str, Any] | None] | None = None
    """Gives the resource that `operationResults` returns at the end; without it the answer is 204."""

    @property
    def running(self) -> bool:
        return self.status == "InProgress"

    def finish(self, now: datetime, error: tuple[str, str] | None = None, status: int = 400) -> None:
        """End: Succeeded, or Failed with a code and a message."""
        if not self.running:
            return
        self.end = now
        self.error = error
        self.failure_status = status
        self.status = "Succeeded" if error is None else "Failed"

    def render(self, path: str, *, at_vault: bool, status: str | None = None) -> dict[str, Any]:
        """The status resource. `path` is the request's; `at_vault`: it was a request for `backupOperations`."""
        ended = not self.running
        # An operation that created a job and succeeded has its start time as its end time, as in all 35 recordings.
        end = NO_END
        if ended and not self.endless and (at_vault or not self.full_id):
            end = instant(
                self.start if self.job_id is not None and self.error is None else self.end or self.start
            )
        body: dict[str, Any] = {
            "id": path if self.full_id and not at_vault else self.id,
            "name": self.id,
            "status": status or self.status,
            "startTime": instant(self.start),
            "endTime": end,
        }
        if ended and self.error is not None:
            body["error"] = {"code": self.error[0], "message": self.error[1]}
        elif ended and self.job_id is not None:
            body["properties"] = {"objectType": "OperationStatusJobExtendedInfo", "jobId": self.job_id}
        elif ended and self.properties is not None:
            body["properties"] = self.properties
        return body
