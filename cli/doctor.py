"""`sqlvmbackup doctor`: finds what is wrong with settings, token, rights, queues and clock. It changes nothing.

Azure tells what an identity may do (https://learn.microsoft.com/rest/api/authorization): for the caller by
`permissions`, for another by its role assignments. `cli.rights` has what is needed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from cli import rights
from cli.azure import resource_manager
from cli.deployed_app import DeployedApp, find_app, lacking, read_app
from cli.embedded import NOT_OF_A_RUN, settings_of_a_run
from cli.entities import queue_properties, subscription_properties, topic_properties
from cli.entity_findings import entity_findings
from cli.errors import CommandError
from cli.findings import Finding
from cli.output import output_of, write_data
from cli.places import VAULT, subscription_id
from cli.rights import Role, Scope, allows
from cli.served import served_by
from shared.arm.client import ArmClient, ArmResponse
from shared.arm.errors import ArmError, ArmStatusError, TokenError
from shared.arm.ids import InvalidResourceIdError, VaultId, VirtualMachineId
from shared.bus.topology import TOPOLOGY
from shared.namespace import connect
from shared.settings import (
    SERVICE_BUS_CONNECTION,
    SERVICE_BUS_NAMESPACE,
    Settings,
    SettingsError,
    host_setting,
    read_settings,
)

JsonObject = dict[str, Any]

_AUTHORIZATION: Final = "2022-04-01"
_SERVICE_BUS: Final = "2024-01-01"
_VAULTS: Final = "2024-04-01"
#: Entra ID lets clocks differ by five minutes; well before that, time-outs and deadlines are wrong.
_CLOCKS_MAY_DIFFER: Final = timedelta(minutes=1)


def doctor(options: argparse.Namespace) -> int:
    """Check everything that was named; returns the exit status: 0 nothing is wrong, 1 something is."""
    output = output_of(options)
    vaults = [_id(VaultId, text, "--vault") for text in options.vault]
    if not vaults and (of_environment := os.environ.get(VAULT, "").strip()):
        vaults = [_id(VaultId, of_environment, VAULT)]
    machines = [_id(VirtualMachineId, text, "--vm") for text in options.vm]
    drill_machines = [_id(VirtualMachineId, text, "--drill-vm") for text in options.drill_vm]
    found = _look(options, vaults, machines, drill_machines)
    # What is wrong comes last, where it is seen.
    found.sort(key=lambda each: each.todo is not None)
    wrong = sum(each.todo is not None for each in found)
    shown = [each for each in found if each.todo is not None or not output.failed_only]
    if not output.is_table:
        write_data([each.row for each in shown], output)
    else:
        for each in shown:
            print(each.text)
        print(
            "Nothing is wrong."
            if not wrong
            else f"{wrong} of {len(found)} {'is' if wrong == 1 else 'are'} wrong."
        )
    return 1 if wrong else 0


def _look(
    options: argparse.Namespace,
    vaults: Sequence[VaultId],
    machines: Sequence[VirtualMachineId],
    drill_machines: Sequence[VirtualMachineId],
) -> list[Finding]:
    """All findings, with the settings of the deployed app that is named, else those of the environment."""
    environment = settings_of_a_run(os.environ, options.arm_endpoint)
    subscription = _subscription(options, vaults)
    looked_at: Mapping[str, str] = {
        **environment,
        **{name: os.environ[name] for name in NOT_OF_A_RUN if name in os.environ},
    }
    principal = options.identity
    found: list[Finding] = []
    if options.app is None:
        found += settings_findings(looked_at)
        if _usable_settings(looked_at) is None:
            return found
    with resource_manager(environment) as arm:
        if options.app is not None:
            app = _app(arm, options.app, subscription)
            if isinstance(app, Finding):
                return [app]
            looked_at, principal = app.settings, principal or app.principal
            found += app_findings(app, arm.endpoint)
        settings = _usable_settings(looked_at)
        if settings is None:
            return found
        examined = Examination(
            arm,
            settings,
            principal=principal,
            options=tuple(options.option),
            on_loopback=settings.on_loopback,
        )
        found += examined.findings(
            vaults=vaults,
            machines=machines,
            drill_machines=drill_machines or _drill_machines(settings),
            namespace=options.namespace or host_setting(looked_at, SERVICE_BUS_NAMESPACE) or None,
            subscription=subscription,
        )
    return found


def _subscription(options: argparse.Namespace, vaults: Sequence[VaultId]) -> str | None:
    """The subscription of namespace and app. Raises CommandError for an unknown one."""
    if options.subscription is None and vaults:
        return vaults[0].subscription_id
    try:
        return subscription_id(options.subscription, os.environ)
    except CommandError:
        if options.subscription is not None:
            raise
        return None


def _drill_machines(settings: Settings) -> list[VirtualMachineId]:
    """The VMs that the app's own settings name for drills."""
    serves = any(operation.value == "drill" for operation in settings.workflows)
    return list(dict.fromkeys(target.vm_id for target in settings.drill_targets)) if serves else []


def _not_found(what: str, subscription: str | None) -> Finding:
    """The finding for an app or a namespace that was named, and is not where it was looked for."""
    known = f"It is not in subscription {subscription}." if subscription else "Its subscription is not known."
    todo = "Name it by its full ARM id, or its subscription with --subscription."
    return Finding(what=what, finding=known, todo=todo)


def _app(arm: ArmClient, name: str, subscription: str | None) -> DeployedApp | Finding:
    """The deployed app that is named, with its settings; a finding where it cannot be read."""
    what = f"app {name}"
    try:
        site = find_app(arm, name, subscription)
        if site is None:
            return _not_found(what, subscription)
        return read_app(arm, site)
    except (ArmError, TokenError) as error:
        return Finding(
            what=what,
            finding=f"It or its settings cannot be read: {_said(error)}",
            todo="Grant yourself Website Contributor on it (Reader may not read settings), or leave out --app.",
        )


def app_findings(app: DeployedApp, arm_endpoint: str) -> Iterator[Finding]:
    """Problems with the settings of a deployed app: its own, and those that the host needs."""
    group = app.id.split("/")[4]
    missing = list(lacking(app, arm_endpoint))
    for each in missing:
        yield Finding(
            what=f"setting {each.name} of app {app.name}",
            finding=each.finding,
            todo=f"az functionapp config appsettings set --name {app.name} --resource-group {group}"
            f' --settings "{each.name}={each.value}"',
        )
    for found in settings_findings(app.settings):
        # Missing settings are reported already.
        if found.todo is None and missing:
            continue
        yield found
    if app.principal is None:
        yield Finding(
            what=f"identity of app {app.name}",
            finding="AZURE_CLIENT_ID names none of its identities.",
            todo="Set AZURE_CLIENT_ID to the client id of one, or name its object id with --identity.",
        )


def _id(kind: Any, text: str, flag: str) -> Any:
    try:
        return kind.parse(text)
    except InvalidResourceIdError as error:
        raise CommandError(f"{flag}: {error}.") from error


def _usable_settings(environment: Mapping[str, str]) -> Settings | None:
    try:
        return read_settings(environment)
    except SettingsError:
        return None


def settings_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Every problem with the settings, and with those for Service Bus where there are any."""
    problems: list[str] = []
    try:
        read_settings(environment)
    except SettingsError as error:
        problems += error.problems
    if any(name.lower().startswith(SERVICE_BUS_CONNECTION.lower()) for name in environment):
        try:
            connect(environment)
        except SettingsError as error:
            problems += error.problems
    for problem in problems:
        name, _, said = problem.partition(":")
        yield Finding(
            what=f"setting {name}", finding=said.strip(), todo=f"Correct {name} (docs/settings.md)."
        )
    if not problems:
        yield Finding(what="settings", finding="They can be used.")


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
        self._definitions: dict[str, list[JsonObject]] = {}

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
            yield Finding(
                what="token",
                finding=f"{error}.",
                todo="Sign in (az login), or correct the settings of the identity.",
            )
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
                    what=what, finding=f"It cannot be read: {_said(error)}", todo=_reading(vault.path)
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
        granted = self._granted(scope)
        if isinstance(granted, str):
            return Finding(what=what, finding=granted, todo=_reading(scope))
        missing = [action for action in role.actions if not _permits(granted, "actions", action)]
        if not missing:
            return Finding(what=what, finding="Everything it holds is allowed.")
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

    def _granted(self, scope: str) -> list[JsonObject] | str:
        """The permissions that the identity has on a scope; a text that says why where they cannot be read."""
        path = quote(scope, safe="/")
        try:
            if self._principal is None:
                return list(
                    self._arm.pages(
                        "list permissions",
                        f"{path}/providers/Microsoft.Authorization/permissions",
                        params={"api-version": _AUTHORIZATION},
                    )
                )
            return self._granted_to(self._principal, path)
        except (ArmError, TokenError) as error:
            return f"what the identity may do cannot be read: {_said(error)}"

    def _granted_to(self, principal: str, path: str) -> list[JsonObject]:
        found: list[JsonObject] = []
        assignments = self._arm.pages(
            "list role assignments",
            f"{path}/providers/Microsoft.Authorization/roleAssignments",
            params={"api-version": _AUTHORIZATION, "$filter": f"atScope() and assignedTo('{principal}')"},
        )
        for assignment in assignments:
            definition = str(assignment.get("properties", {}).get("roleDefinitionId", ""))
            if definition not in self._definitions:
                name = definition.rpartition("/")[2]
                subscription = path.split("/")[2]
                response = self._arm.get(
                    "get a role definition",
                    f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{quote(name)}",
                    params={"api-version": _AUTHORIZATION},
                )
                self._definitions[definition] = response.body["properties"]["permissions"]
            found += self._definitions[definition]
        return found

    # The namespace

    def _namespace(self, namespace: str, subscription: str | None) -> Iterator[Finding]:
        what = f"namespace {namespace}"
        try:
            resource = self._find(namespace, subscription)
        except (ArmError, TokenError) as error:
            yield Finding(
                what=what, finding=f"It cannot be read: {_said(error)}", todo="Grant yourself Reader on it."
            )
            return
        if resource is None:
            yield _not_found(what, subscription)
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
                finding=f"Its queues cannot be read: {_said(error)}",
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
        granted = self._granted(scope)
        if isinstance(granted, str):
            yield Finding(what=what, finding=granted, todo=_reading(scope))
            return
        missing = [action for action in rights.NAMESPACE_ACTIONS if not _permits(granted, "actions", action)]
        missing += [
            action for action in rights.NAMESPACE_DATA_ACTIONS if not _permits(granted, "dataActions", action)
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
                    finding=f"They cannot be read: {_said(error)}",
                    todo=_reading(group),
                )
                continue
            if not found:
                continue
            held = any(
                not isinstance(granted := self._granted(scope), str)
                and all(_permits(granted, "dataActions", action) for action in actions)
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


def _permits(granted: Iterable[JsonObject], kind: str, action: str) -> bool:
    """Whether one of the permissions allows an action, and does not itself exclude it."""
    denied = {"actions": "notActions", "dataActions": "notDataActions"}[kind]

    def holds(entry: JsonObject, field: str) -> bool:
        return any(allows(str(pattern), action) for pattern in entry.get(field) or ())

    return any(holds(entry, kind) and not holds(entry, denied) for entry in granted)


def _said(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _reading(scope: str) -> str:
    return f"Grant yourself Reader on {scope}, and look again."
