"""What the Bicep templates load: queues, roles, settings and workflows, generated from the code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cli import rights
from cli.entities import queue_properties, subscription_properties, topic_properties
from functions.blueprints import FUNCTIONS
from shared.bus.topology import Topology
from shared.settings import read_settings

#: Settings that the templates set themselves, or that are for a simulator only.
_SET_ELSEWHERE: Final = frozenset({"WORKFLOWS", "ARM_ENDPOINT", "TIME_SCALE"})
#: Workflows that restore: of two apps with separated duties, the second serves them.
_RESTORING: Final = frozenset({"restore", "drill"})


def topology_data(topology: Topology, served: Callable[[str], Sequence[str]]) -> dict[str, Any]:
    """The queues with the workflows that need them, the topics and their subscriptions."""
    return {
        "queues": [
            {"name": queue.name, "workflows": list(served(queue.name)), "properties": queue_properties(queue)}
            for queue in topology.queues
        ],
        "topics": [{"name": topic.name, "properties": topic_properties(topic)} for topic in topology.topics],
        "subscriptions": [
            {
                "topic": topic.name,
                "name": subscription.name,
                "properties": subscription_properties(subscription),
            }
            for topic in topology.topics
            for subscription in topic.subscriptions
        ],
    }


def roles_data() -> list[dict[str, Any]]:
    """The custom roles; `option` is empty if the workflow alone needs the role."""
    return [
        {
            "name": role.name,
            "description": f"Lets SQL VM Backup Functions {role.says}.",
            "scope": role.scope.value,
            "workflows": sorted(role.workflows),
            "option": role.option or "",
            "actions": list(role.actions),
        }
        for role in rights.ROLES
    ]


def built_in_roles_data() -> dict[str, str]:
    """The ids of the built-in roles that the templates assign."""
    return {
        "serviceBusDataOwner": rights.SERVICE_BUS_DATA_OWNER,
        "storageBlobDataOwner": rights.STORAGE_BLOB_DATA_OWNER,
        "storageTableDataContributor": rights.STORAGE_TABLE_DATA_CONTRIBUTOR,
        "monitoringMetricsPublisher": rights.MONITORING_METRICS_PUBLISHER,
    }


def settings_data(sample: Mapping[str, str]) -> dict[str, str]:
    """The app's own settings with their defaults, from the sample of local settings."""
    own = set(_asked_for())
    return {name: value for name, value in sample.items() if name in own - _SET_ELSEWHERE}


def workflows_data() -> dict[str, list[str]]:
    """The workflows that an app may serve, and those of them that restore."""
    known = [name for name in FUNCTIONS if name != "every"]
    return {"all": known, "restoring": [name for name in known if name in _RESTORING]}


#: Charts of Service Bus by title: metrics, their aggregation (as workbooks number it), and whether split by queue.
_CHARTS: Final[dict[str, tuple[tuple[str, ...], int, bool]]] = {
    "Messages that no function has taken yet, by queue": (("ActiveMessages",), 3, True),
    "Scheduled messages, by queue: those of `track` are the jobs in flight": (
        ("ScheduledMessages",),
        3,
        True,
    ),
    "Messages that were completed, by queue": (("CompleteMessage",), 1, True),
    "Requests that Service Bus refuses": (("ThrottledRequests", "ServerErrors", "UserErrors"), 1, False),
}
_NAMESPACE: Final = "microsoft.servicebus/namespaces"
#: As long as the workspace keeps lines; each query sets its own range.
_MONTH: Final = {"durationMs": 30 * 24 * 3600 * 1000}


def workbook_data(queries: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The workbook of one app: charts of its namespace, then the saved queries.

    `{app}`, `{namespaceId}` and `{workspaceId}` are filled in by the template. `{request}` is a field of the page.
    Follows https://learn.microsoft.com/azure/azure-monitor/visualize/workbooks-overview, whose JSON has no published
    schema; its form is that of workbooks which the portal has written.
    """
    asked = {
        "version": "KqlParameterItem/1.0",
        "parameters": [
            {
                "id": "5c4f6f0c-1a3e-4f0e-9d2b-0e4b7d9a6c11",
                "version": "KqlParameterItem/1.0",
                "name": "request",
                "label": "Request",
                "description": "The id of a request, for the table of its story",
                "type": 1,
                "value": "",
            }
        ],
        "style": "pills",
    }
    text = "What the alerts mean and what to do is in docs/operations.md of SQL VM Backup Functions."
    items: list[tuple[str, int, dict[str, Any]]] = [("purpose", 1, {"json": text})]
    items += [(title, 10, _chart(title, *chart)) for title, chart in _CHARTS.items()]
    items.append(("fields", 9, asked))
    items += [(query["name"], 3, _query(query)) for query in queries]
    return {
        "version": "Notebook/1.0",
        "items": [{"type": kind, "content": content, "name": name} for name, kind, content in items],
        "fallbackResourceIds": ["{workspaceId}"],
    }


def _chart(title: str, metrics: Sequence[str], aggregation: int, by_queue: bool) -> dict[str, Any]:
    split = {"splitBy": ["EntityName"], "splitBySortOrder": -1, "splitByLimit": 30} if by_queue else {}
    return {
        "version": "MetricsItem/2.0",
        "chartId": f"chart-{metrics[0]}",
        "chartType": 2,
        "size": 0,
        "resourceType": _NAMESPACE,
        "metricScope": 0,
        "resourceIds": ["{namespaceId}"],
        "timeContext": {"durationMs": 24 * 3600 * 1000},
        "metrics": [
            {
                "namespace": _NAMESPACE,
                "metric": f"{_NAMESPACE}--{name}",
                "aggregation": aggregation,
                **split,
            }
            for name in metrics
        ],
        "title": title,
    }


def _query(query: Mapping[str, str]) -> dict[str, Any]:
    """A saved query, limited to the app and to the request chosen in the workbook."""
    text = re.sub(r"\b(App[A-Z]\w+)\n", r"\1\n| where AppRoleName =~ '{app}'\n", query["query"])
    return {
        "version": "KqlItem/1.0",
        "query": text.replace("'nightly-7'", "'{request}'"),
        "size": 0,
        "title": query["displayName"],
        "timeContext": _MONTH,
        "queryType": 0,
        "resourceType": "microsoft.operationalinsights/workspaces",
        "crossComponentResources": ["{workspaceId}"],
        "visualization": "table",
    }


class _Asked(dict[str, str]):
    """An environment without settings, which records the names that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        self.names.append(key)
        return default


def _asked_for() -> Iterator[str]:
    environment = _Asked()
    read_settings(environment)
    yield from environment.names


# Documentation


#: What the actions in the table begin with, unless they are given in full.
VAULT_ACTIONS: Final = "Microsoft.RecoveryServices/Vaults/"


def actions_rows() -> list[tuple[str, ...]]:
    """The actions of each custom role: rows of a Markdown table."""
    return [
        (
            f"`{role.name}`",
            "<br>".join(f"`{action.removeprefix(VAULT_ACTIONS)}`" for action in role.actions),
        )
        for role in rights.ROLES
    ]


def roles_rows() -> list[tuple[str, ...]]:
    """The custom roles: rows of a Markdown table."""
    return [
        (
            f"`{role.name}`",
            ", ".join(sorted(role.workflows, key=_order))
            + (f", with `{role.option}`" if role.option else ""),
            _SCOPES[role.scope],
            role.says,
        )
        for role in rights.ROLES
    ]


_SCOPES: Final = {
    rights.Scope.VAULT: "each vault",
    rights.Scope.VAULT_RESOURCE_GROUP: "the resource group of each vault",
    rights.Scope.SUBSCRIPTION: "the subscription of each vault",
    rights.Scope.VIRTUAL_MACHINE: "each VM; for restores and drills, source and target",
    rights.Scope.DRILL_VIRTUAL_MACHINE: "each VM kept for drills",
}


def _order(workflow: str) -> tuple[int, str]:
    known = ["protect", "backup", "restore", "coverage", "drill"]
    return (known.index(workflow) if workflow in known else len(known), workflow)
