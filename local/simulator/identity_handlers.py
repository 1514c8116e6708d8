"""What clients ask before they come to Azure Backup: tokens, OpenID metadata, clouds, subscriptions."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs

from local.simulator.calls import Answer, Call
from local.simulator.errors import arm
from local.simulator.timing import instant
from local.simulator.world import World

FIXED_TOKEN = "local-simulator"  # noqa: S105 - says what it is; it opens nothing but this simulator
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
    if tenant.lower() not in (world.scenario.tenant_id.lower(), "common", "organizations"):
        return _oauth_error(world, 400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
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
    scope = form.get("scope") or form.get("resource")
    if not scope:
        return _oauth_error(
            world, 400, "invalid_request", 900144, "The request body must contain the parameter: 'scope'."
        )
    value = _token_text(world, call, form["client_id"])
    world.tokens[value] = world.time.real_seconds() + TOKEN_SECONDS
    body: dict[str, Any] = {
        "token_type": "Bearer",
        "expires_in": TOKEN_SECONDS,
        "ext_expires_in": TOKEN_SECONDS,
        "access_token": value,
    }
    if "/v2.0/" not in call.path:
        body["resource"] = scope
    return Answer(200, body)


def _token_text(world: World, call: Call, client: str) -> str:
    # In the shape of a JWT, which some clients look into; its signature is none.
    now = int(world.now.timestamp())
    claims = {
        "aud": f"{call.request.origin}/",
        "iss": f"{call.request.origin}/{world.scenario.tenant_id}/",
        "iat": now,
        "nbf": now,
        "exp": now + TOKEN_SECONDS,
        "appid": client,
        "oid": world.ids.request_guid(),
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


def open_id(_: World, call: Call) -> Answer:
    """GET the OpenID configuration of the tenant."""
    tenant = call.parameters["tenant"]
    base = f"{call.request.origin}/{tenant}"
    return Answer(
        200,
        {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": [
                "client_secret_post",
                "private_key_jwt",
                "client_secret_basic",
            ],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "ver"],
            "tenant_region_scope": None,
        },
    )


def metadata(_: World, call: Call) -> Answer:
    """GET the cloud's endpoints, all of them this simulator. One object, as the Azure CLI wants it."""
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
    world.subscription(call)
    return Answer(200, _subscription(world))


def list_tenants(world: World, _: Call) -> Answer:
    """GET the one tenant there is."""
    tenant = world.scenario.tenant_id
    return Answer(
        200,
        {"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "Simulated tenant"}]},
    )


def check_token(world: World, call: Call) -> None:
    """Raise ServiceError (401) unless the call bears the fixed token or one issued here that has not expired."""
    given = call.request.headers.get("authorization", "")
    scheme, _, value = given.partition(" ")
    value = value.strip()
    challenge = (
        f'Bearer authorization_uri="{call.request.origin}/{world.scenario.tenant_id}", error="invalid_token", '
        'error_description="The access token is missing or invalid."'
    )
    headers = {"WWW-Authenticate": challenge}
    if not given:
        raise arm(
            401,
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
            **headers,
        )
    if scheme.lower() != "bearer" or not value:
        raise arm(
            401,
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is provided in an invalid format.",
            **headers,
        )
    if value == FIXED_TOKEN:
        return
    expires = world.tokens.get(value)
    if expires is None:
        raise arm(401, "InvalidAuthenticationToken", "The access token is invalid.", **headers)
    if expires <= world.time.real_seconds():
        raise arm(
            401,
            "ExpiredAuthenticationToken",
            f"The access token expiry time is before the current time '{instant(world.now)}'.",
            **headers,
        )
