"""What `doctor` looks at in Azure: token, vaults, clock, rights, and the namespace with its queues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from cli import rights
from cli.encoding import JsonObject
from cli.entities import queue_properties, subscription_properties, topic_properties
from cli.entity_findings import entity_findings
from cli.findings import Finding, no_token, not_found, reason_of
from cli.permissions import Permissions, permits
from cli.rights import Role, Scope
from cli.served import served_by
from shared.arm.client import ArmClient, ArmResponse
from shared.arm.errors import ArmError, ArmStatusError, TokenError
from shared.arm.ids import VaultId, VirtualMachineId
from shared.bus.topology import TOPOLOGY
from shared.settings import Settings

_SERVICE_BUS: Final = "2024-01-01"
_VAULTS: Final = "2024-04-01"
#: Entra ID lets clocks differ by five minutes; well before that, time-outs and deadlines are wrong.
_CLOCKS_MAY_DIFFER: Final = timedelta(minutes=1)


class Examination:
    """One examination of Azure, with one client, for one identity."""

    def __init__(
        self,
        arm: ArmClient,
        settings: Settings,
        *,
        principal: str | None,
        options: Sequence[str],
        on_loopback: bool,
    ) -> None:
        self._arm = arm
        self._workflows = sorted(operation.value for operation in settings.workflows)
        self._principal = principal
        self._options = options
        self._on_loopback = on_loopback
        self._permissions = Permissions(arm, principal)

    def findings(
        self,
        *,
        vaults: Sequence[VaultId],
        machines: Sequence[VirtualMachineId],
        drill_machines: Sequence[VirtualMachineId],
        namespace: str | None,
        subscription: str | None,
    ) -> Iterator[Finding]:
        """All findings, in the order of the checks."""
        try:
            self._arm.authenticate()
        except TokenError as error:
            yield no_token(error)
            return
        yield Finding(what="token", finding="There is one.")
        for vault in vaults:
            yield from self._vault(vault)
        yield from self._roles(vaults, machines, drill_machines)
        if namespace is not None:
            yield from self._namespace(namespace, subscription)
        if not vaults and namespace is None:
            yield Finding(
                what="rights and queues",
                finding="Neither a vault nor a namespace is named, so they were not looked at.",
                todo="Name them with --vault, --vm and --namespace.",
            )

    # Vault and time

    def _vault(self, vault: VaultId) -> Iterator[Finding]:
        what = f"vault {vault.path}"
        try:
            response = self._arm.get("get the vault", vault.url_path, params={"api-version": _VAULTS})
        except ArmStatusError as error:
            if error.status == 404:
                yield Finding(
                    what=what, finding="It is not there.", todo="Correct --vault, or create the vault."
                )
            else:
                yield Finding(
                    what=what, finding=f"It cannot be read: {reason_of(error)}", todo=_reading(vault.path)
                )
            return
        except (ArmError, TokenError) as error:
            yield Finding(
                what=what,
                finding=f"{error}",
                todo="Look at network, proxies and ARM_ENDPOINT (docs/operations.md, Ports).",
            )
            return
        yield Finding(what=what, finding="It is there.")
        yield from self._time(response)

    def _time(self, response: ArmResponse) -> Iterator[Finding]:
        if response.date is None or self._on_loopback:
            return
        apart = abs(datetime.now(UTC) - response.date)
        seconds = round(apart.total_seconds())
        wrong = apart > _CLOCKS_MAY_DIFFER
        yield Finding(
            what="time",
            finding=f"This machine's clock and Azure's are {seconds} seconds apart.",
            todo="Set this machine's clock; from 5 minutes on, tokens are refused." if wrong else None,
        )

    # Rights

    def _roles(
        self,
        vaults: Sequence[VaultId],
        machines: Sequence[VirtualMachineId],
        drill_machines: Sequence[VirtualMachineId],
    ) -> Iterator[Finding]:
        groups = dict.fromkeys(vault.path.partition("/providers/")[0] for vault in vaults)
        subscriptions = dict.fromkeys(f"/subscriptions/{vault.subscription_id}" for vault in vaults)
        scopes: dict[Scope, Iterable[str]] = {
            Scope.VAULT: [vault.path for vault in vaults],
            Scope.VAULT_RESOURCE_GROUP: groups,
            Scope.SUBSCRIPTION: subscriptions,
            Scope.VIRTUAL_MACHINE: [machine.path for machine in machines],
            Scope.DRILL_VIRTUAL_MACHINE: [machine.path for machine in drill_machines],
        }
        workflows = [*self._workflows, *(["drill"] if drill_machines else [])]
        for role in rights.needed(workflows, options=self._options):
            places = list(scopes[role.scope])
            for scope in places:
                yield self._role(role, scope)
            if not places and vaults:
                drills = role.scope is Scope.DRILL_VIRTUAL_MACHINE
                where = "by --drill-vm or DRILL_TARGETS" if drills else "by --vm"
                yield Finding(what=f"role {role.name}", finding=f"no VM is named {where}", skipped=True)

    def _role(self, role: Role, scope: str) -> Finding:
        what = f"role {role.name} on {scope}"
        granted = self._permissions.on(scope)
        if isinstance(granted, str):
            return Finding(what=what, finding=granted, todo=_reading(scope))
        missing = [action for action in role.actions if not permits(granted, "actions", action)]
        if not missing:
            return Finding(what=what, finding="All actions of this role are allowed.")
        return Finding(
            what=what,
            finding=f"not allowed: {', '.join(missing)}; without it the app cannot {role.says}",
            todo=self._grant(f"SQL VM Backup {role.name} (ENVIRONMENT)", scope),
        )

    def _grant(self, role: str, scope: str) -> str:
        who = self._principal or "PRINCIPAL"
        return (
            f"Name that scope in the parameters of infra/main.bicep, or grant the role {role}"
            f" (docs/operations.md, Rights): az role assignment create"
            f" --assignee-principal-type ServicePrincipal --assignee-object-id {who}"
            f' --role "{role}" --scope "{scope}"'
        )

    # The namespace

    def _namespace(self, namespace: str, subscription: str | None) -> Iterator[Finding]:
        what = f"namespace {namespace}"
        try:
            resource = self._find(namespace, subscription)
        except (ArmError, TokenError) as error:
            yield Finding(
                what=what,
                finding=f"It cannot be read: {reason_of(error)}",
                todo="Grant yourself Reader on it.",
            )
            return
        if resource is None:
            yield not_found(what, subscription)
            return
        yield from self._tier(what, resource)
        yield from self._namespace_rights(resource["id"])
        if self._principal is not None:
            yield from self._beside(resource["id"].partition("/providers/")[0])
        try:
            yield from self._entities(quote(resource["id"], safe="/"))
        except (ArmError, TokenError) as error:
            yield Finding(
                what=what,
                finding=f"Its queues cannot be read: {reason_of(error)}",
                todo="Grant yourself Reader on it.",
            )

    def _find(self, namespace: str, subscription: str | None) -> JsonObject | None:
        version = {"api-version": _SERVICE_BUS}
        if namespace.startswith("/"):
            body: JsonObject = self._arm.get(
                "get the namespace", quote(namespace, safe="/"), params=version
            ).body
            return body
        if subscription is None:
            return None
        path = f"/subscriptions/{subscription}/providers/Microsoft.ServiceBus/namespaces"
        name = namespace.partition(".")[0].lower()
        return next(
            (
                each
                for each in self._arm.pages("list namespaces", path, params=version)
                if each.get("name", "").lower() == name
            ),
            None,
        )

    def _tier(self, what: str, resource: JsonObject) -> Iterator[Finding]:
        if str(resource.get("sku", {}).get("name")).lower() == "basic":
            yield Finding(
                what=what,
                finding="Its tier is Basic, which has neither topics nor duplicate detection.",
                todo="Create one of tier Standard or Premium.",
            )
            return
        yield Finding(what=what, finding="It is there.")
        if resource.get("properties", {}).get("disableLocalAuth") is not True:
            yield Finding(
                what=f"{what}: disableLocalAuth",
                finding="It takes connection strings: whoever has a key may do everything.",
                todo="Set disableLocalAuth to true.",
            )

    def _namespace_rights(self, scope: str) -> Iterator[Finding]:
        what = f"role Azure Service Bus Data Owner on {scope}"
        granted = self._permissions.on(scope)
        if isinstance(granted, str):
            yield Finding(what=what, finding=granted, todo=_reading(scope))
            return
        missing = [action for action in rights.NAMESPACE_ACTIONS if not permits(granted, "actions", action)]
        missing += [
            action for action in rights.NAMESPACE_DATA_ACTIONS if not permits(granted, "dataActions", action)
        ]
        yield Finding(
            what=what,
            finding=f"not allowed: {', '.join(missing)}" if missing else "The app may send and receive.",
            todo=self._grant("Azure Service Bus Data Owner", scope) if missing else None,
        )

    def _beside(self, group: str) -> Iterator[Finding]:
        """The host's own storage and telemetry, where they are in the namespace's resource group."""
        for kind, version, role, actions in rights.BESIDE:
            path = f"{quote(group, safe='/')}/providers/{kind}"
            try:
                found = [
                    str(each["id"])
                    for each in self._arm.pages(f"list {kind}", path, params={"api-version": version})
                ]
            except (ArmError, TokenError) as error:
                yield Finding(
                    what=f"{kind} in {group}",
                    finding=f"They cannot be read: {reason_of(error)}",
                    todo=_reading(group),
                )
                continue
            if not found:
                continue
            held = any(
                not isinstance(granted := self._permissions.on(scope), str)
                and all(permits(granted, "dataActions", action) for action in actions)
                for scope in found
            )
            yield Finding(
                what=f"role {role} on {found[0] if len(found) == 1 else f'one of {len(found)} in {group}'}",
                finding="The host may use it." if held else f"not allowed: {', '.join(actions)}",
                todo=None if held else self._grant(role, found[0]),
            )

    def _entities(self, namespace: str) -> Iterator[Finding]:
        version = {"api-version": _SERVICE_BUS}

        def listed(kind: str) -> dict[str, JsonObject]:
            pages = self._arm.pages(f"list {kind}", f"{namespace}/{kind}", params=version)
            return {str(each["name"]).lower(): each.get("properties") or {} for each in pages}

        queues = listed("queues")
        for queue in TOPOLOGY.queues:
            if set(served_by(queue.name)) & set(self._workflows):
                yield from entity_findings(
                    f"queue {queue.name}", queue_properties(queue), queues.get(queue.name)
                )
        topics = listed("topics")
        for topic in TOPOLOGY.topics:
            yield from entity_findings(f"topic {topic.name}", topic_properties(topic), topics.get(topic.name))
            if topic.name in topics:
                subscriptions = listed(f"topics/{topic.name}/subscriptions")
                for subscription in topic.subscriptions:
                    yield from entity_findings(
                        f"subscription {topic.name}/{subscription.name}",
                        subscription_properties(subscription),
                        subscriptions.get(subscription.name),
                    )


def _reading(scope: str) -> str:
    return f"Grant yourself Reader on {scope}, and look again."
