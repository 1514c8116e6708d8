"""Tokens for Azure Resource Manager, from whichever identity the configuration gives.

Order: a service principal (secret, certificate or federated token file) where its settings are present;
in Azure the managed identity; else the account of `az login`. The names of the settings are those of
azure-identity: https://learn.microsoft.com/python/api/overview/azure/identity-readme#environment-variables.
azure-identity itself is imported when the first token is needed, and not before.
"""

from __future__ import annotations

import base64
import enum
import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shared.arm.deadline import Deadline, deadline
from shared.arm.endpoint import ArmEndpoint
from shared.arm.errors import AuthenticationError, TokenError, TokenUnavailableError
from shared.arm.redaction import printable, redact
from shared.causes import causes
from shared.clock import Clock, SystemClock
from shared.telemetry.log import logger

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

__all__ = [
    "LOCAL_SIMULATOR_TOKEN",
    "CredentialChoice",
    "CredentialKind",
    "FixedTokenSource",
    "IdentityTokenSource",
    "TokenSource",
    "choose_credential",
    "open_azure_credential",
    "service_bus_credential",
    "token_source",
]

_log = logger(__name__)

# The SDKs log each token and each request for one at INFO, and every link to Service Bus asks for a token.
for _name in ("azure.core", "azure.identity"):
    logging.getLogger(_name).setLevel(logging.WARNING)

#: what a simulator on loopback is given; it opens nothing
LOCAL_SIMULATOR_TOKEN = "local-simulator"  # noqa: S105  public by design

_PUBLIC_AUTHORITY = "login.microsoftonline.com"
_REFRESH_BEFORE_EXPIRY = timedelta(minutes=5)
_REFRESH_RETRY = timedelta(seconds=30)
#: the time for a token that no call waits for
_LONGEST_FETCH = timedelta(seconds=30)


class TokenSource(Protocol):
    """Gives bearer tokens for Azure Resource Manager. Safe to share between threads."""

    def token(self, *, refresh: bool = False, claims: str | None = None) -> str:
        """A token that stays valid for some minutes; with `refresh`, one that was not given before.

        `claims`, in JSON, are what the last token lacked, as Azure's challenge says: the new token must have them.

        Raises:
            AuthenticationError: there is none until the configuration changes or someone logs in.
            TokenUnavailableError: there is none just now, or none came within the deadline of the call.
        """
        ...


class FixedTokenSource:
    """Always the same token: what a simulator is given."""

    def __init__(self, token: str = LOCAL_SIMULATOR_TOKEN) -> None:
        self._token = token

    def token(self, *, refresh: bool = False, claims: str | None = None) -> str:  # noqa: ARG002  no other
        return self._token


class CredentialKind(enum.Enum):
    """Who the app is to Microsoft Entra ID."""

    CLIENT_SECRET = "a service principal with a secret"  # noqa: S105  a description
    CLIENT_CERTIFICATE = "a service principal with a certificate"
    FEDERATED_TOKEN = "a service principal with a federated token"  # noqa: S105  a description
    MANAGED_IDENTITY = "the managed identity"
    AZURE_CLI = "the account of az login"


@dataclass(frozen=True, kw_only=True)
class CredentialChoice:
    """Which credential the configuration asks for. Its text shows no secret."""

    kind: CredentialKind
    tenant_id: str | None = None
    client_id: str | None = None
    #: of a user-assigned managed identity, instead of its client id
    resource_id: str | None = None
    object_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    certificate_path: str | None = None
    certificate_password: str | None = field(default=None, repr=False)
    send_certificate_chain: bool = False
    federated_token_file: str | None = None
    authority_host: str = _PUBLIC_AUTHORITY

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return tuple(secret for secret in (self.client_secret, self.certificate_password) if secret)


def choose_credential(environment: Mapping[str, str]) -> CredentialChoice:
    """The credential that the settings in `environment` ask for.

    azure-identity's `EnvironmentCredential` reads the same names. But it takes an empty setting for a value, says
    nothing of half a configuration, and a failing identity would give way to the next of a chain.

    Raises:
        AuthenticationError: a setting that the credential needs is missing or cannot be right.
    """

    def setting(name: str) -> str | None:
        value = environment.get(name, "").strip()
        return value or None

    tenant_id, client_id = setting("AZURE_TENANT_ID"), setting("AZURE_CLIENT_ID")
    authority_host = _authority_host(setting("AZURE_AUTHORITY_HOST"))
    for name, kind in (
        ("AZURE_CLIENT_SECRET", CredentialKind.CLIENT_SECRET),
        ("AZURE_CLIENT_CERTIFICATE_PATH", CredentialKind.CLIENT_CERTIFICATE),
        ("AZURE_FEDERATED_TOKEN_FILE", CredentialKind.FEDERATED_TOKEN),
    ):
        if setting(name) is None:
            continue
        missing = [
            required
            for required, value in (("AZURE_TENANT_ID", tenant_id), ("AZURE_CLIENT_ID", client_id))
            if value is None
        ]
        if missing:
            raise AuthenticationError(
                f"{name} is set, but {' and '.join(missing)} is not: {kind.value} needs all three settings"
            )
        return CredentialChoice(
            kind=kind,
            tenant_id=tenant_id,
            client_id=client_id,
            client_secret=setting("AZURE_CLIENT_SECRET"),
            certificate_path=setting("AZURE_CLIENT_CERTIFICATE_PATH"),
            certificate_password=setting("AZURE_CLIENT_CERTIFICATE_PASSWORD"),
            send_certificate_chain=(setting("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN") or "").lower()
            in ("1", "true"),
            federated_token_file=setting("AZURE_FEDERATED_TOKEN_FILE"),
            authority_host=authority_host,
        )
    if setting("IDENTITY_ENDPOINT") or setting("MSI_ENDPOINT"):
        return CredentialChoice(
            kind=CredentialKind.MANAGED_IDENTITY, client_id=client_id, authority_host=authority_host
        )
    return CredentialChoice(kind=CredentialKind.AZURE_CLI, tenant_id=tenant_id, authority_host=authority_host)


def _authority_host(text: str | None) -> str:
    """`AZURE_AUTHORITY_HOST` as `host[:port]`."""
    if text is None:
        return _PUBLIC_AUTHORITY
    scheme, found, rest = text.partition("://")
    host = (rest if found else scheme).rstrip("/").lower()
    if found and scheme.lower() != "https":
        raise AuthenticationError(
            f'AZURE_AUTHORITY_HOST "{printable(text, limit=120)}" is no https address: '
            "a secret must not be sent in the clear"
        )
    if not re.fullmatch(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?", host):
        raise AuthenticationError(
            f'AZURE_AUTHORITY_HOST "{printable(text, limit=120)}" is no host: '
            f"give https://<host>, such as https://{_PUBLIC_AUTHORITY}"
        )
    return host


def scope_of(endpoint: ArmEndpoint) -> str:
    """The scope of a token for the endpoint: in every cloud it is the Resource Manager's own address."""
    return f"{endpoint.url}/.default"


def token_source(
    arm_endpoint: str, environment: Mapping[str, str], *, clock: Clock | None = None
) -> TokenSource:
    """The token source for `arm_endpoint`. Makes no call yet.

    Raises:
        ArmEndpointError: tokens must not be sent to the endpoint.
        AuthenticationError: the settings name a credential, but not all of it.
    """
    endpoint = ArmEndpoint.parse(arm_endpoint)
    if endpoint.is_plain_loopback:
        return FixedTokenSource()
    choice = choose_credential(environment)
    return IdentityTokenSource(choice, scope_of(endpoint), clock=clock or SystemClock())


def service_bus_credential(
    environment: Mapping[str, str],
    *,
    kind: str = "",
    tenant_id: str = "",
    client_id: str = "",
    client_secret: str = "",
    resource_id: str = "",
    object_id: str = "",
) -> TokenCredential:
    """The credential for Service Bus: that for Resource Manager, unless the connection has its own.

    The arguments are the settings `ServiceBusConnection__credential`, `__tenantId`, `__clientId`, `__clientSecret`,
    `__managedIdentityResourceId` and `__managedIdentityObjectId`, and mean what they mean to the Functions host, so
    that the app sends with the identity that the host receives with.

    Raises:
        AuthenticationError: the settings name a credential, but not all of it, or more than one.
    """
    own = choose_credential(environment)
    managed = kind.lower() == "managedidentity"
    _check_kind(kind, own)
    if object_id and not managed:
        raise AuthenticationError(
            "managedIdentityObjectId is set, which the Functions host takes only where credential is managedidentity:"
            " set that as well"
        )
    if not managed and tenant_id and client_id and client_secret:
        principal = CredentialChoice(
            kind=CredentialKind.CLIENT_SECRET,
            tenant_id=tenant_id,
            client_id=client_id,
            client_secret=client_secret,
            authority_host=own.authority_host,
        )
        return open_azure_credential(principal)
    identities = ("clientId", "managedIdentityResourceId", "managedIdentityObjectId")
    values = (client_id, resource_id, object_id)
    given = [name for name, value in zip(identities, values, strict=True) if value]
    if len(given) > 1:
        raise AuthenticationError(f"{' and '.join(given)} are set, and each names an identity: leave one")
    if managed or (given and own.kind is CredentialKind.MANAGED_IDENTITY):
        own = CredentialChoice(
            kind=CredentialKind.MANAGED_IDENTITY,
            client_id=client_id or None,
            resource_id=resource_id or None,
            object_id=object_id or None,
        )
    return open_azure_credential(own)


def _check_kind(kind: str, own: CredentialChoice) -> None:
    """Refuse a `credential` with which the host has an identity that the app cannot use."""
    workload = kind.lower() == "workloadidentity" and own.kind is CredentialKind.FEDERATED_TOKEN
    if kind and kind.lower() != "managedidentity" and not workload:
        raise AuthenticationError(
            f'credential is "{printable(kind, limit=80)}", by which the app cannot send as whom the Functions host'
            " receives: set it to managedidentity, or leave it out"
        )


@dataclass(frozen=True)
class _Token:
    text: str = field(repr=False)
    expires: datetime
    #: from when on a new one is asked for
    renewal: datetime


_NO_TOKEN = _Token("", datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))


class IdentityTokenSource:
    """Tokens from azure-identity: one for the process, renewed five minutes before it expires.

    azure-identity keeps tokens too, but not those of `az login`, and looking one up there takes some 0.3 ms.
    `open_credential` makes the credential; a forced refresh makes a new one, since the old one would return the token
    that it keeps.
    """

    def __init__(
        self,
        choice: CredentialChoice,
        scope: str,
        *,
        clock: Clock,
        open_credential: Callable[[CredentialChoice], TokenCredential] | None = None,
    ) -> None:
        self._choice = choice
        self._scope = scope
        self._clock = clock
        self._open = open_credential or open_azure_credential
        self._fetching = threading.Lock()
        self._credential: TokenCredential | None = None
        self._last = _NO_TOKEN

    def token(self, *, refresh: bool = False, claims: str | None = None) -> str:
        """See `TokenSource.token`."""
        with deadline(_LONGEST_FETCH) as limit:
            return self._token(limit, refresh=refresh or claims is not None, claims=claims)

    def _token(self, limit: Deadline, *, refresh: bool, claims: str | None) -> str:
        last, now = self._last, self._clock.now()
        if now < last.renewal and not refresh:
            return last.text
        # While one thread fetches, the others go on with the token that still holds.
        holds = now < last.expires and not refresh
        if not self._fetching.acquire(timeout=0 if holds else limit.remaining):
            if holds:
                return last.text
            raise self._late()
        try:
            # Another thread may have fetched one in the meantime.
            if self._last.text == last.text:
                self._last = self._fetched(limit, new_credential=refresh, claims=claims)
        except TokenError as error:
            now = self._clock.now()
            if refresh or now >= last.expires:
                raise
            self._last = replace(last, renewal=min(now + _REFRESH_RETRY, last.expires))
            _log.warning(
                "no new token yet, the old one still holds: %s", error, extra={"action": "token_refresh"}
            )
        finally:
            token = self._last
            self._fetching.release()
        return token.text

    def _fetched(self, limit: Deadline, *, new_credential: bool, claims: str | None) -> _Token:
        if claims is not None and self._choice.kind is CredentialKind.AZURE_CLI:
            raise _sign_in_again(claims)
        if self._credential is None or new_credential:
            self._close()
            self._credential = self._open(self._choice)
        credential = self._credential
        try:
            answer = limit.wait_for(lambda: credential.get_token(self._scope, claims=claims))
        except TimeoutError:
            self._close()
            raise self._late() from None
        except Exception as error:
            # MSAL caches a refusal for a minute; a new credential asks again.
            self._close()
            raise _token_error(error, self._choice) from None
        expires = datetime.fromtimestamp(answer.expires_on, UTC)
        return _Token(answer.token, expires, expires - _REFRESH_BEFORE_EXPIRY)

    def _late(self) -> TokenUnavailableError:
        return TokenUnavailableError(f"no token by {self._choice.kind.value}: none came in time")

    def _close(self) -> None:
        close = getattr(self._credential, "close", None)
        if close is not None:
            close()
        self._credential = None

    def close(self) -> None:
        """Close the connections to the token endpoint."""
        with self._fetching:
            self._close()


def open_azure_credential(choice: CredentialChoice) -> TokenCredential:
    """The credential of azure-identity that `choice` describes.

    Raises:
        AuthenticationError: its certificate or token file cannot be read, or the certificate has expired.
    """
    import azure.identity

    # The steps try again by themselves; here one retry is enough, and a short patience.
    patience: dict[str, Any] = {"retry_total": 1, "connection_timeout": 10, "read_timeout": 20}
    options: dict[str, Any] = {
        **patience,
        "authority": f"https://{choice.authority_host}",
        # The discovery would ask the public cloud about an authority it does not know.
        "disable_instance_discovery": choice.authority_host != _PUBLIC_AUTHORITY,
    }
    tenant_id, client_id = choice.tenant_id or "", choice.client_id or ""
    try:
        match choice.kind:
            case CredentialKind.CLIENT_SECRET:
                return azure.identity.ClientSecretCredential(
                    tenant_id, client_id, choice.client_secret or "", **options
                )
            case CredentialKind.CLIENT_CERTIFICATE:
                _check_certificate(choice.certificate_path or "")
                return azure.identity.CertificateCredential(
                    tenant_id,
                    client_id,
                    choice.certificate_path,
                    password=choice.certificate_password,
                    send_certificate_chain=choice.send_certificate_chain,
                    **options,
                )
            case CredentialKind.FEDERATED_TOKEN:
                file = choice.federated_token_file
                return azure.identity.WorkloadIdentityCredential(
                    tenant_id=tenant_id, client_id=client_id, token_file_path=file, **options
                )
            case CredentialKind.MANAGED_IDENTITY:
                named = (("resource_id", choice.resource_id), ("object_id", choice.object_id))
                config = {name: value for name, value in named if value}
                return azure.identity.ManagedIdentityCredential(
                    client_id=choice.client_id, identity_config=config or None, **patience
                )
            case CredentialKind.AZURE_CLI:
                return azure.identity.AzureCliCredential(tenant_id=tenant_id, process_timeout=30)
    except (ValueError, TypeError, OSError) as error:
        raise AuthenticationError(
            f"{choice.kind.value} cannot be used: {_shown(error, choice)}; check {_TO_CHECK[choice.kind]}"
        ) from None


def _check_certificate(path: str) -> None:
    """Refuse a certificate that is missing or out of date, which Entra ID would do less clearly."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise AuthenticationError(
            f'the certificate "{printable(path, limit=200)}" of AZURE_CLIENT_CERTIFICATE_PATH cannot be '
            f"read: {error.strerror or type(error).__name__}"
        ) from None
    from cryptography import x509

    if b"-----BEGIN CERTIFICATE-----" not in content:
        return  # PKCS #12: azure-identity reads it with its password
    try:
        certificate = x509.load_pem_x509_certificate(content[content.index(b"-----BEGIN CERTIFICATE-----") :])
    except ValueError:
        return  # azure-identity says what is wrong with it
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc <= now:
        raise AuthenticationError(
            f'the certificate "{printable(path, limit=200)}" of AZURE_CLIENT_CERTIFICATE_PATH expired on '
            f"{certificate.not_valid_after_utc:%Y-%m-%d}: create a new one and add it to the app registration"
        )


def _sign_in_again(claims: str) -> AuthenticationError:
    """The error for a claims challenge to the account of `az login`: only a person can answer it."""
    challenge = base64.b64encode(claims.encode()).decode()
    return AuthenticationError(
        f"Azure asks the account of az login for a stronger sign-in (multi-factor authentication or Conditional "
        f'Access); run az login --claims-challenge "{challenge}"'
    )


_PRINCIPAL = "AZURE_TENANT_ID, AZURE_CLIENT_ID"
#: what to check where a credential gives no token
_TO_CHECK: Mapping[CredentialKind, str] = {
    CredentialKind.CLIENT_SECRET: f"{_PRINCIPAL}, AZURE_CLIENT_SECRET",
    CredentialKind.CLIENT_CERTIFICATE: f"{_PRINCIPAL}, AZURE_CLIENT_CERTIFICATE_PATH",
    CredentialKind.FEDERATED_TOKEN: f"{_PRINCIPAL}, AZURE_FEDERATED_TOKEN_FILE",
    CredentialKind.MANAGED_IDENTITY: (
        "that the app has the identity, and AZURE_CLIENT_ID where it is a user-assigned one"
    ),
    CredentialKind.AZURE_CLI: "az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
}

# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_ENTRA_CODES: Mapping[str, str] = {
    "7000215": "the secret in AZURE_CLIENT_SECRET is wrong",
    "7000222": "the secret in AZURE_CLIENT_SECRET has expired: create a new one for the app registration",
    "700016": "the application in AZURE_CLIENT_ID is not known in the tenant of AZURE_TENANT_ID",
    "90002": "the tenant in AZURE_TENANT_ID does not exist in this cloud",
    "900023": "AZURE_TENANT_ID is neither a tenant id nor a domain name",
    "700027": "the app registration does not have the certificate of AZURE_CLIENT_CERTIFICATE_PATH",
    "1000502": "the certificate of AZURE_CLIENT_CERTIFICATE_PATH is not valid yet or has expired",
    "70021": "the app registration has no federated credential for the token of AZURE_FEDERATED_TOKEN_FILE",
    "700213": "the app registration has no federated credential for the token of AZURE_FEDERATED_TOKEN_FILE",
    "700024": "the federated token or certificate is outside its validity: check this machine's clock",
    "500011": "this cloud does not know the resource of ARM_ENDPOINT in the tenant of AZURE_TENANT_ID",
    "7000112": "the application in AZURE_CLIENT_ID is disabled",
}
_TRANSIENT_ENTRA_CODES = frozenset({"90033", "90055", "50196", "90024", "50058196"})
_SERVER_FAILURE = re.compile(r"HTTP Error: (429|5\d\d)")
_ENTRA_CODE = re.compile(r"AADSTS(\d{4,8})")


def _token_error(error: BaseException, choice: CredentialChoice) -> TokenError:
    """The TokenError for an exception of azure-identity, with one sentence that says what to do."""
    if isinstance(error, TokenError):
        return error
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError
    from azure.identity import CredentialUnavailableError

    chain = causes(error, "__cause__", "__context__")
    text = " ".join(str(part) for part in chain)
    prefix = f"no token by {choice.kind.value}"
    if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        return AuthenticationError(
            f"{prefix}: the TLS certificate of https://{choice.authority_host} is not trusted "
            "(if it is right, name its authority in REQUESTS_CA_BUNDLE)"
        )
    if "TLS CA certificate bundle" in text:
        return AuthenticationError(
            f"{prefix}: REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names no file of certificates"
        )
    codes = _ENTRA_CODE.findall(text)
    if any(code in _TRANSIENT_ENTRA_CODES for code in codes) or "temporarily_unavailable" in text:
        return TokenUnavailableError(f"{prefix}: Microsoft Entra ID is busy ({_shown(error, choice)})")
    for code in codes:
        if meaning := _ENTRA_CODES.get(code):
            return AuthenticationError(f"{prefix}: {meaning} (AADSTS{code})")
    if "Unable to get authority configuration" in text:
        return AuthenticationError(
            f"{prefix}: https://{choice.authority_host} knows no tenant {printable(choice.tenant_id, limit=80)}; "
            "check AZURE_TENANT_ID, and AZURE_AUTHORITY_HOST where the tenant is in another cloud"
        )
    if any(isinstance(part, ServiceRequestError | ServiceResponseError) for part in chain):
        managed = choice.kind is CredentialKind.MANAGED_IDENTITY
        where = "this machine's identity endpoint" if managed else f"https://{choice.authority_host}"
        return TokenUnavailableError(f"{prefix}: {where} cannot be reached ({_shown(error, choice)})")
    if isinstance(error, CredentialUnavailableError):
        if choice.kind is CredentialKind.AZURE_CLI:
            install = (
                "install the Azure CLI and run az login" if "not found on path" in text else "run az login"
            )
            return AuthenticationError(
                f"{prefix}: {_shown(error, choice)}; {install}, or set AZURE_TENANT_ID, AZURE_CLIENT_ID "
                "and AZURE_CLIENT_SECRET for a service principal"
            )
        if choice.kind is CredentialKind.MANAGED_IDENTITY:
            return TokenUnavailableError(f"{prefix}: {_shown(error, choice)}")
    if _SERVER_FAILURE.search(text):
        return TokenUnavailableError(f"{prefix}: {_shown(error, choice)}")
    return AuthenticationError(f"{prefix}: {_shown(error, choice)}; check {_TO_CHECK[choice.kind]}")


def _shown(error: BaseException, choice: CredentialChoice) -> str:
    """The first line of an error's text, without any secret that might be in it."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    for secret in choice.secrets:
        text = text.replace(secret, "...")
    return redact(text, limit=300).rstrip(". ")
