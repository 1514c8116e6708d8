"""The app's own Azure resources, read only: Service Bus namespace, Function App, storage, Application Insights.

Follows https://learn.microsoft.com/rest/api/servicebus/controlplane-stable/queues/list-by-namespace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from local.simulator.calls import Answer, Call
from local.simulator.errors import arm
from local.simulator.scenario import EntityScenario, FunctionAppScenario, NamespaceScenario
from local.simulator.world import World

Entry = TypeVar("Entry", NamespaceScenario, FunctionAppScenario)
_TYPE: Final = "Microsoft.ServiceBus/namespaces"


def list_namespaces(world: World, call: Call) -> Answer:
    """GET the namespaces of the subscription, or of a resource group."""
    found = _in_group(call, world.scenario.service_bus_namespaces)
    return Answer(200, {"value": [_namespace(world, entry) for entry in found]})


def get_namespace(world: World, call: Call) -> Answer:
    """GET one namespace."""
    return Answer(200, _namespace(world, _named_namespace(world, call)))


def list_queues(world: World, call: Call) -> Answer:
    """GET the queues of a namespace, with their properties."""
    entry = _named_namespace(world, call)
    return Answer(200, {"value": [_entity(world, entry, "queues", queue) for queue in entry.queues]})


def list_topics(world: World, call: Call) -> Answer:
    """GET the topics of a namespace."""
    entry = _named_namespace(world, call)
    return Answer(200, {"value": [_entity(world, entry, "topics", topic) for topic in entry.topics]})


def list_subscriptions(world: World, call: Call) -> Answer:
    """GET the subscriptions of a topic."""
    entry = _named_namespace(world, call)
    wanted = call.parameters["topic"].lower()
    for topic in entry.topics:
        if topic.name.lower() == wanted:
            kind = f"topics/{topic.name}/subscriptions"
            return Answer(200, {"value": [_entity(world, entry, kind, each) for each in topic.subscriptions]})
    raise arm(404, "NotFound", f"The topic '{wanted}' was not found.")


def list_sites(world: World, call: Call) -> Answer:
    """GET the Function Apps of the subscription, or of a resource group."""
    found = _in_group(call, world.scenario.function_apps)
    return Answer(200, {"value": [_site(world, entry) for entry in found]})


def get_site(world: World, call: Call) -> Answer:
    """GET one Function App."""
    return Answer(200, _site(world, _named_site(world, call)))


def list_app_settings(world: World, call: Call) -> Answer:
    """POST for the application settings of an app.

    Follows https://learn.microsoft.com/rest/api/appservice/web-apps/list-application-settings.
    """
    entry = _named_site(world, call)
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


def list_companions(world: World, call: Call) -> Answer:
    """GET the storage accounts or Application Insights components of a resource group: one per namespace in it."""
    kind = (
        "Microsoft.Storage/storageAccounts"
        if "storage" in call.route.lower()
        else "Microsoft.Insights/components"
    )
    found = [
        {
            "id": f"{_group(world, entry)}/providers/{kind}/{entry.name}",
            "name": entry.name,
            "type": kind,
            "location": world.scenario.location,
            "properties": {},
        }
        for entry in _in_group(call, world.scenario.service_bus_namespaces)
    ]
    return Answer(200, {"value": found})


def _in_group(call: Call, entries: Sequence[Entry]) -> list[Entry]:
    """The entries in the URL's resource group; all of them where it names none."""
    group = call.parameters.get("group", "").lower()
    return [entry for entry in entries if not group or entry.resource_group.lower() == group]


def _named(call: Call, entries: Sequence[Entry], parameter: str, resource_type: str) -> Entry:
    """The entry that the URL names. Raises ServiceError (404)."""
    name = call.parameters[parameter].lower()
    for entry in _in_group(call, entries):
        if entry.name.lower() == name:
            return entry
    raise arm(
        404,
        "ResourceNotFound",
        f"The Resource '{resource_type}/{name}' under resource group '{call.parameters['group'].lower()}' was not "
        "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def _named_namespace(world: World, call: Call) -> NamespaceScenario:
    return _named(call, world.scenario.service_bus_namespaces, "namespace", _TYPE)


def _named_site(world: World, call: Call) -> FunctionAppScenario:
    return _named(call, world.scenario.function_apps, "site", "Microsoft.Web/sites")


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
