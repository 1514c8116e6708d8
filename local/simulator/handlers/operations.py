"""Asynchronous operations: status and result."""

from __future__ import annotations

from local.simulator.calls import Answer, Call
from local.simulator.errors import ServiceError, arm
from local.simulator.estate import Vault
from local.simulator.naming import encoded
from local.simulator.operation_lifecycle import accepted_answer, operation_url
from local.simulator.operations import Operation
from local.simulator.world import World


def _operation(world: World, call: Call) -> tuple[Vault, Operation]:
    vault = world.vault(call)
    operation = vault.operations.get(call.parameters["operation"].lower())
    if operation is None:
        raise ServiceError(
            404, "OperationNotFound", f"There is no operation {call.parameters['operation']} in this vault."
        )
    if not world.signer.verify(call.path, call.query):
        raise arm(400, "InvalidAsyncOperationUrl", "The signature of the operation's URL is not valid.")
    return vault, operation


def operation_status(world: World, call: Call) -> Answer:
    """GET the status of an operation: always 200 while there is one."""
    _, operation = _operation(world, call)
    at_vault = "/backupoperations/" in call.path.lower()
    headers = {"Retry-After": str(world.scenario.retry_after)} if operation.running else {}
    body = operation.render(encoded(call.path), at_vault=at_vault, status=call.unknown_status)
    return Answer(200, body, headers)


def operation_result(world: World, call: Call) -> Answer:
    """GET the result of an operation: 202 while it runs, then 200 with the resource or 204, or its error."""
    _, operation = _operation(world, call)
    in_container = (
        "/protectioncontainers/" in call.path.lower() and "/protecteditems/" not in call.path.lower()
    )
    if operation.running:
        answer = accepted_answer(world, call, operation)
        if in_container:
            answer.body = {}
            answer.headers |= _container_urls(world, call, operation)
        elif call.path.lower().endswith(f"/backupfabrics/azure/operationresults/{operation.id}"):
            # Recorded for refreshes in 2020 and 2021, and in the specification's example.
            del answer.headers["Azure-AsyncOperation"]
        return answer
    if operation.error is not None:
        raise ServiceError(operation.failure_status, operation.error[0], operation.error[1])
    body = operation.result() if operation.result is not None else None
    if body is None:
        typed = in_container and world.service.type_of_nothing
        headers = {"Content-Type": "application/json; charset=utf-8"} if typed else {}
        return Answer(204, None, headers)
    return Answer(200, body)


def _container_urls(world: World, call: Call, operation: Operation) -> dict[str, str]:
    # Under a container, the operation's URLs are the container's, whatever the first answer said (recorded
    # for unregistration, whose first Location was at the vault).
    base = call.path.rsplit("/", 2)[0]
    version = call.api_version or operation.result_version
    return {
        "Location": operation_url(
            world, call, f"{base}/operationResults/{operation.id}", f"api-version={version}"
        ),
        "Azure-AsyncOperation": operation_url(
            world, call, f"{base}/operationsStatus/{operation.id}", f"api-version={operation.status_version}"
        ),
    }
