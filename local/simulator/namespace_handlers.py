"""The management side of the app and what stands beside it: namespaces with entities, storage, components. Read only.

Follows https://learn.microsoft.com/rest/api/servicebus/controlplane-stable/queues/list-by-namespace.
"""

from __future__ import annotations

from typing import Any, Final

from local.simulator.calls import Answer, Call
from local.simulator.errors import arm
from local.simulator.scenario import EntityScenario, FunctionAppScenario, NamespaceScenario
from local.simulator.world import World

_TYPE: Final = "Microsoft.ServiceBus/namespaces"


def list_namespaces(world: World, call: Call) -> Answer:
    """GET the namespaces of the subscription, or of a resource group."""
    group = call.parameters.get("group", "").lower()
    found = [
        _namespace(world, entry)
        for entry in world.scenario.service_bus_namespaces
        if not group or entry.resource_group.lower() == group
    ]
    return Answer(200, {"value": found})


def get_namespace(world: World, call: Call) -> Answer:
    """GET one namespace."""
    return Answer(200, _namespace(world, _find(world, call)))


def list_queues(world: World, call: Call) -> Answer:
    """GET the queues of a namespace, with their properties."""
    entry = _find(world, call)
    return Answer(200, {"value": [_entity(world, entry, "queues", queue) for queue in entry.queues]})


def list_topics(world: World, call: Call) -> Answer:
    """GET the topics of a namespace."""
    entry = _find(world, call)
    return Answer(200, {"value": [_entity(world, entry, "topics", topic) for topic in entry.topics]})


def list_subscriptions(world: World, call: Call) -> Answer:
    """GET the subscriptions of a topic."""
    entry = _find(world, call)
    wanted = call.parameters["topic"].lower()
    for topic in entry.topics:
        if topic.name.lower() == wanted:
            kind = f"topics/{topic.name}/subscriptions"
            return Answer(200, {"value": [_entity(world, entry, kind, each) for each in topic.subscriptions]})
    raise arm(404, "NotFound", f"The topic '{wanted}' was not found.")


def list_sites(world: World, call: Call) -> Answer:
    """GET the Function Apps of the subscription, or of a resource group."""
    group = call.parameters.get("group", "").lower()
    found = [
        _site(world, entry)
        for entry in world.scenario.function_apps
        if not group or entry.resource_group.lower() == group
    ]
    return Answer(200, {"value": found})


def get_site(world: World, call: Call) -> Answer:
    """GET one Function App."""
    return Answer(200, _site(world, _find_site(world, call)))


def list_app_settings(world: World, call: Call) -> Answer:
    """POST for the application settings of an app.

    Follows https://learn.microsoft.com/rest/api/appservice/web-apps/list-application-settings.
    """
    entry = _find_site(world, call)
    return Answer(
        200,
        {
            "id": f"{_site(world, entry)['id']}/config/appsettings",
            "name": "appsettings",
            "type": "Microsoft.Web/sites/config",
            "location": world.scenario.location,
            "properties": dict(entry.settings),
        },
    )


def list_beside(world: World, call: Call) -> Answer:
    """GET the storage accounts or components of a resource group: one of each beside every namespace of it."""
    kind = (
        "Microsoft.Storage/storageAccounts"
        if "storage" in call.route.lower()
        else "Microsoft.Insights/components"
    )
    group = call.parameters["group"]
    found = [
        {
            "id": f"{_group(world, entry)}/providers/{kind}/{entry.name}",
            "name": entry.name,
            "type": kind,
            "location": world.scenario.location,
            "properties": {},
        }
        for entry in world.scenario.service_bus_namespaces
        if entry.resource_group.lower() == group.lower()
    ]
    return Answer(200, {"value": found})


def _find(world: World, call: Call) -> NamespaceScenario:
    group, name = call.parameters["group"].lower(), call.parameters["namespace"].lower()
    for entry in world.scenario.service_bus_namespaces:
        if (entry.resource_group.lower(), entry.name.lower()) == (group, name):
            return entry
    raise arm(
        404,
        "ResourceNotFound",
        f"The Resource '{_TYPE}/{name}' under resource group '{group}' was not found. For more details please go to "
        "https://aka.ms/ARMResourceNotFoundFix",
    )


def _find_site(world: World, call: Call) -> FunctionAppScenario:
    group, name = call.parameters["group"].lower(), call.parameters["site"].lower()
    for entry in world.scenario.function_apps:
        if (entry.resource_group.lower(), entry.name.lower()) == (group, name):
            return entry
    raise arm(
        404,
        "ResourceNotFound",
        f"The Resource 'Microsoft.Web/sites/{name}' under resource group '{group}' was not found. For more details "
        "please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def _site(world: World, entry: FunctionAppScenario) -> dict[str, Any]:
    group = _group(world, entry)
    identity = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-{entry.name}"
    return {
        "id": f"{group}/providers/Microsoft.Web/sites/{entry.name}",
        "name": entry.name,
        "type": "Microsoft.Web/sites",
        "kind": "functionapp,linux",
        "location": world.scenario.location,
        "identity": {
            "type": "UserAssigned",
            "userAssignedIdentities": {
                identity: {"clientId": entry.client_id, "principalId": entry.principal_id}
            },
        },
        "properties": {"state": "Running"},
    }


def _group(world: World, entry: NamespaceScenario | FunctionAppScenario) -> str:
    return f"/subscriptions/{world.scenario.subscription_id}/resourceGroups/{entry.resource_group}"


def _namespace(world: World, entry: NamespaceScenario) -> dict[str, Any]:
    return {
        "id": f"{_group(world, entry)}/providers/{_TYPE}/{entry.name}",
        "name": entry.name,
        "type": _TYPE,
        "location": world.scenario.location,
        "sku": {"name": entry.sku, "tier": entry.sku},
        "properties": {
            "disableLocalAuth": entry.disable_local_auth,
            "minimumTlsVersion": "1.2",
            "provisioningState": "Succeeded",
            "status": "Active",
            "serviceBusEndpoint": f"https://{entry.name}.servicebus.windows.net:443/",
        },
    }


def _entity(world: World, entry: NamespaceScenario, kind: str, entity: EntityScenario) -> dict[str, Any]:
    return {
        "id": f"{_group(world, entry)}/providers/{_TYPE}/{entry.name}/{kind}/{entity.name}",
        "name": entity.name,
        "type": f"{_TYPE}/{kind}",
        "properties": {"status": "Active", "enablePartitioning": False, **entity.properties},
    }
