"""`sqlvmbackup doctor`: finds what is wrong with settings, token, rights, queues and clock. It changes nothing.

`cli.examination` has what is looked at in Azure.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.azure import resource_manager
from cli.deployed_app import DeployedApp, find_app, lacking, read_app
from cli.embedded import NOT_OF_A_RUN, settings_of_a_run
from cli.errors import CommandError
from cli.examination import Examination
from cli.findings import Finding, no_token, not_found, reason_of
from cli.output import output_of, write_data
from cli.places import VAULT, subscription_id
from shared.arm.client import ArmClient
from shared.arm.errors import ArmError, TokenError
from shared.arm.ids import InvalidResourceIdError, VaultId, VirtualMachineId
from shared.namespace import connect
from shared.settings import (
    SERVICE_BUS_CONNECTION,
    SERVICE_BUS_NAMESPACE,
    Settings,
    SettingsError,
    host_setting,
    read_settings,
)


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


def _app(arm: ArmClient, name: str, subscription: str | None) -> DeployedApp | Finding:
    """The deployed app that is named, with its settings; a finding where it cannot be read."""
    what = f"app {name}"
    try:
        site = find_app(arm, name, subscription)
        if site is None:
            return not_found(what, subscription)
        return read_app(arm, site)
    except TokenError as error:
        return no_token(error)
    except ArmError as error:
        return Finding(
            what=what,
            finding=f"It or its settings cannot be read: {reason_of(error)}",
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
        name, _, reason = problem.partition(":")
        yield Finding(
            what=f"setting {name}", finding=reason.strip(), todo=f"Correct {name} (docs/settings.md)."
        )
    if not problems:
        yield Finding(what="settings", finding="They can be used.")
