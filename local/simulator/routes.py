"""The routes: their paths, and the handlers that answer them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from local.simulator import authorization
from local.simulator.calls import Answer, Call
from local.simulator.handlers import (
    app_resources,
    archive,
    backups,
    containers,
    deleted_vaults,
    identity,
    intents,
    items,
    jobs,
    operations,
    overview,
    policies,
    protectable_items,
    protection,
    recovery_points,
    resource_graph,
    resource_guards,
    restores,
    run_commands,
    vaults,
    virtual_machines,
)
from local.simulator.http_messages import Request
from local.simulator.nested import nested
from local.simulator.route_names import ROUTE_NAMES
from local.simulator.world import World

Handler = Callable[[World, Call], Answer]
API_VERSIONS = frozenset(
    """
    2016-06-01 2016-08-10 2016-12-01 2017-07-01 2017-07-01-preview 2018-01-10 2018-07-10 2018-12-20 2019-05-13
    2019-05-13-preview 2019-06-15 2020-02-02 2020-02-02-preview 2020-07-01 2020-07-01-preview 2020-10-01
    2020-12-01 2021-01-01 2021-02-01 2021-02-01-preview 2021-02-10 2021-03-01 2021-04-01 2021-06-01 2021-07-01
    2021-08-01 2021-10-01 2021-11-01-preview 2021-12-01 2022-01-01 2022-01-31-preview 2022-02-01 2022-03-01
    2022-04-01 2022-05-01 2022-06-01-preview 2022-08-01 2022-09-01-preview 2022-09-10 2022-09-30-preview
    2022-10-01 2023-01-01 2023-02-01 2023-04-01 2023-06-01 2023-08-01 2024-01-01 2024-02-01 2024-03-01
    2024-04-01 2024-04-30-preview 2024-07-30-preview 2024-09-30-preview 2024-10-01 2024-11-01 2024-11-01-preview
    2025-01-01 2025-02-01 2025-02-28-preview 2025-08-01 2025-08-31-preview 2026-01-01 2026-01-31-preview
    2026-02-01 2026-03-31-preview 2026-05-01 2026-05-31-preview 2026-07-01 2026-08-01 2026-08-31-preview
    2026-10-01 2026-11-01
    """.split()  # noqa: SIM905 - seventy strings in quotes read worse
)
"""The api-versions of Microsoft.RecoveryServices that the simulator accepts; it answers all of them alike."""


@dataclass(frozen=True)
class Route:
    """A route: its name, its handler, and how its requests are checked and counted."""

    name: str
    handler: Handler
    needs_token: bool = True
    provider: bool = True
    """Whether it belongs to Microsoft.RecoveryServices, whose api-versions are known."""
    backup: bool = False
    """Whether it reads or writes a vault's backup resources, whose reads are limited apart."""


@dataclass
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: tuple[str, _Node] | None = None
    methods: dict[str, Route] = field(default_factory=dict)


class RouteTable:
    """A tree of path segments; as in ARM, their case does not matter."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, method: str, template: str, route: Route) -> None:
        """Have requests for `template` (segments in braces are parameters) answered by `route`."""
        assert route.name in ROUTE_NAMES, route.name
        node = self._root
        for segment in template.strip("/").split("/"):
            if segment.startswith("{"):
                if node.parameter is None:
                    node.parameter = (segment[1:-1], _Node())
                node = node.parameter[1]
            else:
                node = node.literals.setdefault(segment.lower(), _Node())
        node.methods[method] = route

    def find(self, segments: list[str]) -> tuple[dict[str, Route], dict[str, str]] | None:
        """The routes by method, and the path's parameters; None for an unknown path."""
        return _descend(self._root, segments, 0, {})


def _descend(
    node: _Node, segments: list[str], index: int, found: dict[str, str]
) -> tuple[dict[str, Route], dict[str, str]] | None:
    if index == len(segments):
        return (node.methods, found) if node.methods else None
    segment = segments[index]
    child = node.literals.get(segment.lower())
    if child is not None and (result := _descend(child, segments, index + 1, found)) is not None:
        return result
    if node.parameter is not None and segment:
        name, child = node.parameter
        return _descend(child, segments, index + 1, {**found, name: segment})
    return None


# Long: a table, a line or two per route.
def build_routes() -> RouteTable:
    """Every route the simulator answers."""
    table = RouteTable()

    def open_route(method: str, path: str, name: str, handler: Handler) -> None:
        table.add(method, path, Route(name, handler, needs_token=False, provider=False))

    def plain(method: str, path: str, name: str, handler: Handler) -> None:
        table.add(method, path, Route(name, handler, provider=False))

    open_route("POST", "{tenant}/oauth2/v2.0/token", "Token", identity.token)
    open_route("POST", "{tenant}/oauth2/token", "Token", identity.token)
    for path in (
        "{tenant}/v2.0/.well-known/openid-configuration",
        "{tenant}/.well-known/openid-configuration",
    ):
        open_route("GET", path, "OpenIdConfiguration", identity.open_id)
    open_route("GET", "metadata/endpoints", "MetadataEndpoints", identity.metadata)
    plain("GET", "tenants", "ListTenants", identity.list_tenants)
    plain("GET", "subscriptions", "ListSubscriptions", identity.list_subscriptions)
    plain("GET", "subscriptions/{subscription}", "GetSubscription", identity.get_subscription)
    plain("POST", "providers/Microsoft.ResourceGraph/resources", "QueryResources", resource_graph.resources)
    group = "subscriptions/{subscription}/resourceGroups/{group}"
    for scope in ("subscriptions/{subscription}", group):
        machines = f"{scope}/providers/Microsoft.Compute/virtualMachines"
        plain("GET", machines, "ListVirtualMachines", virtual_machines.list_machines)
        path = f"{scope}/providers/Microsoft.RecoveryServices/vaults"
        table.add("GET", path, Route("ListVaults", vaults.list_vaults))
    machine = f"{group}/providers/Microsoft.Compute/virtualMachines/{{machine}}"
    plain("GET", machine, "GetVirtualMachine", virtual_machines.get_machine)
    all_commands = f"{machine}/runCommands"
    plain("GET", all_commands, "ListRunCommands", run_commands.list_run_commands)
    run_command = f"{all_commands}/{{command}}"
    plain("GET", run_command, "GetRunCommand", run_commands.get_run_command)
    plain("PUT", run_command, "PutRunCommand", run_commands.put_run_command)
    plain("DELETE", run_command, "DeleteRunCommand", run_commands.delete_run_command)
    plain(
        "GET",
        "subscriptions/{subscription}/providers/Microsoft.Compute/locations/{location}/operations/{operation}",
        "ComputeOperation",
        run_commands.compute_operation,
    )
    _add_access_routes(plain, group)
    region = "subscriptions/{subscription}/providers/Microsoft.RecoveryServices/locations/{location}"
    for path, name, handler in (
        ("backupStatus", "BackupStatus", overview.backup_status),
        ("backupPreValidateProtection", "PreValidateProtection", overview.pre_validate),
    ):
        table.add("POST", f"{region}/{path}", Route(name, handler))
    deleted = f"{region}/deletedVaults"
    for method, path, name, handler in (
        ("GET", "", "ListDeletedVaults", deleted_vaults.list_deleted),
        ("GET", "/{deleted}", "GetDeletedVault", deleted_vaults.get_deleted),
        ("POST", "/{deleted}/undelete", "UndeleteVault", deleted_vaults.undelete),
        ("GET", "/{deleted}/operations/{operation}", "OperationStatus", deleted_vaults.operation_status),
        (
            "GET",
            "/{deleted}/operationResults/{operation}",
            "OperationResult",
            deleted_vaults.operation_result,
        ),
    ):
        table.add(method, f"{deleted}{path}", Route(name, handler))
    vault = f"{group}/providers/Microsoft.RecoveryServices/vaults/{{vault}}"
    for path, name, handler in (
        ("operationStatus", "OperationStatus", deleted_vaults.operation_status),
        ("operationResults", "OperationResult", deleted_vaults.operation_result),
    ):
        table.add("GET", f"{vault}/{path}/{{operation}}", Route(name, handler))
    _add_backup_routes(table, vault)
    return table


def _add_access_routes(plain: Callable[[str, str, str, Handler], None], group: str) -> None:
    """Add the routes of role assignments and of the app's own resources."""
    subscription = "subscriptions/{subscription}"
    bus = f"{group}/providers/Microsoft.ServiceBus/namespaces/{{namespace}}"
    for scope in (
        subscription,
        group,
        f"{group}/providers/Microsoft.RecoveryServices/vaults/{{vault}}",
        f"{group}/providers/Microsoft.Compute/virtualMachines/{{machine}}",
        f"{group}/providers/Microsoft.Storage/storageAccounts/{{account}}",
        f"{group}/providers/Microsoft.Insights/components/{{component}}",
        bus,
    ):
        access = f"{scope}/providers/Microsoft.Authorization"
        plain("GET", f"{access}/permissions", "ListPermissions", authorization.list_permissions)
        plain("GET", f"{access}/roleAssignments", "ListRoleAssignments", authorization.list_role_assignments)
    definition = f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{{role}}"
    plain("GET", definition, "GetRoleDefinition", authorization.get_role_definition)
    for scope in (subscription, group):
        namespaces = f"{scope}/providers/Microsoft.ServiceBus/namespaces"
        plain("GET", namespaces, "ListNamespaces", app_resources.list_namespaces)
    plain("GET", bus, "GetNamespace", app_resources.get_namespace)
    plain("GET", f"{bus}/queues", "ListQueues", app_resources.list_queues)
    plain("GET", f"{bus}/topics", "ListTopics", app_resources.list_topics)
    subscriptions = f"{bus}/topics/{{topic}}/subscriptions"
    plain("GET", subscriptions, "ListTopicSubscriptions", app_resources.list_subscriptions)
    for scope in (subscription, group):
        plain("GET", f"{scope}/providers/Microsoft.Web/sites", "ListSites", app_resources.list_sites)
    site = f"{group}/providers/Microsoft.Web/sites/{{site}}"
    plain("GET", site, "GetSite", app_resources.get_site)
    plain("POST", f"{site}/config/appsettings/list", "ListAppSettings", app_resources.list_app_settings)
    storage = f"{group}/providers/Microsoft.Storage/storageAccounts"
    plain("GET", storage, "ListStorageAccounts", app_resources.list_companions)
    components = f"{group}/providers/Microsoft.Insights/components"
    plain("GET", components, "ListComponents", app_resources.list_companions)


# Long: a table, a line or two per route.
def _add_backup_routes(table: RouteTable, vault: str) -> None:
    def add(method: str, path: str, name: str, handler: Handler) -> None:
        table.add(method, vault + path, Route(name, handler, backup=bool(path)))

    add("GET", "", "GetVault", vaults.get_vault)
    add("PUT", "", "PutVault", vaults.put_vault)
    add("PATCH", "", "PatchVault", vaults.patch_vault)
    add("DELETE", "", "DeleteVault", vaults.delete_vault)
    add("GET", "/backupconfig/vaultconfig", "GetVaultConfig", vaults.get_vault_config)
    add("PUT", "/backupconfig/vaultconfig", "PutVaultConfig", vaults.put_vault_config)
    add("PATCH", "/backupconfig/vaultconfig", "PutVaultConfig", vaults.put_vault_config)
    storage = "/backupstorageconfig/vaultstorageconfig"
    add("GET", storage, "GetStorageConfig", overview.get_storage_config)
    add("PUT", storage, "PutStorageConfig", overview.put_storage_config)
    add("PATCH", storage, "PutStorageConfig", overview.put_storage_config)
    add("GET", "/usages", "ListUsages", overview.usages)
    add("GET", "/backupUsageSummaries", "ListUsageSummaries", overview.usage_summaries)
    guard = "/backupResourceGuardProxies/{proxy}"
    # Recorded since 2023: reads of these are not counted as backup reads.
    for path, name, handler in (
        ("/backupResourceGuardProxies", "ListResourceGuardProxies", resource_guards.list_proxies),
        (guard, "GetResourceGuardProxy", resource_guards.get_proxy),
    ):
        table.add("GET", vault + path, Route(name, handler))
    add("PUT", guard, "PutResourceGuardProxy", resource_guards.put_proxy)
    add("DELETE", guard, "DeleteResourceGuardProxy", resource_guards.delete_proxy)
    add("POST", f"{guard}/unlockDelete", "UnlockDelete", resource_guards.unlock_delete)

    add("GET", "/backupPolicies", "ListPolicies", policies.list_policies)
    add("GET", "/backupPolicies/{policy}", "GetPolicy", policies.get_policy)
    add("PUT", "/backupPolicies/{policy}", "PutPolicy", policies.put_policy)
    add("DELETE", "/backupPolicies/{policy}", "DeletePolicy", policies.delete_policy)

    fabric = "/backupFabrics/{fabric}"
    add("POST", f"{fabric}/refreshContainers", "Refresh", containers.refresh)
    add(
        "GET",
        f"{fabric}/protectableContainers",
        "ListProtectableContainers",
        containers.list_protectable_containers,
    )
    add("GET", "/backupProtectionContainers", "ListContainers", containers.list_containers)
    add(
        "GET",
        "/backupDeletedProtectionContainers",
        "ListDeletedContainers",
        containers.list_deleted_containers,
    )
    container = f"{fabric}/protectionContainers/{{container}}"
    add("GET", container, "GetContainer", containers.get_container)
    add("PUT", container, "Register", containers.register)
    add("DELETE", container, "Unregister", containers.unregister)
    add("POST", f"{container}/inquire", "Inquire", containers.inquire)
    add("GET", f"{container}/items", "ListWorkloadItems", protectable_items.list_workload_items)
    add("GET", "/backupProtectableItems", "ListProtectableItems", protectable_items.list_protectable_items)

    item = f"{container}/protectedItems/{{item}}"
    add("GET", "/backupProtectedItems", "ListProtectedItems", items.list_items)
    add("GET", item, "GetProtectedItem", items.get_item)
    add("PUT", item, "ConfigureBackup", protection.configure)
    add("DELETE", item, "DeleteProtection", protection.delete)
    add("POST", f"{item}/backup", "Backup", backups.backup)
    add("GET", f"{item}/recoveryPoints", "ListRecoveryPoints", recovery_points.list_points)
    add("GET", f"{item}/recoveryPoints/{{point}}", "GetRecoveryPoint", recovery_points.get_point)
    add("POST", f"{item}/recoveryPoints/{{point}}/move", "MoveRecoveryPoint", archive.move)
    add("POST", f"{item}/recoveryPoints/{{point}}/restore", "Restore", restores.restore)

    add(
        "POST",
        "/backupTriggerValidateOperation",
        "TriggerValidateOperation",
        restores.trigger_validation,
    )

    for path in (
        "/backupOperations/{operation}",
        "/backupValidateOperationsStatuses/{operation}",
        "/backupPolicies/{policy}/operations/{operation}",
        f"{fabric}/operationsStatus/{{operation}}",
        "/backupJobs/{job}/operationsStatus/{operation}",
        f"{container}/operationsStatus/{{operation}}",
        f"{item}/operationsStatus/{{operation}}",
    ):
        add("GET", path, "OperationStatus", operations.operation_status)
    for path in (
        "/backupOperationResults/{operation}",
        "/backupValidateOperationResults/{operation}",
        "/backupPolicies/{policy}/operationResults/{operation}",
        "/backupJobs/{job}/operationResults/{operation}",
        f"{fabric}/operationResults/{{operation}}",
        f"{container}/operationResults/{{operation}}",
        f"{item}/operationResults/{{operation}}",
    ):
        add("GET", path, "OperationResult", operations.operation_result)
    add("GET", "/backupJobs", "ListJobs", jobs.list_jobs)
    add("GET", "/backupJobs/{job}", "GetJob", jobs.get_job)
    add("POST", "/backupJobs/{job}/cancel", "CancelJob", jobs.cancel_job)

    add("GET", "/backupProtectionIntents", "ListProtectionIntents", intents.list_intents)
    intent = f"{fabric}/backupProtectionIntent/{{intent}}"
    add("GET", intent, "GetProtectionIntent", intents.get_intent)
    add("PUT", intent, "PutProtectionIntent", intents.put_intent)
    add("DELETE", intent, "DeleteProtectionIntent", intents.delete_intent)


_BY_BODY = {
    "Reregister": Route("Reregister", containers.register, backup=True),
    "StopProtection": Route("StopProtection", protection.stop, backup=True),
    "Undelete": Route("Undelete", protection.undelete, backup=True),
}


def refine(route: Route, request: Request) -> Route:
    """The route of a PUT whose body decides what it does."""
    if route.name not in ("Register", "ConfigureBackup"):
        return route
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        return route
    properties = nested(body, "properties")
    if not isinstance(properties, dict):
        return route
    if route.name == "Register":
        again = properties.get("operationType") in ("Reregister", "Rehydrate")
        return _BY_BODY["Reregister"] if again else route
    if properties.get("isRehydrate") is True:
        return _BY_BODY["Undelete"]
    if properties.get("protectionState") in ("ProtectionStopped", "BackupsSuspended"):
        return _BY_BODY["StopProtection"]
    return route
