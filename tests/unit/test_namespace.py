"""The namespace, as the Functions host reads it from the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from shared.arm import credentials
from shared.bus.service_bus import ServiceBusBus
from shared.namespace import connect
from shared.settings import SettingsError

NAMESPACE = "n.servicebus.windows.net"
STRING = "Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[credentials.CredentialChoice]:
    """Which credentials the SDK was asked for; nobody is asked for a token."""
    choices: list[credentials.CredentialChoice] = []
    opened = credentials.open_azure_credential

    def open_and_tell(choice: credentials.CredentialChoice) -> Any:
        choices.append(choice)
        return opened(choice)

    monkeypatch.setattr(credentials, "open_azure_credential", open_and_tell)
    return choices


@pytest.mark.parametrize(
    ("environment", "kind", "client_id"),
    [
        ({}, credentials.CredentialKind.AZURE_CLI, None),
        ({"IDENTITY_ENDPOINT": "http://x"}, credentials.CredentialKind.MANAGED_IDENTITY, None),
        (
            {"IDENTITY_ENDPOINT": "http://x", "ServiceBusConnection__clientId": "c"},
            credentials.CredentialKind.MANAGED_IDENTITY,
            "c",
        ),
        (
            {"ServiceBusConnection__Credential": "managedidentity", "SERVICEBUSCONNECTION__CLIENTID": "c"},
            credentials.CredentialKind.MANAGED_IDENTITY,
            "c",
        ),
        (
            {
                "ServiceBusConnection__tenantId": "t",
                "ServiceBusConnection__clientId": "c",
                "ServiceBusConnection__clientSecret": "s",
            },
            credentials.CredentialKind.CLIENT_SECRET,
            "c",
        ),
    ],
)
@pytest.mark.parametrize("name", ["fullyQualifiedNamespace", "FullyQualifiedNamespace"])
def test_by_identity(
    asked: list[credentials.CredentialChoice],
    environment: Mapping[str, str],
    kind: credentials.CredentialKind,
    client_id: str | None,
    name: str,
) -> None:
    bus = connect({f"ServiceBusConnection__{name}": NAMESPACE, **environment})
    assert isinstance(bus, ServiceBusBus)
    (choice,) = asked
    assert (choice.kind, choice.client_id) == (kind, client_id)


def test_a_connection_string_goes_before_an_identity(asked: list[credentials.CredentialChoice]) -> None:
    connect({"ServiceBusConnection": STRING, "ServiceBusConnection__fullyQualifiedNamespace": NAMESPACE})
    assert asked == []


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "no namespace is set"),
        ({"ServiceBusConnection": f"{STRING};EntityPath=track"}, "EntityPath"),
        ({"ServiceBusConnection__fullyQualifiedNamespace": f"https://{NAMESPACE}"}, "give its host name"),
        (
            {"ServiceBusConnection__fullyQualifiedNamespace": NAMESPACE, "AZURE_CLIENT_SECRET": "geheim"},
            "AZURE_TENANT_ID and AZURE_CLIENT_ID is not",
        ),
    ],
)
def test_what_cannot_be_used_is_one_settings_error(environment: Mapping[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as raised:
        connect(environment)
    assert "geheim" not in str(raised.value)
