"""Resource Graph: the few queries that backup tools send, and a clear refusal of all others.

Requests, paging and headers follow a recording of 2024-08-26 (api-version 2021-03-01) and
https://learn.microsoft.com/azure/governance/resource-graph/concepts/work-with-data: only a query that is sorted and
returns ids is paged. The rows of machines and vaults are inferred from the documentation of their resource types.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

from local.simulator.authorization import may_read
from local.simulator.calls import Answer, Call
from local.simulator.errors import ServiceError
from local.simulator.world import World

#: Queries of one user within the window
#: (https://learn.microsoft.com/azure/governance/resource-graph/concepts/guidance-for-throttled-requests).
QUERIES: Final = 15
WINDOW: Final = timedelta(seconds=5)
_MOST: Final = 1000
_DEFAULT: Final = 100
_WHERE = re.compile(r"where\s+([A-Za-z.]+)\s*(=~|==)\s*(?:'([^']*)'|\"([^\"]*)\")", re.IGNORECASE)
_PROJECT = re.compile(r"project\s+(.+)", re.IGNORECASE | re.DOTALL)
_ORDER = re.compile(r"(?:order|sort)\s+by\s+(id|name)(\s+asc)?", re.IGNORECASE)
_TAKE = re.compile(r"(?:take|limit)\s+(\d+)", re.IGNORECASE)
_COLUMN = re.compile(r"(?:([A-Za-z_]\w*)\s*=\s*)?([A-Za-z_][\w.]*)")


def _refused(why: str) -> ServiceError:
    return ServiceError(
        400,
        "BadRequest",
        f"The simulator does not answer this query: {why}. It knows the table resources with where COLUMN =~ 'TEXT'"
        " (and ==), project, order by id or name, take.",
    )


def _rows(world: World) -> list[dict[str, Any]]:
    subscription = world.scenario.subscription_id
    rows: list[dict[str, Any]] = []

    def row(kind: str, group: str, name: str, location: str, properties: dict[str, Any]) -> None:
        rows.append(
            {
                "id": f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{kind}/{name}",
                "name": name,
                "type": kind.lower(),
                "tenantId": world.scenario.tenant_id,
                "kind": "",
                "location": location,
                "resourceGroup": group.lower(),
                "subscriptionId": subscription,
                "properties": properties,
            }
        )

    for machine in world.machines.values():
        if machine.instances and machine.sql_iaas_extension and not machine.deleted:
            row(
                "Microsoft.SqlVirtualMachine/sqlVirtualMachines",
                machine.name.resource_group,
                machine.name.name,
                machine.location,
                {
                    "virtualMachineResourceId": machine.name.vm_id(subscription),
                    "provisioningState": "Succeeded",
                    "sqlManagement": "Full",
                    "sqlServerLicenseType": "PAYG",
                },
            )
    for vault in world.vaults.values():
        properties = {"provisioningState": "Succeeded"}
        row("Microsoft.RecoveryServices/vaults", vault.resource_group, vault.name, vault.location, properties)
    return rows


def _value(row: dict[str, Any], column: str) -> Any:
    found: Any = row
    for part in column.split("."):
        if not isinstance(found, dict):
            return None
        found = next((value for name, value in found.items() if name.lower() == part.lower()), None)
    return found


def _projected(row: dict[str, Any], columns: str) -> dict[str, Any]:
    shown = {}
    for text in columns.split(","):
        column = _COLUMN.fullmatch(text.strip())
        if column is None:
            raise _refused(f"the column {text.strip()!r}")
        # As in Kusto, a nested column's name is made of both names.
        shown[column.group(1) or column.group(2).replace(".", "_")] = _value(row, column.group(2))
    return shown


def _answered(
    world: World, call: Call, query: str, subscriptions: list[str] | None
) -> tuple[list[dict[str, Any]], bool]:
    """The rows of a query, limited to what the caller may read, and whether it can be paged."""
    table, *steps = (part.strip() for part in query.split("|"))
    if table.lower() != "resources":
        raise _refused(f"the table {table!r}")
    rows = [row for row in _rows(world) if may_read(world, call.caller, row["id"], row["type"])]
    if subscriptions is not None:
        wanted = {text.lower() for text in subscriptions}
        rows = [row for row in rows if row["subscriptionId"].lower() in wanted]
    ordered = False
    for step in steps:
        if (where := _WHERE.fullmatch(step)) is not None:
            column, operator, one, other = where.groups()
            text = one if one is not None else other
            rows = [row for row in rows if _matches(_value(row, column), operator, text)]
        elif (order := _ORDER.fullmatch(step)) is not None:
            rows.sort(key=lambda row: str(_value(row, order.group(1))).lower())
            ordered = True
        elif (take := _TAKE.fullmatch(step)) is not None:
            rows = rows[: int(take.group(1))]
        elif (project := _PROJECT.fullmatch(step)) is not None:
            rows = [_projected(row, project.group(1)) for row in rows]
        else:
            raise _refused(f"the step {step!r}")
    return rows, ordered and all("id" in row for row in rows)


def _matches(value: Any, operator: str, text: str) -> bool:
    return str(value).lower() == text.lower() if operator == "=~" else value == text


def resources(world: World, call: Call) -> Answer:
    """POST a query of Resource Graph."""
    now = world.now
    world.graph_queries = [moment for moment in world.graph_queries if moment + WINDOW > now]
    left = QUERIES - len(world.graph_queries)
    resets = max((world.graph_queries[0] + WINDOW - now) if world.graph_queries else WINDOW, timedelta())
    headers = {
        "x-ms-user-quota-remaining": str(max(left - 1, 0)),
        "x-ms-user-quota-resets-after": f"00:00:{int(resets.total_seconds()):02d}",
    }
    if left <= 0:
        wait = {**headers, "Retry-After": str(max(int(resets.total_seconds()), 1))}
        raise ServiceError(
            429,
            "RateLimiting",
            "Please provide below info when asking for support: the query was throttled.",
            headers=wait,
        )
    world.graph_queries.append(now)
    body = call.json()
    query = body.get("query")
    if not isinstance(query, str):
        raise _refused("there is no query in it")
    options = body.get("options")
    options = options if isinstance(options, dict) else {}
    if options.get("resultFormat", "objectArray") != "objectArray":
        raise _refused("the resultFormat is not objectArray")
    subscriptions = body.get("subscriptions")
    rows, pageable = _answered(world, call, query, subscriptions if isinstance(subscriptions, list) else None)
    top = options.get("$top", _DEFAULT)
    if not isinstance(top, int) or not 1 <= top <= _MOST:
        raise _refused(f"$top is not between 1 and {_MOST}")
    token = options.get("$skipToken")
    if token is not None and not (isinstance(token, str) and token.isdigit()):
        raise _refused("its $skipToken is none of the service's")
    skip = options.get("$skip", 0)
    first = int(token) if token is not None else skip if isinstance(skip, int) else 0
    shown = rows[first : first + top]
    more = first + len(shown) < len(rows)
    answer: dict[str, Any] = {
        "totalRecords": len(rows),
        "count": len(shown),
        "data": shown,
        "facets": [],
        # Text, not a boolean, as in the service.
        "resultTruncated": "true" if more and not pageable else "false",
    }
    if more and pageable:
        answer["$skipToken"] = str(first + len(shown))
    return Answer(200, answer, headers)
