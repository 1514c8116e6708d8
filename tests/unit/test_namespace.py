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
BY_IDENTITY = {"ServiceBusConnection__fullyQualifiedNamespace": NAMESPACE, "IDENTITY_ENDPOINT": "http://x"}


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


@pytest.mark.parametrize(
    ("settings", "resource_id", "object_id"),
    [
        ({"credential": "managedidentity", "managedIdentityResourceId": "/r"}, "/r", None),
        ({"credential": "ManagedIdentity", "MANAGEDIDENTITYOBJECTID": "o"}, None, "o"),
        ({"managedIdentityResourceId": "/r"}, "/r", None),
    ],
)
def test_by_a_user_assigned_identity_that_is_not_named_by_its_client_id(
    asked: list[credentials.CredentialChoice],
    settings: Mapping[str, str],
    resource_id: str | None,
    object_id: str | None,
) -> None:
    connect({**BY_IDENTITY, **{f"ServiceBusConnection__{name}": value for name, value in settings.items()}})
    (choice,) = asked
    assert choice.kind is credentials.CredentialKind.MANAGED_IDENTITY
    assert (choice.client_id, choice.resource_id, choice.object_id) == (None, resource_id, object_id)


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
            {**BY_IDENTITY, "ServiceBusConnection__managedIdentityObjectId": "o"},
            "managedIdentityObjectId is set, which .* only where credential is managedidentity",
        ),
        (
            {
                **BY_IDENTITY,
                "ServiceBusConnection__credential": "managedidentity",
                "ServiceBusConnection__clientId": "c",
                "ServiceBusConnection__managedIdentityResourceId": "r",
            },
            "clientId and managedIdentityResourceId are set",
        ),
        (
            {**BY_IDENTITY, "ServiceBusConnection__credential": "workloadidentity"},
            'credential is "workloadid',
        ),
        ({**BY_IDENTITY, "ServiceBusConnection__Credential": "nobody"}, 'credential is "nobody"'),
        (
            {**BY_IDENTITY, "serviceBusConnection__clientCertificate": "geheim"},
            "serviceBusConnection__clientCertificate: the app does not understand it",
        ),
        (
            {"ServiceBusConnection": STRING, "SERVICE_BUS_TRANSPORT": "https"},
            "SERVICE_BUS_TRANSPORT: expected amqp or amqpWebSockets, not .*https",
        ),
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


@pytest.mark.parametrize("name", ["SERVICEBUSCONNECTION", "servicebusconnection"])
def test_a_connection_string_is_found_whatever_the_case_of_its_name(
    name: str, asked: list[credentials.CredentialChoice]
) -> None:
    """As the Functions host finds it, which prefers it to an identity."""
    assert isinstance(connect({name: STRING, **BY_IDENTITY}), ServiceBusBus)
    assert not asked


@pytest.mark.parametrize("name", ["ServiceBusConnection", "ServiceBusConnection__fullyQualifiedNamespace"])
def test_two_names_that_differ_only_in_case_and_have_two_values_are_refused(name: str) -> None:
    """The Functions host takes one of them, and nothing says which."""
    environment = {name: STRING, name.lower(): "a secret"}
    with pytest.raises(SettingsError, match=f"^{name} and {name.lower()}: ") as raised:
        connect(environment)
    assert "a secret" not in str(raised.value)


@pytest.mark.parametrize("other", [STRING, f" {STRING}", " "])
def test_two_names_that_differ_only_in_case_may_have_one_value(other: str) -> None:
    assert isinstance(connect({"ServiceBusConnection": STRING, "SERVICEBUSCONNECTION": other}), ServiceBusBus)


@pytest.mark.parametrize(
    "name",
    [
        "AzureWebJobsServiceBusConnection",
        "AzureWebJobsServiceBusConnection__fullyQualifiedNamespace",
        "AZUREWEBJOBSSERVICEBUSCONNECTION__CLIENTID",
        "CUSTOMCONNSTR_ServiceBusConnection",
        "ConnectionStrings__ServiceBusConnection",
    ],
)
@pytest.mark.parametrize("own", [BY_IDENTITY, {"ServiceBusConnection": STRING}], ids=["identity", "string"])
def test_a_name_that_the_host_reads_first_is_refused(name: str, own: Mapping[str, str]) -> None:
    """It would receive from there, while the app sends to the other: IConfigurationExtensions of azure-webjobs-sdk."""
    with pytest.raises(SettingsError, match=f"^{name}: the Functions host would receive by it") as raised:
        connect({**own, name: "a secret"})
    assert "a secret" not in str(raised.value)
