"""`--dry-run`: what a request would do to which databases, found by the app's own steps, which only read."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cli.azure import azure
from cli.embedded import settings_of_a_run
from cli.encoding import JsonObject
from cli.errors import FAILED, CommandError
from cli.errors import failed as as_failed
from cli.flags import in_flags
from cli.left_out import excluded_in_vain, left_out_of, left_unprotected
from cli.output import output_of, print_rows
from cli.request_lines import RequestLine
from cli.wording import restored_to
from shared.arm.ids import ContainerId, ProtectedItemId, VaultId, VirtualMachineId
from shared.azure_backup.models import Policy
from shared.engine.message import Payload, StepMessage
from shared.engine.result import Collaborators, Continue, End, Failure, Step
from shared.messages.error_codes import ErrorCode
from shared.messages.events import AcceptedData, Event, OutcomeData
from shared.messages.identity import Request
from shared.messages.model import format_moment
from shared.messages.requests import (
    BackupData,
    CoverageData,
    DrillData,
    FilesTarget,
    OriginalTarget,
    ProtectData,
    RestoreData,
    read_data,
)
from shared.names import enumeration
from shared.steps import backup, drill_selection, policies, protect, restore
from shared.steps.candidates import registered_container
from shared.steps.drill_restores import next_drill
from shared.steps.payloads import (
    BackupPlan,
    BackupTask,
    DrillPlan,
    ProtectPlan,
    ProtectTask,
    RestorePlan,
    RestoreTask,
)
from shared.steps.vaults import vault_not_found

_COLUMNS: Final = ("vm", "database", "would", "how")
_FIELDS: Final = ("vm", "vmId", "database", "would", "how", "code", "recoveryPoint", "target")
_NOT_DONE: Final = frozenset({"fail", "be skipped", "be left out"})
_ACTIONS: Final = {
    "enable": "be protected",
    "already": "stay as it is",
    "changePolicy": "change its policy",
    "resume": "be resumed",
    "undelete": "be undeleted, then resumed",
    "autoProtect": "be auto-protected",
}


def dry_run(line: RequestLine, options: argparse.Namespace) -> int:
    """Show what the request would do; returns the exit status: 1 if some of it would fail."""
    assert line.envelope is not None
    operation, data = read_data(line.envelope)
    assert not isinstance(data, CoverageData), "no command asks for coverage with --dry-run"
    with azure(settings_of_a_run(os.environ, options.arm_endpoint)) as collaborators:
        request = Request(
            operation=operation, source=line.envelope.source, id=line.envelope.id, vault_id=data.vault_id
        )
        try:
            if isinstance(data, ProtectData):
                rows = _protect(data, request, collaborators)
            elif isinstance(data, BackupData):
                rows = _backup(data, request, collaborators)
            elif isinstance(data, DrillData):
                rows = _drill(data, request, collaborators)
            else:
                rows = [_restore(data, request, collaborators)]
        except CommandError as error:
            raise CommandError(in_flags(str(error)), status=error.status) from error
    rows = [{**row, "how": in_flags(row["how"])} for row in rows]
    rows.sort(key=lambda row: row["would"] == "fail")
    print_rows(
        _COLUMNS,
        rows,
        output_of(options),
        nothing="It would do nothing.",
        fields=_FIELDS,
        name=("vm", "database"),
        failed=lambda row: row["would"] == "fail",
    )
    done = [row for row in rows if row["would"] not in _NOT_DONE]
    return 0 if done and not any(row["would"] == "fail" for row in rows) else 1


def _message(step: str, request: Request, payload: Any, collaborators: Collaborators) -> StepMessage[Any]:
    now = collaborators.now()
    return StepMessage(step=step, sender="dry_run", at=now, since=now, request=request, payload=payload)


def _protect(data: ProtectData, request: Request, collaborators: Collaborators) -> list[JsonObject]:
    prepared: list[JsonObject] = []
    everything = _row(_asked_for(data), "be protected", f"policy {data.policy_name}")
    if collaborators.azure.get_vault(data.vault_id) is None:
        if data.create_vault is None:
            raise as_failed(vault_not_found(collaborators, data.vault_id))
        wanted = data.create_vault
        prepared.append(
            _row(f"vault {data.vault_id.name}", "be created", f"{wanted.location}, {wanted.redundancy}")
        )
        return [*prepared, everything]
    policy = _policy(data, request, collaborators)
    if policy is None:
        prepared.append(_row(f"policy {data.policy_name}", "be created", ""))
    registered = collaborators.azure.list_registered_containers(data.vault_id)
    container = registered_container(registered, data.vm_id) if data.vm_id is not None else None
    if isinstance(container, Failure):
        raise as_failed(container)
    if data.vm_id is not None and container is None:
        return [*prepared, _registering(data.vault_id, data.vm_id, collaborators), everything]
    plan = ProtectPlan(
        data=data,
        policy_id=policy.id if policy is not None else data.policy_name,
        policy_name=policy.name if policy is not None else data.policy_name,
    )
    if container is not None and data.vm_id is not None:
        plan, inquired = _refreshed(plan, request, collaborators)
        if inquired:
            note = "what has changed there since the last time is known only after that"
            prepared.append(_row(f"VM {data.vm_id.name}", "be inquired", note))
    # As if the inquiry that a run may make had ended: the VM is not inquired now.
    known = plan.model_copy(update={"inquired": True})
    result = _spread(
        protect.select_databases, _message("select_databases", request, known, collaborators), collaborators
    )
    rows = _rows(result, data)
    if prepared and prepared[-1]["would"] == "be inquired":
        rows = [
            _not_known_yet(row) if row.get("code") == ErrorCode.DATABASE_NOT_FOUND else row for row in rows
        ]
    return [*prepared, *rows]


def _asked_for(data: ProtectData) -> str:
    """The databases of a VM whose databases are not known yet, in the words of the request."""
    named, excluded = (
        enumeration(str(one).removeprefix("*/") for one in those) for those in (data.databases, data.exclude)
    )
    matching = "" if any(one.is_everything for one in data.databases) else f" and matches {named}"
    return f"every database that is found{matching}{f', except {excluded}' if data.exclude else ''}"


def _refreshed(plan: ProtectPlan, request: Request, collaborators: Collaborators) -> tuple[ProtectPlan, bool]:
    """The plan as it goes on from a registered VM, and whether the VM would be inquired first."""
    refresh = _message("refresh_containers", request, plan, collaborators)
    after = _onward(protect.refresh_containers, refresh, collaborators).to[0]
    assert isinstance(after.payload, ProtectPlan)
    select = _message("select_databases", request, after.payload, collaborators)
    selected = _onward(protect.select_databases, select, collaborators)
    return after.payload, "inquire_container" in (after.step, selected.to[0].step)


def _policy(data: ProtectData, request: Request, collaborators: Collaborators) -> Policy | None:
    """The policy that the request names; None where it would be created. Raises CommandError where it cannot be."""
    policy = policies.policy_named(data.policy_name, collaborators.azure.list_policies(data.vault_id))
    if isinstance(policy, Failure):
        raise as_failed(policy)
    if policy is None and data.create_policy is None:
        # The step's error lists the existing ones.
        _onward(
            protect.select_policy,
            _message("select_policy", request, ProtectPlan(data=data), collaborators),
            collaborators,
        )
    elif policy is None and (invalid := policies.invalid_new_name(data.policy_name)) is not None:
        raise as_failed(invalid)
    return policy


def _not_known_yet(row: JsonObject) -> JsonObject:
    how = "it is not known yet: the request fails for it if the inquiry does not find it"
    return {**row, "would": "be looked for", "how": how}


def _onward(step: Step, message: StepMessage[Any], collaborators: Collaborators) -> Continue:
    """The message that a step goes on with. Raises CommandError where the request would end there."""
    result = step(message, collaborators)
    if isinstance(result, End):
        assert result.error is not None
        raise CommandError(f"{result.error.code}: {result.error.message}", status=FAILED)
    assert isinstance(result, Continue), f"step {message.step} would change something"
    return result


def _spread(step: Step, message: StepMessage[Any], collaborators: Collaborators) -> Continue:
    """The tasks that a selection leads to."""
    fixed = _onward(step, message, collaborators).to[0]
    return _onward(step, message.model_copy(update={"payload": fixed.payload}), collaborators)


def _registering(vault_id: VaultId, vm_id: VirtualMachineId, collaborators: Collaborators) -> JsonObject:
    offered = collaborators.azure.list_protectable_containers(vault_id)
    if any(found.virtual_machine_id == vm_id for found in offered):
        return _row(f"VM {vm_id.name}", "be registered", "its databases are known only after that")
    note = (
        f"vault {vault_id.name} does not offer this VM yet, so the service looks for new ones first; where it does"
        " not find it, the request fails. Its databases are known once it is registered"
    )
    return _row(f"VM {vm_id.name}", "be looked for", note)


def _backup(data: BackupData, request: Request, collaborators: Collaborators) -> list[JsonObject]:
    first = _message("select_items", request, BackupPlan(data=data), collaborators)
    rows = _rows(_spread(backup.select_items, first, collaborators), data, collaborators)
    return rows + [
        _row(name, "be left out", "not protected")
        for one in left_unprotected(data, collaborators.azure)
        for name in one.names
    ]


def _drill(data: DrillData, request: Request, collaborators: Collaborators) -> list[JsonObject]:
    selected = _spread(
        drill_selection.select_drills,
        _message("select_drills", request, DrillPlan(data=data), collaborators),
        collaborators,
    )
    rows = []
    following = selected.to[0] if selected.to else None
    while following is not None:
        task = following.payload
        assert isinstance(task, RestoreTask)
        target = task.target.model_dump(mode="json", by_alias=True, exclude_none=True)
        source = task.database.model_dump(mode="json", by_alias=True)
        check = "without a check" if data.check == "none" else "then checked by DBCC CHECKDB"
        how = f"{restored_to({**source, 'target': target})}, {check}{' and dropped' if data.clean_up else ''}"
        rows.append(_row(str(task.database), "be drilled", how, vm_id=task.database.vm_id, target=target))
        following = next_drill(_message("trigger_restore", request, task, collaborators))
    return [*rows, *_rows(replace(selected, to=()), data)]


def _restore(data: RestoreData, request: Request, collaborators: Collaborators) -> JsonObject:
    first = _message("select_recovery_point", request, RestorePlan(data=data), collaborators)
    task = _onward(restore.select_recovery_point, first, collaborators).to[0].payload
    assert isinstance(task, RestoreTask)
    following = _message("trigger_restore", request, task, collaborators)
    properties = restore.restore_properties(following, collaborators, ProtectedItemId.parse(task.item_id))
    if isinstance(properties, Failure):
        raise as_failed(properties)
    target = task.target.model_dump(mode="json", by_alias=True, exclude_none=True)
    files = [item["targetPath"] for item in properties.get("alternateDirectoryPaths", [])]
    notes = [*([f"files: {', '.join(files)}"] if files else []), *restore.warnings_of(task, properties)]
    chosen = task.recovery_point
    assert chosen is not None
    source = task.database.model_dump(mode="json", by_alias=True)
    how = f"from {chosen.kind} {format_moment(chosen.time)} to {restored_to({**source, 'target': target})}"
    return _row(
        str(task.database),
        "be restored",
        "; ".join(filter(None, (how, _overwritten(task, properties, collaborators), *notes))),
        vm_id=task.database.vm_id,
        recoveryPoint=chosen.name,
        target=target,
    )


def _overwritten(task: RestoreTask, properties: Mapping[str, Any], collaborators: Collaborators) -> str:
    """What the restore replaces, as far as it is known; empty for files that are new."""
    target = task.target
    if isinstance(target, OriginalTarget):
        return f"it replaces {task.database}"
    if isinstance(target, FilesTarget):
        return "it may replace files of the same names" if task.overwrite else ""
    name = f"{target.instance}/{target.database}"
    if task.overwrite:
        container_id = ContainerId.parse(properties["targetInfo"]["containerId"])
        if restore.target_exists(collaborators, container_id, target) is not None:
            return f"it replaces {name}, which is there"
    otherwise = "it is replaced" if task.overwrite else "the restore fails"
    return f"as of the VM's last inquiry, there is no {name} there; if it has been created since, {otherwise}"


def _rows(
    result: Continue, asked: ProtectData | BackupData | DrillData, collaborators: Collaborators | None = None
) -> list[JsonObject]:
    rows = [_task_row(to.payload, collaborators) for to in result.to]
    for event in result.events:
        rows += _outcome_rows(event)
    if result.accepted is not None and isinstance(result.accepted.data, AcceptedData):
        rows += _skipped_rows(result.accepted.data)
        if vain := excluded_in_vain(asked, result.accepted.data):
            print(f"--exclude: no database that is asked for is called {', '.join(vain)}.", file=sys.stderr)
    return rows


def _task_row(task: Payload, collaborators: Collaborators | None) -> JsonObject:
    assert isinstance(task, ProtectTask | BackupTask)
    if isinstance(task, ProtectTask):
        action, how = _ACTIONS[task.action], f"policy {task.policy_name}"
        return _row(str(task.database), action, how, vm_id=task.database.vm_id)
    until = backup.expiry(task, collaborators.now()) if collaborators is not None else None
    kept = f", kept until {format_moment(until)}" if until is not None else ", kept as its policy says"
    return _row(str(task.database), "be backed up", f"{task.backup_type}{kept}", vm_id=task.database.vm_id)


def _outcome_rows(event: Event) -> list[JsonObject]:
    data = event.data
    if isinstance(data, OutcomeData) and data.error is not None:
        parent = data.instance or data.availability_group
        name = f"{parent}/{data.database}" if data.database is not None else "the request"
        would = "be skipped" if data.status == "skipped" else "fail"
        how = f"{data.error.code}: {data.error.message}"
        return [_row(name, would, how, vm_id=data.vm_id, code=data.error.code)]
    return []


def _skipped_rows(data: AcceptedData) -> list[JsonObject]:
    rows = []
    for one in left_out_of(data.model_dump(by_alias=True)):
        rows += [_row(name, "be skipped", one.why) for name in one.names]
        if more := one.count - len(one.names):
            rows.append(_row(f"{more} more", "be skipped", one.why))
    return rows


def _row(
    database: str, would: str, how: str, *, vm_id: VirtualMachineId | str | None = None, **more: Any
) -> JsonObject:
    path = str(vm_id or "")
    machine = {"vm": path.rpartition("/")[2], "vmId": path} if path else {}
    return {**machine, "database": database, "would": would, "how": how, **more}
