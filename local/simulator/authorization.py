"""Azure role-based access control: the scenario's role assignments must allow the published action of each request.

Follows https://learn.microsoft.com/azure/role-based-access-control/overview and
https://learn.microsoft.com/rest/api/authorization/permissions/list-for-resource.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any, Final

from local.simulator.authentication import action_of
from local.simulator.calls import Answer, Call
from local.simulator.errors import arm, not_authorized
from local.simulator.estate import Principal
from local.simulator.nested import nested
from local.simulator.published_actions import PUBLISHED
from local.simulator.scenario import RoleAssignmentScenario
from local.simulator.world import World

#: The `principalId` of the fixed token.
_FIXED: Final = "local-simulator"
_PROVIDER: Final = "/providers/microsoft.authorization/"
#: If a request's body names a VM, the caller also needs this right on that VM:
#: https://learn.microsoft.com/azure/backup/backup-rbac-rs-vault
_LINKED: Final = "Microsoft.Compute/virtualMachines/write"
_LINKED_FIELDS: Final = ("sourceResourceId", "targetVirtualMachineId")
_LINKED_ROUTES: Final = frozenset({"Register", "Reregister", "ConfigureBackup", "Undelete", "Restore"})
#: Routes that need no role: each answers only what the caller may see.
_OPEN: Final = frozenset(
    {"ListPermissions", "ListSubscriptions", "GetSubscription", "ListTenants", "QueryResources"}
)
_MACHINE: Final = re.compile(
    r"(?i)/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/virtualMachines/[^/]+"
)


def check_roles(world: World, call: Call) -> None:
    """Raise ServiceError (403) where no role assignment of the scenario allows the caller this request.

    Without `roleAssignments` in the scenario everything is allowed.
    """
    if world.scenario.role_assignments is None or call.route in _OPEN:
        return
    principal = call.caller
    action, scope = action_of(call)
    # No role could allow a route for which Microsoft publishes no action.
    assert action.lower() in PUBLISHED, f"{call.route}: {action} is no published action"
    if not _allowed(world, principal, scope, action):
        raise not_authorized(_name(principal), _object(principal), action, scope)
    for machine in _linked(call):
        if not _allowed(world, principal, machine, _LINKED):
            raise arm(
                403,
                "LinkedAuthorizationFailed",
                f"The client '{_name(principal)}' with object id '{_object(principal)}' has permission to perform "
                f"action '{action}' on scope '{scope}'; however, it does not have permission to perform action(s) "
                f"'{_LINKED}' on the linked scope(s) '{machine}' or the linked scope(s) are invalid.",
            )


def _linked(call: Call) -> Iterator[str]:
    if call.route not in _LINKED_ROUTES:
        return
    for name in _LINKED_FIELDS:
        value = nested(call.recorded_body(), "properties", name)
        if isinstance(value, str) and _MACHINE.fullmatch(value):
            yield value


def _allowed(world: World, principal: Principal | None, scope: str, action: str) -> bool:
    return any(
        _matches(entry.actions, action) and not _matches(entry.not_actions, action)
        for entry in _effective(world, _names(principal), scope)
    )


def may_read(world: World, principal: Principal | None, resource: str, kind: str) -> bool:
    """Whether the caller may read a resource of that type, by its ARM id."""
    return world.scenario.role_assignments is None or _allowed(world, principal, resource, f"{kind}/read")


def _matches(patterns: tuple[str, ...], action: str) -> bool:
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.lower().split("*"))), action.lower()) is not None
        for pattern in patterns
    )


def _effective(world: World, names: set[str], scope: str) -> Iterator[RoleAssignmentScenario]:
    """The assignments that apply to a scope: its own, and those of every scope above it."""
    whole = scope.rstrip("/").lower() + "/"
    for entry in world.scenario.role_assignments or ():
        holder = entry.principal_id
        if (holder is None or holder.lower() in names) and whole.startswith(
            entry.scope.rstrip("/").lower() + "/"
        ):
            yield entry


def _names(principal: Principal | None) -> set[str]:
    return (
        {_FIXED} if principal is None else {principal.object_id.lower(), principal.scenario.client_id.lower()}
    )


def _name(principal: Principal | None) -> str:
    return _FIXED if principal is None else principal.scenario.client_id


def _object(principal: Principal | None) -> str:
    return _FIXED if principal is None else principal.object_id


def _scope_of(call: Call) -> str:
    return call.path[: call.path.lower().rindex(_PROVIDER)]


def list_permissions(world: World, call: Call) -> Answer:
    """GET {scope}/providers/Microsoft.Authorization/permissions: what the caller may do there."""
    if world.scenario.role_assignments is None:
        everything = {"actions": ["*"], "notActions": [], "dataActions": ["*"], "notDataActions": []}
        return Answer(200, {"value": [everything], "nextLink": None})
    found = _effective(world, _names(call.caller), _scope_of(call))
    return Answer(200, {"value": [_permission(entry) for entry in found], "nextLink": None})


def _permission(entry: RoleAssignmentScenario) -> dict[str, Any]:
    return {
        "actions": list(entry.actions),
        "notActions": list(entry.not_actions),
        "dataActions": list(entry.data_actions),
        "notDataActions": list(entry.not_data_actions),
    }


def _definition_id(world: World, entry: RoleAssignmentScenario) -> str:
    name = uuid.uuid5(uuid.NAMESPACE_OID, repr(entry))
    return f"/subscriptions/{world.scenario.subscription_id}/providers/Microsoft.Authorization/roleDefinitions/{name}"


_ASSIGNED_TO: Final = re.compile(r"(?i)atScope\(\)\s+and\s+assignedTo\('([^']+)'\)")


def list_role_assignments(world: World, call: Call) -> Answer:
    """GET {scope}/providers/Microsoft.Authorization/roleAssignments: those that apply there to a principal."""
    asked = _ASSIGNED_TO.fullmatch(call.filter or "")
    if asked is None:
        raise arm(
            400, "UnsupportedQuery", "The filter is not supported: atScope() and assignedTo('{id}') is."
        )
    scope = _scope_of(call)
    value = []
    for entry in _effective(world, {asked[1].lower()}, scope):
        name = uuid.uuid5(uuid.NAMESPACE_URL, repr(entry))
        properties = {
            "scope": entry.scope,
            "roleDefinitionId": _definition_id(world, entry),
            "principalId": asked[1],
            "principalType": "ServicePrincipal",
        }
        value.append(
            {
                "id": f"{entry.scope}/providers/Microsoft.Authorization/roleAssignments/{name}",
                "type": "Microsoft.Authorization/roleAssignments",
                "name": str(name),
                "properties": properties,
            }
        )
    return Answer(200, {"value": value, "nextLink": None})


def get_role_definition(world: World, call: Call) -> Answer:
    """GET one role definition."""
    wanted = call.path.rpartition("/")[2].lower()
    for entry in world.scenario.role_assignments or ():
        found = _definition_id(world, entry)
        if found.rpartition("/")[2] == wanted:
            properties = {
                "roleName": entry.role_name,
                "type": "CustomRole",
                "description": "",
                "assignableScopes": [entry.scope],
                "permissions": [_permission(entry)],
            }
            return Answer(
                200,
                {
                    "id": found,
                    "type": "Microsoft.Authorization/roleDefinitions",
                    "name": wanted,
                    "properties": properties,
                },
            )
    raise arm(
        404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{wanted}' does not exist."
    )
