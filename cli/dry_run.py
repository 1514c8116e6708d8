"""`--dry-run`: what a request would do to which databases, by the app's own steps that only read."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import Any, Final

from cli.azure import azure
from cli.display import json_lines, print_rows
from cli.embedded import settings_of_a_run
from cli.request_lines import RequestLine
from shared.arm.ids import ProtectedItemId, VaultId, VirtualMachineId
from shared.messages.events import Event, OutcomeData
from shared.messages.model import format_moment
from shared.messages.requests import BackupData, ProtectData, RestoreData, read_data
from shared.messages.steps import (
    BackupPlan,
    BackupTask,
    ProtectPlan,
    ProtectTask,
    Request,
    RestorePlan,
    StepMessage,
)
from shared.workflow import backup, protect, restore
from shared.workflow.step import Collaborators, Result
from shared.workflow.vaults import vault_not_found

JsonObject = dict[str, Any]

_COLUMNS: Final = ("vm", "database", "would", "how")
_ACTIONS: Final = {
    "enable": "be protected",
    "already": "stay as it is",
    "changePolicy": "change its policy",
    "resume": "be resumed",
    "undelete": "be undeleted, then resumed",
}


def dry_run(line: RequestLine, options: argparse.Namespace) -> int:
    """Show what the request would do; returns the exit status: 1 where some of it would fail."""
    assert line.envelope is not None
    operation, data = read_data(line.envelope)
    with azure(settings_of_a_run(os.environ, options.arm_endpoint)) as reading:
        # No step changes anything once its message is late.
        c = replace(reading, late=lambda: True)
        request = Request(
            operation=operation, source=line.envelope.source, id=line.envelope.id, vault_id=data.vault_id
        )
        if isinstance(data, ProtectData):
            rows = _protect(data, request, c)
        elif isinstance(data, BackupData):
            rows = _backup(data, request, c)
        else:
            rows = [_restore(data, request, c)]
    print_rows(_COLUMNS, rows, as_json=json_lines(options.json), nothing="It would do nothing.")
    return 1 if any(row["would"] == "fail" for row in rows) else 0


def _message(step: str, request: Request, payload: Any, c: Collaborators) -> StepMessage[Any]:
    now = c.now()
    return StepMessage(step=step, sender="dry_run", at=now, since=now, request=request, payload=payload)


def _protect(data: ProtectData, request: Request, c: Collaborators) -> list[JsonObject]:
    prepared: list[JsonObject] = []
    everything = _row("every database that is found", "be protected", f"policy {data.policy_name}")
    if c.backup.get_vault(data.vault_id) is None:
        if data.create_vault is None:
            raise vault_not_found(c, data.vault_id)
        wanted = data.create_vault
        prepared.append(
            _row(f"vault {data.vault_id.name}", "be created", f"{wanted.location}, {wanted.redundancy}")
        )
        return [*prepared, everything]
    policies = {policy.name.casefold(): policy for policy in c.backup.list_policies(data.vault_id)}
    policy = policies.get(data.policy_name.casefold())
    if policy is None and data.create_policy is not None:
        prepared.append(_row(f"policy {data.policy_name}", "be created", ""))
    elif policy is None:
        # The step says which there are.
        protect.select_policy(_message("select_policy", request, ProtectPlan(data=data), c), c)
    container = next(
        (
            found
            for found in c.backup.list_registered_containers(data.vault_id)
            if data.vm_id is not None and found.virtual_machine_id == data.vm_id
        ),
        None,
    )
    if data.vm_id is not None and container is None:
        return [*prepared, _registering(data.vault_id, data.vm_id, c), everything]
    plan = ProtectPlan(
        data=data,
        policy_id=policy.id if policy is not None else data.policy_name,
        policy_name=policy.name if policy is not None else data.policy_name,
    )
    if container is not None and data.vm_id is not None:
        after = (
            protect.refresh_containers(_message("refresh_containers", request, plan, c), c).next[0].message
        )
        plan = after.payload
        result = protect.select_databases(_message("select_databases", request, plan, c), c)
        if after.step == "inquire_container" or _steps(result) == {"inquire_container"}:
            note = "what has changed there since the last time is known only after that"
            prepared.append(_row(f"VM {data.vm_id.name}", "be inquired", note))
    # As after the inquiry that a run may make: nothing is asked of the VM now.
    known = plan.model_copy(update={"inquired": True})
    result = protect.select_databases(_message("select_databases", request, known, c), c)
    return [*prepared, *_rows(result)]


def _steps(result: Result) -> set[str]:
    return {following.message.step for following in result.next}


def _registering(vault_id: VaultId, vm_id: VirtualMachineId, c: Collaborators) -> JsonObject:
    offered = c.backup.list_protectable_containers(vault_id)
    if any(found.virtual_machine_id == vm_id for found in offered):
        return _row(f"VM {vm_id.name}", "be registered", "its databases are known only after that")
    note = (
        f"vault {vault_id.name} does not offer it yet: the service looks for VMs first, and the request fails if"
        " it finds none of this id; its databases are known once it is registered"
    )
    return _row(f"VM {vm_id.name}", "be looked for", note)


def _backup(data: BackupData, request: Request, c: Collaborators) -> list[JsonObject]:
    return _rows(backup.select_items(_message("select_items", request, BackupPlan(data=data), c), c), c)


def _restore(data: RestoreData, request: Request, c: Collaborators) -> JsonObject:
    first = _message("select_recovery_point", request, RestorePlan(data=data), c)
    result = restore.select_recovery_point(first, c)
    following = result.next[0].message
    task = following.payload
    properties = restore.restore_properties(following, c, ProtectedItemId.parse(task.item_id))
    target = task.target.model_dump(mode="json", by_alias=True, exclude_none=True)
    place = target.get("database") or target.get("path") or "the original"
    files = [item["targetPath"] for item in properties.get("alternateDirectoryPaths", [])]
    chosen = task.recovery_point
    how = f"from {chosen.kind} {format_moment(chosen.time)} to {place}"
    return _row(
        str(task.database),
        "be restored",
        f"{how}; files: {', '.join(files)}" if files else how,
        vm_id=task.database.vm_id,
        recoveryPoint=chosen.name,
        target=target,
    )


def _rows(result: Result, c: Collaborators | None = None) -> list[JsonObject]:
    rows = [_task_row(following.message.payload, c) for following in result.next]
    for event in result.events:
        rows += _event_rows(event)
    return rows


def _task_row(task: ProtectTask | BackupTask, c: Collaborators | None) -> JsonObject:
    if isinstance(task, ProtectTask):
        action, how = _ACTIONS[task.action], f"policy {task.policy_name}"
        return _row(str(task.database), action, how, vm_id=task.database.vm_id)
    until = backup.expiry(task, c.now()) if c is not None else None
    kept = f", kept until {format_moment(until)}" if until is not None else ", kept as its policy says"
    return _row(str(task.database), "be backed up", f"{task.backup_type}{kept}", vm_id=task.database.vm_id)


def _event_rows(event: Event) -> list[JsonObject]:
    data = event.data
    if isinstance(data, OutcomeData) and data.error is not None:
        parent = data.instance or data.availability_group
        name = f"{parent}/{data.database}" if data.database is not None else "the request"
        would = "be skipped" if data.status == "skipped" else "fail"
        return [_row(name, would, data.error.message, vm_id=data.vm_id)]
    reasons = ", ".join(getattr(data, "skipped", {}))
    return [_row(name, "be skipped", reasons) for name in getattr(data, "skipped_names", ())]


def _row(
    database: str, would: str, how: str, *, vm_id: VirtualMachineId | str | None = None, **more: Any
) -> JsonObject:
    path = str(vm_id or "")
    machine = {"vm": path.rpartition("/")[2], "vmId": path} if path else {}
    return {**machine, "database": database, "would": would, "how": how, **more}
