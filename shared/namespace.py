"""The Service Bus namespace of the app, as Functions bindings define its settings.

Follows https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus#connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.bus import Bus, BusError
from shared.settings import SERVICE_BUS_CONNECTION, SettingsError, service_bus_transport

_NAMESPACE: Final = "fullyQualifiedNamespace"
#: The settings of a connection with an identity, by the last part of their names: arguments of
#: `service_bus_credential`.
_IDENTITY: Final = {
    "credential": "kind",
    "tenantId": "tenant_id",
    "clientId": "client_id",
    "clientSecret": "client_secret",
    "managedIdentityResourceId": "resource_id",
    "managedIdentityObjectId": "object_id",
}


def connect(environment: Mapping[str, str]) -> Bus:
    """The bus that `ServiceBusConnection` names, by connection string or by identity.

    Raises:
        SettingsError: the environment names no namespace, or in a form that cannot be used.
    """

    def setting(field: str) -> str:
        # The Functions host reads setting names without regard to case.
        name = f"{SERVICE_BUS_CONNECTION}__{field}"
        given = environment.get(name, "").strip()
        others = (value.strip() for key, value in environment.items() if key.lower() == name.lower())
        return given or next(filter(None, others), "")

    transport = service_bus_transport(environment)
    connection_string = environment.get(SERVICE_BUS_CONNECTION, "").strip()
    namespace = setting(_NAMESPACE)
    if not connection_string and not namespace:
        raise SettingsError(
            [
                f"{SERVICE_BUS_CONNECTION}: no namespace is set; set it to a connection string, or"
                f" {SERVICE_BUS_CONNECTION}__fullyQualifiedNamespace to NAME.servicebus.windows.net."
            ]
        )
    from shared.arm.errors import AuthenticationError
    from shared.bus.service_bus import ServiceBusBus

    try:
        if connection_string:
            return ServiceBusBus.from_connection_string(connection_string, transport=transport)
        from shared.arm.credentials import service_bus_credential

        _refuse_others(environment)
        credential = service_bus_credential(
            environment, **{argument: setting(field) for field, argument in _IDENTITY.items()}
        )
        return ServiceBusBus.with_identity(namespace, credential, transport=transport)
    except (BusError, AuthenticationError) as error:
        raise SettingsError([f"{SERVICE_BUS_CONNECTION}: {error}."]) from None


def _refuse_others(environment: Mapping[str, str]) -> None:
    """Refuse settings that only the Functions host understands: the app would silently send with another identity."""
    prefix = f"{SERVICE_BUS_CONNECTION}__".lower()
    known = {f"{prefix}{field}".lower() for field in (_NAMESPACE, *_IDENTITY)}
    others = [
        name
        for name, value in environment.items()
        if name.lower().startswith(prefix) and name.lower() not in known and value.strip()
    ]
    if others:
        raise SettingsError(
            [
                f"{name}: the app does not understand it, so it might send as another identity than the Functions host"
                f" receives as; remove it. Of {SERVICE_BUS_CONNECTION}__ the app understands"
                f" {', '.join((_NAMESPACE, *_IDENTITY))}."
                for name in sorted(others)
            ]
        )
