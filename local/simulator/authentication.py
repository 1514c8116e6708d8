"""Whose token a request bears, and what the scenario allows that principal."""

from __future__ import annotations

from typing import Final

from local.simulator.calls import Call
from local.simulator.errors import arm, not_authorized
from local.simulator.estate import Principal
from local.simulator.timing import instant
from local.simulator.world import World

FIXED_TOKEN = "local-simulator"  # noqa: S105 - says what it is; it opens nothing but this simulator
_READING = frozenset({"GET", "HEAD"})
_VERBS = {
    "GET": "read",
    "HEAD": "read",
    "PUT": "write",
    "PATCH": "write",
    "DELETE": "delete",
    "POST": "action",
}
#: Routes that need a right of their own: `write` does not allow them.
_RIGHTS: Final = {
    "Restore": "restore",
    "PutRunCommand": "runCommands",
    "DeleteRunCommand": "runCommands",
}


def check_token(world: World, call: Call) -> Principal | None:
    """Whose token the call bears; None for the fixed one, and for clients that the scenario does not name.

    Raises ServiceError (401) unless it is the fixed token or one issued here that has not expired.
    """
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
        return None
    token = world.tokens.get(value)
    if token is None:
        raise arm(401, "InvalidAuthenticationToken", "The access token is invalid.", **headers)
    if token.expires <= world.time.real_seconds():
        raise arm(
            401,
            "ExpiredAuthenticationToken",
            f"The access token expiry time is before the current time '{instant(world.now)}'.",
            **headers,
        )
    return token.principal


def check_allowed(call: Call) -> None:
    """Raise ServiceError (403) where the scenario does not allow the caller this route."""
    principal = call.caller
    if principal is None:
        return
    right = "read" if call.request.method in _READING else _RIGHTS.get(call.route, "write")
    if {"*", right, call.route} & set(principal.scenario.allowed):
        return
    action, scope = action_of(call)
    raise not_authorized(principal.scenario.client_id, principal.object_id, action, scope)


def action_of(call: Call) -> tuple[str, str]:
    """The action that a role must allow for the request, and the scope of the request.

    The action is made of the resource types in the path, and a POST adds its verb: `.../vaults/read`,
    `.../protectedItems/backup/action`.
    """
    segments = call.path.strip("/").split("/")
    lowered = [segment.lower() for segment in segments]
    verb = _VERBS.get(call.request.method, "read")
    if "providers" not in lowered:
        return f"Microsoft.Resources/subscriptions/{verb}", "/" + "/".join(segments)
    # An extension resource belongs to its own provider: the last provider in the path names the action.
    at = len(lowered) - 1 - lowered[::-1].index("providers")
    rest = segments[at + 2 :]
    names = "/".join([segments[at + 1], *rest[::2]])
    # The path of a list or a POST ends in a type without a name: its scope is the resource before that.
    scope = segments[:-1] if len(rest) % 2 else segments
    if len(rest) == 1:
        scope = segments[:at]
    return f"{names}/{verb}", "/" + "/".join(scope)
