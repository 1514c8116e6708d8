"""Protection of one database: enable, change the policy, stop, resume, delete, undelete."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from local.simulator.calls import Answer, Call, Effect
from local.simulator.errors import ServiceError, invalid_input, item_not_found, policy_not_found
from local.simulator.estate import Container, Policy, ProtectedItem, Vault
from local.simulator.handlers.instance_items import refuse_under_instance
from local.simulator.handlers.items import render_item
from local.simulator.job_errors import unreachable
from local.simulator.job_lifecycle import start_job
from local.simulator.jobs import Job
from local.simulator.naming import item_key, parse_id
from local.simulator.operation_lifecycle import accepted_answer, start_operation
from local.simulator.protection import change_policy, container_property, protect_database, stop_protection
from local.simulator.security import check_guard, denied_on_immutable, is_immutable, shortens
from local.simulator.world import World


def policy_of(world: World, vault: Vault, properties: dict[str, Any]) -> Policy:
    """The SQL policy that a body's policyId names. Raises ServiceError if it cannot be used."""
    policy_id = parse_id(properties.get("policyId"))
    if policy_id is None or policy_id.rest[:1] != ("backuppolicies",) or len(policy_id.rest) != 2:
        raise invalid_input("Parameter policyId in request is invalid.")
    own = f"{policy_id.resource_group}/{policy_id.name}" == vault.key
    if policy_id.subscription != world.scenario.subscription_id.lower() or not own:
        raise invalid_input("Parameter policyId in request is invalid: the policy belongs to another vault.")
    policy = vault.policies.get(policy_id.rest[1])
    if policy is None:
        raise policy_not_found(policy_id.rest[1])
    if not policy.is_workload:
        raise ServiceError(
            400,
            "BMSUserErrorInvalidPolicyForGivenProvider",
            f"Policy {policy.name} is not a policy for SQL databases. Choose a policy of the workload's own type.",
        )
    return policy


def _check_kind(properties: dict[str, Any]) -> None:
    kind = properties.get("protectedItemType")
    # Microsoft's article on the REST API leaves protectedItemType out.
    if kind is not None and str(kind).lower() not in (
        "azurevmworkloadsqldatabase",
        "azurevmworkloadsqlinstance",
    ):
        raise invalid_input("Parameter protectedItemType in request is invalid.")
    for field, value in (("backupManagementType", "azureworkload"), ("workloadType", "sqldatabase")):
        given = properties.get(field)
        if given is not None and str(given).lower() not in (value, "sql"):
            raise invalid_input(f"Parameter {field} in request is invalid.")


def _conflict() -> ServiceError:
    return ServiceError(
        409,
        "BMSUserErrorConflictingProtectionOperation",
        "Another configure protection operation is in progress for this item.",
    )


def _found(container: Container, key: tuple[str, str]) -> tuple[str, str] | None:
    """The instance and the database that the last inquiry found under a key, in their own spelling."""
    return next(
        (
            (instance, database)
            for instance, databases in container.inquiry.found.items()
            for database in databases
            if (instance.lower(), database.lower()) == key
        ),
        None,
    )


def _names(
    call: Call, container: Container, existing: ProtectedItem | None, instance: str, database: str
) -> tuple[str, str]:
    """The names of an item's container and of the item, as the request that protects it spells them."""
    if existing is not None:
        return existing.container_name, existing.name
    if container.group is not None:
        return container.name.container_in_item, container.item_name(instance, database)
    return (
        f"VMAppContainer;{call.parameters['container'].partition(';')[2]}",
        f"SQLDataBase;{call.parameters['item'].partition(';')[2]}",
    )


# Long: one request, from its checks, in the service's order, to the job it starts.
def configure(world: World, call: Call) -> Answer:
    """PUT an item with a policy: enable protection, change the policy, resume."""
    vault = world.vault(call)
    properties = call.properties()
    _check_kind(properties)
    state = properties.get("protectionState")
    if state is not None and state not in ("IRPending", "Protected", "ProtectionError", "Invalid"):
        raise invalid_input("Parameter protectionState in request is invalid.")
    policy = policy_of(world, vault, properties)
    container = world.container(call, vault)
    key = item_key(call.parameters["item"])
    if key is None:
        raise invalid_input("Protected item name is not in the correct format.")
    existing = container.items.get(key)
    if existing is not None and existing.soft_deleted:
        raise ServiceError(
            400,
            "UserErrorItemInSoftDeletedState",
            "The backup item is in soft deleted state. Undelete it before protecting it again.",
        )
    real = _found(container, key)
    if existing is None and real is None:
        raise item_not_found()
    refuse_under_instance(container, key[0])
    mark = (vault.key, container.name.key, key)
    if mark in world.configuring:
        raise _conflict()
    instance, database = (existing.instance, existing.database) if existing is not None else real or key
    if existing is not None and existing.policy is not None and shortens(existing.policy, policy):
        if is_immutable(vault):
            raise denied_on_immutable()
        check_guard(vault, call, "updateProtectedItemRequests")
    world.configuring.add(mark)
    container_name, name = _names(call, container, existing, instance, database)

    def complete(_: Job) -> None:
        if (problem := unreachable(container)) is not None:
            raise problem
        item = container.items.get(key)
        if item is None:
            protect_database(
                world, container, instance, database, policy, container_name=container_name, name=name
            )
        elif not item.soft_deleted:
            change_policy(world, item, policy)

    return _start(
        world,
        call,
        vault,
        operation="ConfigureBackup",
        entity=database,
        item=existing,
        complete=complete,
        length=world.durations.draw("protect"),
        bag={"Policy Name": policy.name, **container_property(world, call.parameters["container"])},
        mark=mark,
        item_id=(
            f"{world.canonical_vault_id(vault)}/backupFabrics/Azure/protectionContainers/"
            f"{container_name}/protectedItems/{name}"
        ),
        result=lambda: _result(world, call, vault),
    )


def _result(world: World, call: Call, vault: Vault) -> dict[str, Any] | None:
    try:
        return render_item(world, call, world.item(call, vault), details=True)
    except ServiceError:
        return None


def _start(
    world: World,
    call: Call,
    vault: Vault,
    *,
    operation: str,
    entity: str,
    item: ProtectedItem | None,
    complete: Callable[[Job], None],
    length: timedelta,
    bag: dict[str, str],
    item_id: str,
    mark: tuple[str, str, tuple[str, str]],
    at_vault: bool = False,
    result: Callable[[], dict[str, Any] | None] | None = None,
) -> Answer:
    """Start the job, then the operation, of a change of protection: the job ends first."""
    job = start_job(
        world,
        call,
        vault,
        operation,
        entity=entity,
        item=item,
        length=length,
        complete=complete,
        always=lambda _: world.configuring.discard(mark),
        property_bag=bag,
    )
    path = call.vault_path(vault) if at_vault else call.item_path(vault)
    started = start_operation(
        world,
        call,
        vault,
        path,
        status="backupOperations" if at_vault else "operationsStatus",
        results="backupOperationResults" if at_vault else "operationResults",
        length=length,
        job=job,
        result=result,
    )
    return accepted_answer(world, call, started, Effect(item_id, job.id))


def _change(
    world: World,
    call: Call,
    item: ProtectedItem,
    operation: str,
    complete: Callable[[Job], None],
    *,
    duration: str,
    at_vault: bool = False,
) -> Answer:
    """Start a job that changes an existing item. Raises ServiceError (409) while another one does.

    `duration` names how long it takes; `at_vault`: its operation is under the vault, not under the item.
    """
    vault = item.container.vault
    mark = (vault.key, item.container.name.key, item.key)
    if mark in world.configuring:
        raise _conflict()
    world.configuring.add(mark)
    return _start(
        world,
        call,
        vault,
        operation=operation,
        entity=item.database,
        item=item,
        complete=complete,
        length=world.durations.draw(duration),
        bag=container_property(world, item.container.name.container),
        mark=mark,
        item_id=world.canonical_item_id(item),
        at_vault=at_vault,
        result=None if at_vault else lambda: _result(world, call, vault),
    )


def stop(world: World, call: Call) -> Answer:
    """PUT an item with protectionState ProtectionStopped or BackupsSuspended: keep data, take no backups."""
    vault = world.vault(call)
    properties = call.properties()
    _check_kind(properties)
    state = properties["protectionState"]
    item = world.item(call, vault)
    refuse_under_instance(item.container, item.instance)
    if item.soft_deleted:
        raise ServiceError(
            400, "UserErrorItemInSoftDeletedState", "The backup item is in soft deleted state."
        )
    if state == "BackupsSuspended" and not is_immutable(vault):
        # An odd answer of the real service for vaults that are not immutable (azure-rest-api-specs#32688).
        raise denied_on_immutable()
    check_guard(vault, call, "stopProtectionWithRetainDataRequests")

    def complete(_: Job) -> None:
        if not item.soft_deleted:
            stop_protection(world, item, state)

    return _change(world, call, item, "DisableBackup", complete, duration="stop")


def delete(world: World, call: Call) -> Answer:
    """DELETE an item: stop and delete the data, softly where the vault says so; 204 when there is none."""
    vault = world.vault(call)
    try:
        item = world.item(call, vault)
    except ServiceError:
        return Answer(204)
    container = item.container
    if item.soft_deleted:
        return Answer(204)
    refuse_under_instance(container, item.instance)
    if is_immutable(vault) and item.kept(world.now):
        raise denied_on_immutable()
    if vault.resource_guard is None or not vault.resource_guard.is_unlocked(call.path, world.now):
        check_guard(vault, call, "deleteProtectedItemRequests")

    def complete(job: Job) -> None:
        stop_protection(world, item, "ProtectionStopped")
        if vault.soft_delete == "Disabled":
            container.items.pop(item.key, None)
        else:
            item.deferred_delete = deleted = job.start
            item.kept_deleted = timedelta(days=vault.soft_delete_days)
            world.agenda.at(deleted + item.kept_deleted, lambda: _expire(item, deleted))

    return _change(world, call, item, "DeleteBackupData", complete, duration="delete", at_vault=True)


def _expire(item: ProtectedItem, deleted: datetime) -> None:
    if item.deferred_delete == deleted and item.container.items.get(item.key) is item:
        del item.container.items[item.key]


def undelete(world: World, call: Call) -> Answer:
    """PUT an item with isRehydrate: bring back what was soft-deleted, stopped."""
    vault = world.vault(call)
    properties = call.properties()
    _check_kind(properties)
    item = world.item(call, vault)
    if not item.soft_deleted:
        raise ServiceError(
            400, "UserErrorItemNotInSoftDeletedState", "The backup item is not in soft deleted state."
        )

    def complete(_: Job) -> None:
        item.deferred_delete = None
        item.state = "ProtectionStopped"

    return _change(world, call, item, "Undelete", complete, duration="stop")
