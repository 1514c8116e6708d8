"""`sqlvmbackup protect`, `backup`, `restore` and `drill`: one request, built from flags."""

from __future__ import annotations

import argparse
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from cli.errors import CommandError
from cli.request_lines import SOURCE, RequestLine, request_line
from cli.run import RunOptions, run_requests
from shared.messages.cloud_events import InvalidMessageError, read_envelope
from shared.messages.requests import read_data

JsonObject = dict[str, Any]

#: What a database that is restored is on where nothing else is said, as SQL Server itself has it.
DEFAULT_INSTANCE: Final = "MSSQLSERVER"
EVERY_INSTANCE: Final = "*"

_FLAGS: Final = {
    "vaultId": "--vault",
    "vmId": "--vm",
    "target.vmId": "--to-vm, or --vm for the same",
    "target.instance": "--to-instance",
    "target.database": "--to-database",
    "target.path": "--to-files",
    "target.dataDirectory": "--data-directory",
    "target.logDirectory": "--log-directory",
    "target.files": "--file",
    "policyName": "--policy",
    "databases": "--database",
    "database": "--database",
    "retainFor": "--retain-for",
    "retainUntil": "--retain-until",
    "jobTimeout": "--job-timeout",
    "count": "--count",
    "check": "--check",
    "createPolicy": "--create-policy",
    "createVault": "--create-vault",
    "recoveryPoint.pointInTime": "--point-in-time",
    "recoveryPoint.name": "--recovery-point",
    "recoveryPoint.before": "--before",
    "recoveryPoint": "--point-in-time, --recovery-point, --before or --latest",
}


def request_from(options: argparse.Namespace) -> RequestLine:
    """The request that the flags ask for, checked as the app checks it. Raises CommandError."""
    data = {"protect": _protect, "backup": _backup, "restore": _restore, "drill": _drill}[options.command](
        options
    )
    event = {
        "specversion": "1.0",
        "type": f"sqlvmbackup.{options.command}.requested.v1",
        "source": options.source or SOURCE,
        "id": options.id or str(uuid.uuid4()),
        "data": {name: value for name, value in data.items() if value is not None},
    }
    if options.correlation_id is not None:
        event["correlationid"] = options.correlation_id
    try:
        read_data(read_envelope(json.dumps(event).encode()))
    except InvalidMessageError as error:
        raise CommandError("; ".join(_of_flag(str(problem)) for problem in error.problems)) from error
    return request_line(event)


def _of_flag(problem: str) -> str:
    field = problem.partition(":")[0].split(".")
    inner = [".".join(field[1:end]) for end in range(len(field), 1, -1)]
    flag = next((_FLAGS[name] for name in inner if name in _FLAGS), None)
    return f"{problem} ({flag})" if flag is not None else problem


def send_request(options: argparse.Namespace) -> int:
    """Run the request here, or send it to a deployed app; or show what it would do."""
    line = request_from(options)
    if options.dry_run:
        from cli.dry_run import dry_run

        return dry_run(line, options)
    if options.namespace is not None:
        from cli.namespace import send_and_wait

        return send_and_wait(line, options)
    if options.no_wait:
        raise CommandError("--no-wait goes with --namespace: without one, the app runs in this command.")
    assert line.envelope is not None
    again = f"run the same command with --id {line.envelope.id} again" if not options.id else RunOptions.again
    return run_requests(
        [line],
        RunOptions(
            arm_endpoint=options.arm_endpoint,
            outcomes=options.outcomes,
            state=options.state,
            as_json=options.json,
            again=again,
        ),
        os.environ,
    )


def _protect(options: argparse.Namespace) -> JsonObject:
    return {
        "vaultId": options.vault,
        "vmId": options.vm,
        "policyName": options.policy,
        **_selection(options),
        "onExisting": options.on_existing,
        "resume": options.resume or None,
        "undelete": options.undelete or None,
        "firstBackup": "now" if options.first_backup_now else None,
        "createVault": _create_vault(options),
        "createPolicy": _json_file(options.create_policy, "--create-policy"),
        "jobTimeout": options.job_timeout,
    }


def _create_vault(options: argparse.Namespace) -> JsonObject | None:
    if options.create_vault is None:
        if options.redundancy or options.tag:
            raise CommandError("--redundancy and --tag go with --create-vault LOCATION.")
        return None
    if options.redundancy is None:
        raise CommandError(
            "--create-vault needs --redundancy: it cannot be changed once the vault protects anything."
        )
    return {
        "location": options.create_vault,
        "redundancy": options.redundancy,
        "tags": dict(_pairs(options.tag, "--tag")),
    }


def _backup(options: argparse.Namespace) -> JsonObject:
    return {
        "vaultId": options.vault,
        "vmId": options.vm,
        **_selection(options),
        "backupType": options.type,
        "retainFor": options.retain_for,
        "retainUntil": options.retain_until,
        "compression": options.compression,
        "ifRunning": options.if_running,
        "jobTimeout": options.job_timeout,
    }


def _restore(options: argparse.Namespace) -> JsonObject:
    return {
        "vaultId": options.vault,
        "vmId": options.vm,
        **one_database(options),
        "recoveryPoint": _recovery_point(options),
        "target": _target(options),
        "overwrite": options.overwrite or None,
        "noRecovery": options.no_recovery or None,
        "jobTimeout": options.job_timeout,
    }


def _drill(options: argparse.Namespace) -> JsonObject:
    return {
        "vaultId": options.vault,
        **_user_selection(options),
        "count": options.count,
        "recoveryPoint": _recovery_point(options),
        "target": {"vmId": options.to_vm, "instance": options.to_instance or DEFAULT_INSTANCE},
        "check": options.check,
        "cleanUp": options.clean_up,
        "jobTimeout": options.job_timeout,
    }


def one_database(options: argparse.Namespace) -> JsonObject:
    """The one database that the flags name, as the command itself prints it or by name and instance."""
    if options.availability_group is not None:
        return {"availabilityGroup": options.availability_group, "database": options.database}
    return _database(options.database, options.instance or DEFAULT_INSTANCE)


def _recovery_point(options: argparse.Namespace) -> JsonObject:
    choices = {
        "pointInTime": options.point_in_time,
        "name": options.recovery_point,
        "before": options.before,
        "latest": options.latest,
    }
    chosen = {name: value for name, value in choices.items() if value is not None}
    return chosen or {"latest": "any"}


def _target(options: argparse.Namespace) -> JsonObject:
    mapped = options.data_directory or options.log_directory or options.file
    if options.to_original:
        if options.to_vm or options.to_instance or options.to_database or options.to_files or mapped:
            raise CommandError("--to-original stands alone: it restores over the source database.")
        return {"kind": "original"}
    machine = options.to_vm or options.vm
    if options.to_files is not None:
        if options.to_instance or options.to_database or mapped:
            raise CommandError("--to-files restores files: it goes with --to-vm only.")
        return _present({"kind": "files", "vmId": machine, "path": options.to_files})
    instance = options.to_instance or one_database(options).get("instance")
    return _present(
        {
            "kind": "alternate",
            "vmId": machine,
            "instance": instance or DEFAULT_INSTANCE,
            "database": options.to_database,
            "dataDirectory": options.data_directory,
            "logDirectory": options.log_directory,
            "files": [{"logicalName": name, "path": path} for name, path in _pairs(options.file, "--file")]
            or None,
        }
    )


def _selection(options: argparse.Namespace) -> JsonObject:
    return {**_user_selection(options), "includeSystem": options.include_system or None}


def _user_selection(options: argparse.Namespace) -> JsonObject:
    instance = options.instance or EVERY_INSTANCE
    groups = [_group_database(text) for text in options.group_database]
    named = [_database(text, instance) for text in options.database]
    return {
        "databases": named + groups or [{"instance": instance, "database": "*"}],
        "exclude": [_database(text, instance) for text in options.exclude] or None,
    }


def _database(text: str, instance: str) -> JsonObject:
    # An instance's name holds no slash; a database's may.
    head, slash, tail = text.partition("/")
    return {"instance": head, "database": tail} if slash else {"instance": instance, "database": text}


def _group_database(text: str) -> JsonObject:
    head, slash, tail = text.partition("/")
    if not slash:
        raise CommandError(f"--group-database: expected GROUP/DATABASE, not {text!r}.")
    return {"availabilityGroup": head, "database": tail}


def _pairs(texts: Iterable[str], flag: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise CommandError(f"{flag}: expected NAME=VALUE, not {text!r}.")
        pairs.append((name, value))
    return pairs


def _json_file(path: Path | None, flag: str) -> Any:
    if path is None:
        return None
    try:
        # Bytes: JSON as Windows PowerShell writes it begins with a byte order mark, or is UTF-16.
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CommandError(f"{flag}: {path} cannot be read as JSON ({error}).") from error


def _present(fields: JsonObject) -> JsonObject:
    return {name: value for name, value in fields.items() if value is not None}
