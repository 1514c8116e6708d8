"""SQL virtual machines by Resource Graph.

Form of request, answer and quota headers as Azure/azure-cli recorded them on 2024-08-26
(test_community_gallery_operations.yaml, api-version 2021-03-01); the rows are those of the documented columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared.arm.errors import ArmProtocolError, ArmStatusError
from shared.arm.ids import InvalidResourceIdError, VirtualMachineId
from shared.azure_backup.operations import AzureBackup
from tests.unit.arm.server import SUBSCRIPTION, Answer, Server, client_of, serving

QUOTA = {
    "x-ms-ratelimit-remaining-tenant-resource-requests": "14",
    "x-ms-user-quota-remaining": "14",
    "x-ms-user-quota-resets-after": "00:00:05",
}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Server, AzureBackup]]:
    with serving() as server, client_of(server.url) as arm:
        yield server, AzureBackup(arm)


@pytest.fixture
def server(running: tuple[Server, AzureBackup]) -> Server:
    running[0].requests.clear()
    return running[0]


@pytest.fixture
def backup(running: tuple[Server, AzureBackup]) -> AzureBackup:
    return running[1]


def machine(name: str) -> str:
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-sql/providers/Microsoft.Compute/virtualMachines/{name}"


def row(name: str, **changes: Any) -> dict[str, Any]:
    kind = "Microsoft.SqlVirtualMachine/sqlVirtualMachines"
    id_ = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-sql/providers/{kind}/{name}"
    return {"id": id_, "name": name, "virtualMachineId": machine(name), **changes}


def answer(*rows: object, **more: Any) -> Answer:
    body = {
        "totalRecords": len(rows),
        "count": len(rows),
        "data": list(rows),
        "facets": [],
        "resultTruncated": "false",
        **more,
    }
    return Answer(200, body, QUOTA)


def test_every_page_is_asked_for_with_the_token_of_the_one_before(
    server: Server, backup: AzureBackup
) -> None:
    server.answer(answer(row("sql1"), row("sql2"), **{"$skipToken": "next"}), answer(row("sql3")))
    found, unusable = backup.list_sql_virtual_machines(SUBSCRIPTION)
    assert [one.name for one in found] == ["sql1", "sql2", "sql3"]
    assert unusable == []
    assert [request.method for request in server.requests] == ["POST", "POST"]
    assert {request.path for request in server.requests} == {"/providers/Microsoft.ResourceGraph/resources"}
    assert server.requests[0].params == {"api-version": "2021-03-01"}
    first, second = (request.json for request in server.requests)
    assert first["subscriptions"] == [SUBSCRIPTION]
    assert "sqlvirtualmachines'" in first["query"]
    assert first["options"] == {"resultFormat": "objectArray", "$top": 1000}
    assert second == {**first, "options": {**first["options"], "$skipToken": "next"}}


def test_a_vm_that_is_listed_twice_is_one(server: Server, backup: AzureBackup) -> None:
    server.answer(answer(row("sql1"), row("other", virtualMachineId=machine("SQL1"))))
    assert backup.list_sql_virtual_machines(SUBSCRIPTION).usable == [VirtualMachineId.parse(machine("sql1"))]


@pytest.mark.parametrize("given", [None, "", "/subscriptions/x", 7])
def test_a_row_without_a_usable_id_is_told(given: object, server: Server, backup: AzureBackup) -> None:
    server.answer(answer(row("odd", virtualMachineId=given), row("sql1")))
    found, unusable = backup.list_sql_virtual_machines(SUBSCRIPTION)
    assert [one.name for one in found] == ["sql1"]
    assert [(one.name, one.code) for one in unusable] == [("odd", "NotAddressable")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": {"columns": [], "rows": []}},
        {"data": ["x"]},
        {"data": [row("sql1")], "resultTruncated": "true"},
    ],
)
def test_an_answer_that_is_no_whole_list_is_an_error(
    body: dict[str, Any], server: Server, backup: AzureBackup
) -> None:
    server.answer(Answer(200, body))
    with pytest.raises(ArmProtocolError):
        backup.list_sql_virtual_machines(SUBSCRIPTION)


def test_pages_that_lead_nowhere_end(server: Server, backup: AzureBackup) -> None:
    server.answer(answer(row("sql1"), **{"$skipToken": "same"}))
    with pytest.raises(ArmProtocolError, match="nowhere"):
        backup.list_sql_virtual_machines(SUBSCRIPTION)


def test_a_refusal_says_how_long_to_wait(server: Server, backup: AzureBackup) -> None:
    error = {"error": {"code": "RateLimiting", "message": "Too many queries."}}
    server.answer(Answer(429, error, {"retry-after": "5"}), answer(row("sql1")))
    with pytest.raises(ArmStatusError) as caught:
        backup.list_sql_virtual_machines(SUBSCRIPTION)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 5
    # It is no write, and holds up neither writes nor the next query.
    assert len(backup.list_sql_virtual_machines(SUBSCRIPTION).usable) == 1
    assert backup.budget.left("", "subscription-writes") == 200


def test_a_subscription_that_is_none_is_not_asked_about(server: Server, backup: AzureBackup) -> None:
    with pytest.raises(InvalidResourceIdError):
        backup.list_sql_virtual_machines("x' or 1")
    assert server.requests == []
