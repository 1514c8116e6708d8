"""What clients ask before they call Azure Backup: tokens, OpenID metadata, clouds, subscriptions."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs

from local.simulator.calls import Answer, Call
from local.simulator.estate import Principal
from local.simulator.world import IssuedToken, World

TOKEN_SECONDS = 3599
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def token(world: World, call: Call) -> Answer:
    """POST the token endpoint: client credentials (a secret or an assertion) for a token of an hour."""
    form = {
        name: values[0]
        for name, values in parse_qs(call.request.body.decode("utf-8", "replace")).items()
        if values
    }
    tenant = call.parameters["tenant"]
    if not _is_known(world, tenant):
        return _oauth_error(world, 400, "invalid_request", 90002, _NO_TENANT.format(tenant))
    if form.get("grant_type") != "client_credentials":
        return _oauth_error(
            world, 400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type."
        )
    if not form.get("client_id"):
        return _oauth_error(
            world, 400, "invalid_request", 900144, "The request body must contain the parameter: 'client_id'."
        )
    by_assertion = form.get("client_assertion_type") == _ASSERTION and form.get("client_assertion")
    if not form.get("client_secret") and not by_assertion:
        return _oauth_error(
            world,
            401,
            "invalid_client",
            7000218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        )
    if not form.get("scope") and not form.get("resource"):
        return _oauth_error(
            world, 400, "invalid_request", 900144, "The request body must contain the parameter: 'scope'."
        )
    principal = None
    if world.principals:
        principal = world.principals.get(form["client_id"].lower())
        if (refusal := _refusal(world, tenant, form, principal)) is not None:
            return refusal
    value = _token_text(world, call, form["client_id"], principal)
    world.tokens[value] = IssuedToken(world.time.real_seconds() + TOKEN_SECONDS, principal)
    return Answer(
        200,
        {
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "ext_expires_in": TOKEN_SECONDS,
            "access_token": value,
        },
    )


def _refusal(world: World, tenant: str, form: dict[str, str], principal: Principal | None) -> Answer | None:
    """The refusal for a client that is not in the scenario, or whose credentials are wrong."""
    client = form["client_id"]
    if principal is None:
        return _oauth_error(
            world,
            400,
            "unauthorized_client",
            700016,
            f"Application with identifier '{client}' was not found in the directory '{tenant}'. This can happen if "
            "the application has not been installed by the administrator of the tenant or consented to by any user "
            "in the tenant. You may have sent your authentication request to the wrong tenant.",
        )
    scenario, secret = principal.scenario, form.get("client_secret")
    if secret is not None and secret != scenario.client_secret:
        return _oauth_error(
            world,
            401,
            "invalid_client",
            7000215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
            f"not the client secret ID, for a secret added to app '{client}'.",
        )
    if scenario.expired and secret is not None:
        return _oauth_error(
            world,
            401,
            "invalid_client",
            7000222,
            f"The provided client secret keys for app '{client}' are expired. Visit the Azure portal to create new "
            "keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added "
            "security: https://aka.ms/certCreds.",
        )
    if scenario.expired:
        return _oauth_error(
            world,
            401,
            "invalid_client",
            1000502,
            "The provided certificate is not within its specified validity window.",
        )
    return None


def _token_text(world: World, call: Call, client: str, principal: Principal | None) -> str:
    # In the form of a JWT, since some clients read it; it is not signed.
    now = int(world.now.timestamp())
    claims = {
        "aud": f"{call.request.origin}/",
        "iss": f"{call.request.origin}/{world.scenario.tenant_id}/",
        "iat": now,
        "nbf": now,
        "exp": now + TOKEN_SECONDS,
        "appid": client,
        "oid": principal.object_id if principal is not None else world.ids.request_guid(),
        "tid": world.scenario.tenant_id,
        "uti": world.ids.request_guid(),
        "ver": "1.0",
    }
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "simulated"])


def _oauth_error(world: World, status: int, error: str, number: int, message: str) -> Answer:
    trace, correlation = world.ids.request_guid(), world.ids.request_guid()
    time = world.now.strftime("%Y-%m-%d %H:%M:%SZ")
    return Answer(
        status,
        {
            "error": error,
            "error_description": (
                f"AADSTS{number}: {message} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}"
            ),
            "error_codes": [number],
            "timestamp": time,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={number}",
        },
    )


_NO_TENANT = (
    "Tenant '{}' not found. Check to make sure you have the correct tenant ID and are signing into the correct "
    "cloud."
)


def _is_known(world: World, tenant: str) -> bool:
    return tenant.lower() in (world.scenario.tenant_id.lower(), "common", "organizations")


def open_id(world: World, call: Call) -> Answer:
    """GET the OpenID configuration of the tenant: what the standard requires, and the endpoint where devices sign in.

    https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
    """
    tenant = call.parameters["tenant"]
    if not _is_known(world, tenant):
        return _oauth_error(world, 400, "invalid_tenant", 90002, _NO_TENANT.format(tenant))
    base = f"{call.request.origin}/{tenant}"
    return Answer(
        200,
        {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        },
    )


def metadata(_: World, call: Call) -> Answer:
    """GET the cloud's endpoints, all of them this simulator. A single object, as the Azure CLI expects."""
    origin = call.request.origin
    return Answer(
        200,
        {
            "name": "AzureBackupSimulator",
            "portal": origin,
            "authentication": {
                "loginEndpoint": origin,
                "audiences": [f"{origin}/", "https://management.azure.com/"],
                "tenant": "common",
                "identityProvider": "AAD",
            },
            "resourceManager": f"{origin}/",
            "graph": f"{origin}/",
            "graphAudience": f"{origin}/",
            "microsoftGraphResourceId": f"{origin}/",
            "media": f"{origin}/",
            "batch": f"{origin}/",
            "gallery": f"{origin}/",
            "sqlManagement": f"{origin}/",
            "suffixes": {"storage": "core.windows.net", "keyVaultDns": "vault.azure.net"},
        },
    )


def _subscription(world: World) -> dict[str, Any]:
    scenario = world.scenario
    return {
        "id": f"/subscriptions/{scenario.subscription_id}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": scenario.subscription_id,
        "tenantId": scenario.tenant_id,
        "displayName": "Simulated subscription",
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
    }


def list_subscriptions(world: World, _: Call) -> Answer:
    """GET the one subscription there is."""
    return Answer(200, {"value": [_subscription(world)], "count": {"type": "Total", "value": 1}})


def get_subscription(world: World, call: Call) -> Answer:
    """GET the subscription."""
    world.check_subscription(call)
    return Answer(200, _subscription(world))


def list_tenants(world: World, _: Call) -> Answer:
    """GET the one tenant there is."""
    tenant = world.scenario.tenant_id
    return Answer(
        200,
        {"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "Simulated tenant"}]},
    )
