"""The Service Bus namespace of the app, as Functions bindings define its settings.

Follows https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus#connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.bus import Bus, BusError
from shared.settings import (
    SERVICE_BUS_CONNECTION,
    SERVICE_BUS_NAMESPACE,
    SettingsError,
    host_setting,
    service_bus_transport,
)

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
#: What the Functions host puts before the connection's name, and reads before the name itself.
_READ_FIRST: Final = ("AzureWebJobs", "ConnectionStrings__", "CUSTOMCONNSTR_")


def connect(environment: Mapping[str, str]) -> Bus:
    """The bus that `ServiceBusConnection` names, by connection string or by identity.

    Raises:
        SettingsError: the environment names none, names it in a form that cannot be used, or names another one to the
            Functions host.
    """
    transport = service_bus_transport(environment)
    _refuse_another_connection(environment)
    _refuse_two_values(environment)
    connection_string = host_setting(environment, SERVICE_BUS_CONNECTION)
    namespace = host_setting(environment, SERVICE_BUS_NAMESPACE)
    if not connection_string and not namespace:
        raise SettingsError(
            [
                f"{SERVICE_BUS_CONNECTION}: no namespace is set; set it to a connection string, or"
                f" {SERVICE_BUS_NAMESPACE} to NAME.servicebus.windows.net."
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
            environment,
            **{
                argument: host_setting(environment, f"{SERVICE_BUS_CONNECTION}__{field}")
                for field, argument in _IDENTITY.items()
            },
        )
        return ServiceBusBus.with_identity(namespace, credential, transport=transport)
    except (BusError, AuthenticationError) as error:
        raise SettingsError([f"{SERVICE_BUS_CONNECTION}: {error}."]) from None


def _refuse_another_connection(environment: Mapping[str, str]) -> None:
    """By a name that the Functions host reads first, it would receive from another namespace than the app sends to."""
    first = tuple(f"{prefix}{SERVICE_BUS_CONNECTION}".lower() for prefix in _READ_FIRST)
    others = [name for name, value in environment.items() if name.lower().startswith(first) and value.strip()]
    if others:
        raise SettingsError(
            [
                f"{name}: the Functions host would receive by it, and not by {SERVICE_BUS_CONNECTION}, which the app"
                f" sends by; remove it, or rename it to {SERVICE_BUS_CONNECTION}."
                for name in sorted(others)
            ]
        )


def _refuse_two_values(environment: Mapping[str, str]) -> None:
    """Of two names that differ only in case, the Functions host takes one, and nothing says which."""
    names: dict[str, list[str]] = {}
    for name, value in environment.items():
        if name.lower().startswith(SERVICE_BUS_CONNECTION.lower()) and value.strip():
            names.setdefault(name.lower(), []).append(name)
    problems = [
        f"{' and '.join(sorted(same))}: the Functions host takes them for one setting, and their values differ; keep"
        " one of them."
        for same in names.values()
        if len({environment[name].strip() for name in same}) > 1
    ]
    if problems:
        raise SettingsError(problems)


def _refuse_others(environment: Mapping[str, str]) -> None:
    """Refuse settings that only the Functions host understands: the app would silently send with another identity."""
    prefix = f"{SERVICE_BUS_CONNECTION}__".lower()
    fields = ("fullyQualifiedNamespace", *_IDENTITY)
    known = {f"{prefix}{field}".lower() for field in fields}
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
                f" {', '.join(fields)}."
                for name in sorted(others)
            ]
        )
