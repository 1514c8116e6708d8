"""A vault's link to a resource guard (multi-user authorization)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError, arm, invalid_input
from local.simulator.estate import Vault
from local.simulator.resource_guards import EVERY_REQUEST, GUARDED, ResourceGuard
from local.simulator.security import check_guard, needs_consent
from local.simulator.timing import instant
from local.simulator.world import World

_GUARD_ID = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.DataProtection/resourceGuards/[^/]+",
    re.IGNORECASE,
)
_UNLOCKED_FOR = timedelta(minutes=30)


def _path(vault_path: str) -> str:
    return f"{vault_path}/backupResourceGuardProxies/VaultProxy"


def _render(call: Call, vault: Vault, guard: ResourceGuard) -> dict[str, Any]:
    return {
        "id": _path(call.vault_id(vault)),
        "name": "VaultProxy",
        "type": "Microsoft.RecoveryServices/vaults/backupResourceGuardProxies",
        "properties": {
            "resourceGuardResourceId": guard.id,
            "resourceGuardOperationDetails": [
                {
                    "vaultCriticalOperation": operation,
                    "defaultResourceRequest": guard.default_request(request),
                }
                for request, operation in GUARDED.items()
                if request in guard.requests
            ],
            "lastUpdatedTime": instant(guard.linked),
            "description": "Simulated resource guard",
        },
    }


def list_proxies(world: World, call: Call) -> Answer:
    """GET the vault's links to resource guards: one at most."""
    vault = world.vault(call)
    guard = vault.resource_guard
    return Answer(200, {"value": [] if guard is None else [_render(call, vault, guard)]})


def get_proxy(world: World, call: Call) -> Answer:
    """GET the link, whose name is VaultProxy."""
    vault = world.vault(call)
    return Answer(200, _render(call, vault, _linked(call, vault)))


def put_proxy(world: World, call: Call) -> Answer:
    """PUT the link to a guard, which from then on guards everything that can be guarded."""
    vault = world.vault(call)
    identifier = call.properties().get("resourceGuardResourceId")
    if not isinstance(identifier, str) or not _GUARD_ID.fullmatch(identifier):
        raise invalid_input("Parameter resourceGuardResourceId in request is invalid.")
    # Recorded: answers spell it so, however it was sent.
    identifier = re.sub("/resourceGroups/", "/resourcegroups/", identifier, flags=re.IGNORECASE)
    vault.resource_guard = ResourceGuard(identifier, EVERY_REQUEST, world.now)
    effect = Effect(_path(world.canonical_vault_id(vault)))
    return Answer(200, _render(call, vault, vault.resource_guard), effect=effect)


def unlock_delete(world: World, call: Call) -> Answer:
    """POST the guard's consent to one deletion in the next half hour: of an item, or of the link itself."""
    vault = world.vault(call)
    guard = _linked(call, vault)
    body = call.json()
    item = body.get("resourceToBeDeleted")
    named = item if isinstance(item, str) and item else None
    check_guard(
        vault,
        call,
        "deleteProtectedItemRequests" if named is not None else "deleteResourceGuardProxyRequests",
    )
    until = world.now + _UNLOCKED_FOR
    guard.unlocked[unquote(named or _path(call.vault_path(vault))).lower()] = until
    effect = Effect(_path(world.canonical_vault_id(vault)))
    return Answer(200, {"unlockDeleteExpiryTime": instant(until)}, effect=effect)


def delete_proxy(world: World, call: Call) -> Answer:
    """DELETE the link: 200 once it has been unlocked."""
    vault = world.vault(call)
    guard = _linked(call, vault)
    if not guard.is_unlocked(_path(call.vault_path(vault)), world.now):
        raise needs_consent()
    vault.resource_guard = None
    return Answer(200, {}, effect=Effect(_path(world.canonical_vault_id(vault))))


def _linked(call: Call, vault: Vault) -> ResourceGuard:
    if vault.resource_guard is None or call.parameters["proxy"].lower() != "vaultproxy":
        raise _not_found(call)
    return vault.resource_guard


def _not_found(call: Call) -> ServiceError:
    return arm(404, "ResourceNotFound", f"The resource guard proxy {call.parameters['proxy']} was not found.")
