"""Backup policies of a vault."""

from __future__ import annotations

from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError, invalid_input
from local.simulator.estate import Policy, Vault
from local.simulator.filters import matches, parse_filter
from local.simulator.naming import encoded
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.paging import paged
from local.simulator.policies import accepted_policy, check_policy_name
from local.simulator.protection import change_policy
from local.simulator.security import check_guard, denied_on_immutable, is_immutable, shortens
from local.simulator.world import World

_POLICY_FIELDS = frozenset({"backupmanagementtype", "workloadtype", "fabricname"})


def _render_policy(call: Call, vault: Vault, policy: Policy) -> dict[str, Any]:
    return {
        "id": f"{call.vault_id(vault)}/backupPolicies/{encoded(policy.name)}",
        "name": policy.name,
        "type": "Microsoft.RecoveryServices/vaults/backupPolicies",
        "properties": {**policy.properties, "protectedItemsCount": vault.items_of(policy)},
    }


def list_policies(world: World, call: Call) -> Answer:
    """GET the vault's policies, including those of virtual machines unless the filter excludes them."""
    vault = world.vault(call)
    wanted = parse_filter(call.filter, _POLICY_FIELDS)
    found = [
        policy
        for policy in vault.policies.values()
        if matches(policy.properties.get("backupManagementType"), wanted.get("backupmanagementtype"))
        and matches(policy.properties.get("workLoadType", "VM"), wanted.get("workloadtype"))
    ]
    found.sort(key=lambda policy: policy.sequence)
    return paged(
        world, call, found, lambda policy: policy.sequence, lambda policy: _render_policy(call, vault, policy)
    )


def get_policy(world: World, call: Call) -> Answer:
    """GET a policy."""
    vault = world.vault(call)
    policy = vault.policies.get(call.parameters["policy"].lower())
    if policy is None:
        # Recorded (Azure/azure-powershell, TestAzureVmWorkloadPolicy, 2024-04-22): the body has nothing more.
        return Answer(404, {}, {"Content-Type": "application/json"})
    return Answer(200, _render_policy(call, vault, policy))


def put_policy(world: World, call: Call) -> Answer:
    """PUT a policy: 200 at once, or 202 when items have to be updated."""
    vault = world.vault(call)
    name = call.parameters["policy"]
    check_policy_name(name)
    properties = accepted_policy(call.properties())
    policy = vault.policies.get(name.lower())
    effect = Effect(f"{world.canonical_vault_id(vault)}/backupPolicies/{policy.name if policy else name}")
    if policy is None:
        policy = vault.policies[name.lower()] = Policy(name, properties, next(world.sequence))
        return Answer(200, _render_policy(call, vault, policy), effect=effect)
    if policy.properties.get("backupManagementType") != properties["backupManagementType"]:
        raise invalid_input("Parameter backupManagementType in request is invalid.")
    if shortens(policy, Policy(name, properties, 0)):
        if is_immutable(vault):
            raise denied_on_immutable()
        check_guard(vault, call, "updateProtectionPolicyRequests")
    items = [item for item in vault.items() if item.policy is policy]
    changed = policy
    changed.properties = properties
    if not items:
        return Answer(200, _render_policy(call, vault, changed), effect=effect)

    def update() -> None:
        for item in items:
            if item.policy is changed:
                change_policy(world, item, changed)

    path = f"{call.vault_path(vault)}/backupPolicies/{changed.name}"
    operation = start_operation(
        world,
        call,
        vault,
        path,
        status="operations",
        length=world.durations.draw("protect"),
        complete=update,
        result=lambda: _render_policy(call, vault, changed),
    )
    return accepted_answer(world, call, operation, effect)


def delete_policy(world: World, call: Call) -> Answer:
    """DELETE a policy that protects nothing; 204 when there is none."""
    vault = world.vault(call)
    policy = vault.policies.get(call.parameters["policy"].lower())
    if policy is None:
        return Answer(204)
    count = vault.items_of(policy)
    if count:
        raise ServiceError(
            400,
            "BMSUserErrorPolicyObjectInUse",
            f"The policy {policy.name} cannot be deleted: {count} backup items are associated with it.",
        )
    del vault.policies[policy.name.lower()]
    return Answer(200, effect=Effect(f"{world.canonical_vault_id(vault)}/backupPolicies/{policy.name}"))
