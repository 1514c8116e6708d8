"""The deployed Function App as Azure shows it: its identity and its application settings.

Follows https://learn.microsoft.com/rest/api/appservice/web-apps/list-application-settings. The value of a setting is
read but never shown: it may be a secret.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from shared.arm.client import ArmClient
from shared.settings import SERVICE_BUS_CONNECTION, SERVICE_BUS_NAMESPACE, host_setting

_WEB: Final = "2024-11-01"
_PUBLIC_CLOUD: Final = "https://management.azure.com"
_STORAGE: Final = "AzureWebJobsStorage"
_STORAGE_ADDRESSES: Final = ("blobServiceUri", "queueServiceUri", "tableServiceUri")
#: Two threads for each of the host's concurrent calls (docs/settings.md).
_THREADS: Final = "32"


@dataclass(frozen=True, kw_only=True)
class DeployedApp:
    """A Function App, its application settings by name, and its identities: object id by client id."""

    id: str
    settings: Mapping[str, str]
    identities: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its name."""
        return self.id.rpartition("/")[2]

    @property
    def principal(self) -> str | None:
        """The object id of the identity that it uses; None where its settings select none of several."""
        client = self.setting("AZURE_CLIENT_ID").lower()
        if client in self.identities:
            return self.identities[client]
        return next(iter(self.identities.values())) if len(self.identities) == 1 else None

    def setting(self, name: str) -> str:
        """A setting's value, whatever the case of its name; empty where there is none."""
        return host_setting(self.settings, name)


def read_app(arm: ArmClient, site: Mapping[str, Any]) -> DeployedApp:
    """Read the settings of a listed site, and its identities. Raises ArmError, TokenError."""
    path = f"{quote(str(site['id']), safe='/')}/config/appsettings/list"
    response = arm.post(
        "list the application settings",
        path,
        params={"api-version": _WEB},
        json=None,
        client_request_id=str(uuid.uuid4()),
    )
    identity = site.get("identity") or {}
    identities = {
        str(each.get("clientId", "")).lower(): str(each["principalId"])
        for each in (identity.get("userAssignedIdentities") or {}).values()
    }
    if identity.get("principalId"):
        identities.setdefault("", str(identity["principalId"]))
    settings = {str(name): str(value) for name, value in (response.body.get("properties") or {}).items()}
    return DeployedApp(id=str(site["id"]), settings=settings, identities=identities)


def find_app(arm: ArmClient, name: str, subscription: str | None) -> Mapping[str, Any] | None:
    """Find a site by its full ARM id, or by its name in a subscription; None where there is none. Raises ArmError."""
    version = {"api-version": _WEB}
    if name.startswith("/"):
        body: Mapping[str, Any] = arm.get("get the app", quote(name, safe="/"), params=version).body
        return body
    if subscription is None:
        return None
    sites = arm.pages(
        "list apps", f"/subscriptions/{subscription}/providers/Microsoft.Web/sites", params=version
    )
    return next((each for each in sites if str(each.get("name", "")).lower() == name.lower()), None)


@dataclass(frozen=True)
class Lacking:
    """A setting that is missing or wrong: what it is for, and a value that works."""

    name: str
    finding: str
    value: str


def lacking(app: DeployedApp, arm_endpoint: str) -> Iterator[Lacking]:
    """The settings that the host and the app need by docs/settings.md and lack."""
    yield from _connections(app)
    client = next(iter(app.identities), "")
    for name, value, reason in (
        (
            "APPLICATIONINSIGHTS_CONNECTION_STRING",
            "CONNECTION_STRING",
            "nothing that the app logs arrives anywhere, and no alert on it is raised",
        ),
        (
            "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
            f"ClientId={client};Authorization=AAD" if client else "Authorization=AAD",
            "a component that takes no keys refuses what the host sends",
        ),
        ("PYTHON_THREADPOOL_THREAD_COUNT", _THREADS, "fewer messages are worked on than the host hands out"),
    ):
        if not app.setting(name):
            yield Lacking(name, f"It is not set: {reason}.", value)
    endpoint = app.setting("ARM_ENDPOINT") or _PUBLIC_CLOUD
    if endpoint.rstrip("/").lower() != arm_endpoint.rstrip("/").lower():
        yield Lacking(
            "ARM_ENDPOINT", f"The app calls {endpoint}, and this command {arm_endpoint}.", arm_endpoint
        )


def _connections(app: DeployedApp) -> Iterator[Lacking]:
    """The settings with which the host reaches storage and Service Bus as the app's identity."""
    if not app.setting(SERVICE_BUS_CONNECTION):
        if not app.setting(SERVICE_BUS_NAMESPACE):
            yield Lacking(
                SERVICE_BUS_NAMESPACE,
                "It is not set: no function is triggered.",
                "NAMESPACE.servicebus.windows.net",
            )
        yield from _identity(app, SERVICE_BUS_CONNECTION)
    if not app.setting(_STORAGE):
        addresses = [f"{_STORAGE}__{part}" for part in _STORAGE_ADDRESSES]
        if not app.setting(f"{_STORAGE}__accountName"):
            for name in addresses:
                if not app.setting(name):
                    kind = name.rpartition("__")[2].removesuffix("ServiceUri")
                    yield Lacking(
                        name,
                        "It is not set: the host does not start.",
                        f"https://ACCOUNT.{kind}.core.windows.net",
                    )
        yield from _identity(app, _STORAGE)
    if "" not in app.identities:
        yield from _client_id(app, "AZURE_CLIENT_ID", "the app calls Azure as nobody")


def _identity(app: DeployedApp, connection: str) -> Iterator[Lacking]:
    if app.setting(f"{connection}__credential").lower() != "managedidentity":
        yield Lacking(
            f"{connection}__credential", "It is not managedidentity: the host is refused.", "managedidentity"
        )
    if "" not in app.identities:
        yield from _client_id(app, f"{connection}__clientId", "the host is refused")


def _client_id(app: DeployedApp, name: str, reason: str) -> Iterator[Lacking]:
    """Check that a user-assigned identity is named, and is one of the app's."""
    known = next(iter(app.identities), "CLIENT_ID")
    given = app.setting(name)
    if not given:
        yield Lacking(name, f"It is not set: {reason}.", known)
    elif given.lower() not in app.identities:
        yield Lacking(name, f"It names no identity of the app: {reason}.", known)
