"""The app's own Azure resources in a scenario: Service Bus namespaces and Function Apps."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from local.simulator.scenario.parts import Name, Part


class EntityScenario(Part):
    """A queue, topic or subscription, with its `properties` as Azure Resource Manager has them."""

    name: Name
    properties: dict[str, Any] = {}


class TopicScenario(EntityScenario):
    """A topic with its subscriptions."""

    subscriptions: tuple[EntityScenario, ...] = ()


class NamespaceScenario(Part):
    """A Service Bus namespace, as Azure Resource Manager shows it; its messages are the broker's."""

    resource_group: Name = "rg-app"
    name: Name
    sku: Literal["Basic", "Standard", "Premium"] = "Standard"
    disable_local_auth: bool = True
    queues: tuple[EntityScenario, ...] = ()
    topics: tuple[TopicScenario, ...] = ()


class FunctionAppScenario(Part):
    """A Function App, as Azure Resource Manager shows it: its user-assigned identity and its application settings."""

    resource_group: Name = "rg-app"
    name: Name
    client_id: str
    principal_id: str
    settings: dict[str, str] = Field(default_factory=dict)
