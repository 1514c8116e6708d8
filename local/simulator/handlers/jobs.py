"""Jobs: get, list and cancel."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from local.simulator.calls import Answer, Call, Effect, to_json
from local.simulator.errors import ServiceError, invalid_input
from local.simulator.estate import Vault
from local.simulator.filters import matches, moment_in, parse_filter
from local.simulator.jobs import Job
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.paging import paged
from local.simulator.world import POLL_VERSION_OF_CONTAINERS, World

_FIELDS = frozenset({"starttime", "endtime", "operation", "status", "jobid", "backupmanagementtype"})
_STATUSES = (
    "inprogress",
    "completed",
    "failed",
    "completedwithwarnings",
    "cancelled",
    "cancelling",
    "invalid",
)
_OPERATIONS = (
    "backup",
    "configurebackup",
    "crossregionrestore",
    "deletebackupdata",
    "disablebackup",
    "invalid",
    "register",
    "restore",
    "undelete",
    "unregister",
    "updatecustomermanagedkey",
)
CANCELLATION = timedelta(seconds=5)
"""How long the operation of a cancellation takes; the job stays Cancelling for longer."""


def _job(call: Call, vault: Vault) -> Job:
    job = vault.jobs.get(call.parameters["job"].lower())
    if job is None:
        raise ServiceError(404, "BMSUserErrorJobNotFound", f"Job {call.parameters['job']} was not found.")
    return job


def get_job(world: World, call: Call) -> Answer:
    """GET a job with its tasks and properties."""
    vault = world.vault(call)
    job = _job(call, vault)
    prefix = call.vault_id(vault)
    shown = job.render(prefix, world.now, world.service, details=True, status=call.unknown_status)
    return Answer(200, shown)


def list_jobs(world: World, call: Call) -> Answer:
    """GET the vault's jobs, the newest first, without their details."""
    vault = world.vault(call)
    wanted = parse_filter(call.filter, _FIELDS)
    since, until = moment_in(wanted, "starttime"), moment_in(wanted, "endtime")
    status = wanted.get("status")
    if status is not None and status.lower() not in _STATUSES:
        raise invalid_input("The filter's status is not one the service knows.")
    # PowerShell sends an empty operation to mean any.
    operation = wanted.get("operation") or None
    if operation is not None and operation.lower() not in _OPERATIONS:
        raise invalid_input("The filter's operation is not one the service knows.")
    found = [
        job
        for job in reversed(vault.jobs.values())
        if job.listed
        and (since is None or job.start >= since)
        and (until is None or (job.end or job.start) <= until + timedelta(seconds=1))
        and matches(job.status, status)
        and matches(job.operation, operation)
        and matches(job.id, wanted.get("jobid"))
    ]
    if not matches("AzureWorkload", wanted.get("backupmanagementtype")):
        found = []
    prefix = call.vault_id(vault)
    return paged(
        world,
        call,
        found,
        lambda job: job.sequence,
        lambda job: _listed(world, job, prefix, call.unknown_status),
        newest_first=True,
    )


def _listed(world: World, job: Job, prefix: str, status: str | None) -> dict[str, Any] | bytes:
    if job.running or status is not None:
        return job.render(prefix, world.now, world.service, details=False, status=status)
    made_from = (prefix, job.end)
    if job.rendered is None or job.rendered[0] != made_from:
        job.rendered = (made_from, to_json(job.render(prefix, world.now, world.service, details=False)))
    return job.rendered[1]


def cancel_job(world: World, call: Call) -> Answer:
    """POST cancel: the job goes from Cancelling to Cancelled."""
    vault = world.vault(call)
    job = _job(call, vault)
    if job.status != "InProgress" or not job.cancellable:
        raise ServiceError(
            400,
            "UserErrorJobCancellationNotAllowed",
            f"Job {job.id} is {job.status} and its operation is {job.operation}: it cannot be cancelled.",
        )
    job.status = "Cancelling"
    items = [item for item in vault.items() if item.busy_with is job]

    def end() -> None:
        if job.running:
            job.finish("Cancelled", world.now)
        for item in items:
            if item.busy_with is job:
                item.busy_with = None

    path = f"{call.vault_path(vault)}/backupJobs/{job.id}"
    world.agenda.at(world.now + world.durations.draw("cancel"), end)
    operation = start_operation(
        world,
        call,
        vault,
        path,
        status_version=POLL_VERSION_OF_CONTAINERS,
        length=CANCELLATION,
    )
    return accepted_answer(
        world, call, operation, Effect(f"{world.canonical_vault_id(vault)}/backupJobs/{job.id}", job.id)
    )
