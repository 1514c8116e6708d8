"""The namespace as an Azure Resource Manager template, made from the topology of the app.

Follows https://learn.microsoft.com/azure/templates/microsoft.servicebus/2024-01-01/namespaces/queues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from cli.entities import queue_properties, subscription_properties, topic_properties
from shared.bus.topology import Queue, Subscription, Topic, Topology

_SCHEMA: Final = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
_API_VERSION: Final = "2024-01-01"
_NAMESPACE: Final = "Microsoft.ServiceBus/namespaces"
_NAME: Final = "parameters('namespaceName')"

Resource = dict[str, Any]


def namespace_template(
    topology: Topology,
    *,
    workflows: Sequence[str],
    served: Callable[[str], Sequence[str]],
) -> Resource:
    """A template that creates the namespace with its queues, its topic and the topic's subscriptions.

    Args:
        workflows: all that an app may serve; the template's parameter of that name takes some of them.
        served: the workflows that need a queue.
    """
    queues = [_queue(queue, served(queue.name), workflows) for queue in topology.queues]
    topics: list[Resource] = []
    for topic in topology.topics:
        topics.append(_topic(topic))
        topics += [_subscription(topic, subscription) for subscription in topic.subscriptions]
    return {
        "$schema": _SCHEMA,
        "contentVersion": "1.0.0.0",
        "parameters": {
            "namespaceName": {"type": "string", "metadata": {"description": "Name of the namespace."}},
            "location": {"type": "string", "defaultValue": "[resourceGroup().location]"},
            "sku": {"type": "string", "defaultValue": "Standard", "allowedValues": ["Standard", "Premium"]},
            "workflows": {
                "type": "array",
                "defaultValue": list(workflows),
                "metadata": {
                    "description": "The workflows that the app serves. Only their queues are created."
                },
            },
        },
        "resources": [
            {
                "type": _NAMESPACE,
                "apiVersion": _API_VERSION,
                "name": f"[{_NAME}]",
                "location": "[parameters('location')]",
                "sku": {"name": "[parameters('sku')]", "tier": "[parameters('sku')]"},
                # Identities only: there is no connection string to lose.
                "properties": {"disableLocalAuth": True, "minimumTlsVersion": "1.2"},
            },
            *queues,
            *topics,
        ],
        "outputs": {
            "fullyQualifiedNamespace": {
                "type": "string",
                "value": f"[split(split(reference({_NAME}).serviceBusEndpoint, '//')[1], ':')[0]]",
            }
        },
    }


def _queue(queue: Queue, needed_by: Sequence[str], workflows: Sequence[str]) -> Resource:
    resource: Resource = {
        "type": f"{_NAMESPACE}/queues",
        "apiVersion": _API_VERSION,
        "name": f"[concat({_NAME}, '/{queue.name}')]",
    }
    if set(needed_by) != set(workflows):
        asked = ", ".join(f"contains(parameters('workflows'), '{workflow}')" for workflow in needed_by)
        resource["condition"] = f"[or({asked})]" if len(needed_by) > 1 else f"[{asked}]"
    forwards_to = queue.forward_dead_letters_to
    before = [_id("namespaces")]
    if forwards_to is not None:
        before.append(_id("namespaces/queues", forwards_to))
    return {
        **resource,
        "dependsOn": before,
        "properties": queue_properties(queue),
    }


def _topic(topic: Topic) -> Resource:
    return {
        "type": f"{_NAMESPACE}/topics",
        "apiVersion": _API_VERSION,
        "name": f"[concat({_NAME}, '/{topic.name}')]",
        "dependsOn": [_id("namespaces")],
        "properties": topic_properties(topic),
    }


def _subscription(topic: Topic, subscription: Subscription) -> Resource:
    return {
        "type": f"{_NAMESPACE}/topics/subscriptions",
        "apiVersion": _API_VERSION,
        "name": f"[concat({_NAME}, '/{topic.name}/{subscription.name}')]",
        "dependsOn": [_id("namespaces/topics", topic.name)],
        "properties": subscription_properties(subscription),
    }


def _id(kind: str, *names: str) -> str:
    parts = "".join(f", '{name}'" for name in names)
    return f"[resourceId('Microsoft.ServiceBus/{kind}', {_NAME}{parts})]"
