"""Asynchronous operations from their start to their end, and the answers that point at them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError
from local.simulator.estate import Vault
from local.simulator.faults import Fault
from local.simulator.jobs import Job
from local.simulator.naming import quoted_path
from local.simulator.operations import Operation
from local.simulator.timing import ticks
from local.simulator.world import World


def start_operation(
    world: World,
    call: Call,
    vault: Vault,
    path: str,
    *,
    status: str = "operationsStatus",
    results: str = "operationResults",
    status_version: str | None = None,
    length: timedelta,
    job: Job | None = None,
    complete: Callable[[], Any] | None = None,
    **shape: Any,
) -> Operation:
    """Start an operation whose headers point at `{path}/{status}/{id}` and `{path}/{results}/{id}`.

    After `length` `complete` runs and the operation has Succeeded; a ServiceError from it
    makes it Failed. `shape` holds further fields of `Operation`.
    """
    operation_id = (
        job.id if job is not None and shape.pop("job_id_is_operation_id", False) else world.ids.guid()
    )
    operation = Operation(
        operation_id,
        f"{path}/{status}/{operation_id}",
        f"{path}/{results}/{operation_id}",
        status_version or call.api_version,
        call.api_version,
        world.now,
        job.id if job is not None else None,
        **shape,
    )
    vault.operations[operation_id] = operation
    if "operationNeverEnds" in call.faults:
        return operation
    end = partial(_end_operation, world, operation, call.faults.get("operationFailure"), complete)
    world.agenda.after(length, end)
    return operation


def _end_operation(
    world: World, operation: Operation, failure: Fault | None, complete: Callable[[], Any] | None
) -> None:
    if failure is not None:
        code = failure.code or "CloudInternalError"
        operation.job_id = None
        message = failure.message or "Microsoft Azure Backup encountered an internal error."
        operation.finish(world.now, (code, message), failure.status or 500)
        return
    try:
        if complete is not None:
            complete()
    except ServiceError as error:
        operation.finish(world.now, (error.code, error.message), error.status)
    else:
        operation.finish(world.now)


def accepted_answer(world: World, call: Call, operation: Operation, effect: Effect | None = None) -> Answer:
    """The 202 of an operation that has started or is still running."""
    return Answer(
        202, {} if operation.body_while_running else None, poll_headers(world, call, operation), effect
    )


def poll_headers(world: World, call: Call, operation: Operation) -> dict[str, str]:
    """Location, Azure-AsyncOperation and Retry-After of an operation."""
    query = f"api-version={operation.result_version}"
    if operation.malformed_location:
        # Until 2023 there were two question marks; since then the second is encoded, and so is what follows it.
        query = (
            f"fabricName=Azure{quote('?' + query, safe='-').replace('%3F', '%3f').replace('%3D', '%3d')}"
            if world.service.new_front_end
            else f"fabricName=Azure?{query}"
        )
    return {
        "Location": operation_url(world, call, operation.result_path, query),
        "Azure-AsyncOperation": operation_url(
            world, call, operation.status_path, f"api-version={operation.status_version}"
        ),
        "Retry-After": str(world.scenario.retry_after),
    }


def operation_url(world: World, call: Call, path: str, query: str) -> str:
    """An absolute URL, with the signature that Resource Manager appends since 2024."""
    signature = world.signer.sign(path, ticks(world.now)) if world.service.new_front_end else ""
    return f"{call.request.origin}{quoted_path(path)}?{query}{signature}"
