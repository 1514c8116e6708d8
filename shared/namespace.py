"""The Service Bus namespace of the app, as Functions bindings define its settings.

Follows https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus#connections.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.bus import Bus, BusError
from shared.settings import SERVICE_BUS_CONNECTION, SettingsError


def connect(environment: Mapping[str, str]) -> Bus:
    """The bus that `ServiceBusConnection` names, by connection string or by identity.

    Raises:
        SettingsError: the environment names none, or names it in a form that cannot be used.
    """

    def setting(field: str) -> str:
        # The Functions host reads the names of its settings whatever their case.
        name = f"{SERVICE_BUS_CONNECTION}__{field}"
        given = environment.get(name, "").strip()
        others = (value.strip() for key, value in environment.items() if key.lower() == name.lower())
        return given or next(filter(None, others), "")

    connection_string = environment.get(SERVICE_BUS_CONNECTION, "").strip()
    namespace = setting("fullyQualifiedNamespace")
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
            return ServiceBusBus.from_connection_string(connection_string)
        from shared.arm.credentials import service_bus_credential

        credential = service_bus_credential(
            environment,
            kind=setting("credential"),
            tenant_id=setting("tenantId"),
            client_id=setting("clientId"),
            client_secret=setting("clientSecret"),
        )
        return ServiceBusBus.with_identity(namespace, credential)
    except (BusError, AuthenticationError) as error:
        raise SettingsError([f"{SERVICE_BUS_CONNECTION}: {error}."]) from None
