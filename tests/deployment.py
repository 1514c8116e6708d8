"""What the templates deploy, as the management side of Azure shows it: the namespace and the app's settings."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from cli import rights
from tests.unit.infra.bicep import INFRA, load, parsed

JsonObject = dict[str, Any]

#: The app's identity: its client's and its object's id.
CLIENT = "33333333-3333-3333-3333-333333333333"
PRINCIPAL = "22222222-2222-2222-2222-222222222222"
APP = "func-app"
NAMESPACE = "sb-app"
TOPOLOGY_DATA = load("topology.json")
#: The settings that the templates give, with expressions where Azure fills them in.
GIVEN: dict[str, Any] = parsed(INFRA / "modules/app.bicep")["variables"]["given"]["value"]


def filled_in(arm_endpoint: str, workflows: str) -> dict[str, str]:
    """What stands in the templates for what Azure gives."""
    return {
        "AzureWebJobsStorage__blobServiceUri": "https://stapp.blob.core.windows.net/",
        "AzureWebJobsStorage__queueServiceUri": "https://stapp.queue.core.windows.net/",
        "AzureWebJobsStorage__tableServiceUri": "https://stapp.table.core.windows.net/",
        "ServiceBusConnection__fullyQualifiedNamespace": f"{NAMESPACE}.servicebus.windows.net",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=0;IngestionEndpoint=https://x",
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": f"ClientId={CLIENT};Authorization=AAD",
        "ARM_ENDPOINT": arm_endpoint,
        "WORKFLOWS": workflows,
    }


def app_settings(
    *without: str,
    arm_endpoint: str,
    workflows: str = "protect,backup,restore,coverage,drill",
) -> dict[str, str]:
    """The settings of the app, without some."""
    filled = filled_in(arm_endpoint, workflows)
    settings = {
        name: filled.get(name, CLIENT if name.lower().endswith(("clientid", "client_id")) else value)
        for name, value in (GIVEN | load("settings.json")).items()
    }
    return {name: value for name, value in settings.items() if name not in without}


def function_app(settings: dict[str, str]) -> JsonObject:
    """The app, as a scenario has it."""
    return {"name": APP, "clientId": CLIENT, "principalId": PRINCIPAL, "settings": settings}


def held() -> list[JsonObject]:
    """What the app's identity holds, as a scenario has it."""
    roles: list[JsonObject] = [
        {"roleName": role.name, "actions": list(role.actions)} for role in rights.ROLES
    ]
    roles.append(
        {
            "roleName": "Azure Service Bus Data Owner",
            "actions": ["Microsoft.ServiceBus/*"],
            "dataActions": ["Microsoft.ServiceBus/*"],
        }
    )
    roles += [{"roleName": role, "dataActions": list(actions)} for _, _, role, actions in rights.BESIDE]
    return [{**role, "principalId": PRINCIPAL} for role in roles]


def namespace() -> JsonObject:
    """The namespace, as a scenario has it."""
    topics = []
    for topic in deepcopy(TOPOLOGY_DATA["topics"]):
        own = [each for each in deepcopy(TOPOLOGY_DATA["subscriptions"]) if each["topic"] == topic["name"]]
        subscriptions = [{"name": each["name"], "properties": each["properties"]} for each in own]
        topics.append({**topic, "subscriptions": subscriptions})
    queues = [
        {"name": queue["name"], "properties": queue["properties"]}
        for queue in deepcopy(TOPOLOGY_DATA["queues"])
    ]
    return {"name": NAMESPACE, "queues": queues, "topics": topics}
