"""`sqlvmbackup protect`, `backup`, `restore` and `drill`: one request, built from flags."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from cli.encoding import JsonObject
from cli.errors import UNUSABLE, CommandError
from cli.flags import problem_in_flags
from cli.output import output_of
from cli.parsing import read_duration, read_moment, read_time_zone
from cli.places import find_places
from cli.request_lines import SOURCE, RequestLine, request_line
from cli.run import RunOptions, run_requests
from cli.wording import without_none
from shared.arm.ids import VaultId, VirtualMachineId
from shared.messages.cloud_events import InvalidMessageError, read_envelope
from shared.messages.requests import read_data

T = TypeVar("T")

#: The default instance, as in SQL Server itself.
DEFAULT_INSTANCE: Final = "MSSQLSERVER"
EVERY_INSTANCE: Final = "*"

#: Stands in for a vault that is named wrongly, so that everything else is still checked.
_SOME_VAULT: Final = VaultId("00000000-0000-0000-0000-000000000000", "g", "v1").path
_SOME_VM: Final = VirtualMachineId("00000000-0000-0000-0000-000000000000", "g", "v1").path


def request_from(options: argparse.Namespace) -> RequestLine:
    """The request that the flags ask for, checked as the app checks it.

    Raises CommandError with every problem.
    """
    problems: list[str] = []
    try:
        find_places(options)
    except CommandError as error:
        problems.append(str(error))
        if error.status != UNUSABLE:
            raise
        options.vault = _SOME_VAULT
        for name in ("vm", "to_vm"):
            if "/" not in (getattr(options, name, None) or "/"):
                setattr(options, name, _SOME_VM)
    read = {"protect": _protect, "backup": _backup, "restore": _restore, "drill": _drill}[options.command]
    data = read(options, problems)
    event = {
        "specversion": "1.0",
        "type": f"sqlvmbackup.{options.command}.requested.v1",
        "source": options.source or SOURCE,
        "id": options.id or str(uuid.uuid4()),
        "data": without_none(data),
    }
    if options.correlation_id is not None:
        event["correlationid"] = options.correlation_id
    try:
        read_data(read_envelope(json.dumps(event).encode()))
    except InvalidMessageError as error:
        problems += [problem_in_flags(problem) for problem in error.problems]
    if problems:
        raise CommandError(" ".join(dict.fromkeys(problems)))
    return request_line(event)


def send_request(options: argparse.Namespace) -> int:
    """Run the request here, or send it to a deployed app; or show what it would do."""
    line = request_from(options)
    output_of(options)
    if options.dry_run:
        from cli.dry_run import dry_run

        return dry_run(line, options)
    if options.namespace is not None:
        from cli.namespace import send_and_wait

        return send_and_wait(line, options, lambda outcomes: _write_way_back(options, outcomes))
    if options.no_wait:
        raise CommandError("--no-wait goes with --namespace: without one, the app runs in this command.")
    again = f"go on with `sqlvmbackup run --state {options.state}`" if options.state else RunOptions.again
    return run_requests(
        [line],
        RunOptions(
            arm_endpoint=options.arm_endpoint,
            outcomes=options.outcomes,
            state=options.state,
            output=output_of(options),
            again=again,
            from_flags=True,
            finished=lambda outcomes: _write_way_back(options, outcomes),
        ),
        os.environ,
    )


def _write_way_back(options: argparse.Namespace, outcomes: Iterable[JsonObject]) -> None:
    """Write the restore requests that `--restore-request` asks for. Raises CommandError."""
    path: Path | None = getattr(options, "restore_request", None)
    if path is not None:
        from cli.restore_requests import write_restore_requests

        written = write_restore_requests(path, outcomes)
        which = "one restore request, which goes" if written == 1 else f"{written} restore requests, which go"
        command = f"sqlvmbackup run --requests {shlex.quote(str(path))}"
        print(f"{path} holds {which} back to before the change: {command}", file=sys.stderr)


class _Checked:
    """Reads values of flags as people write them, and collects the problems."""

    def __init__(self, options: argparse.Namespace, problems: list[str]) -> None:
        self._options = options
        self._problems = problems
        self._zone: ZoneInfo | None = None
        if getattr(options, "time_zone", None) is not None:
            self._zone = self._read("--time-zone", options.time_zone, read_time_zone)

    def duration(self, flag: str) -> str | None:
        """A duration in ISO 8601."""
        return self._read(flag, self._given(flag), read_duration)

    def moment(self, flag: str) -> str | None:
        """A moment in RFC 3339."""
        if self._zone is None and getattr(self._options, "time_zone", None) is not None:
            return None  # what is wrong is the zone
        return self._read(flag, self._given(flag), lambda text: read_moment(text, self._zone))

    def _given(self, flag: str) -> str | None:
        found: str | None = getattr(self._options, flag.removeprefix("--").replace("-", "_"))
        return found

    def _read(self, flag: str, text: str | None, read: Callable[[str], T]) -> T | None:
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as error:
            reason = str(error)
            self._problems.append(f"{flag}: {reason}{'' if reason[-1] in '.?' else '.'}")
            return None


def _protect(options: argparse.Namespace, problems: list[str]) -> JsonObject:
    checked = _Checked(options, problems)
    return {
        "vaultId": options.vault,
        "vmId": options.vm,
        "policyName": options.policy,
        **selection(options),
        "onExisting": options.on_existing,
        "resume": options.resume or None,
        "undelete": options.undelete or None,
        "firstBackup": "now" if options.first_backup_now else None,
        "autoProtect": options.auto_protect or None,
        "createVault": _create_vault(options),
        "createPolicy": _json_file(options.create_policy, "--create-policy"),
        "jobTimeout": checked.duration("--job-timeout"),
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


def _backup(options: argparse.Namespace, problems: list[str]) -> JsonObject:
    checked = _Checked(options, problems)
    return {
        "vaultId": options.vault,
        "vmId": options.vm,
        **selection(options),
        "backupType": options.type,
        "retainFor": checked.duration("--retain-for"),
        "retainUntil": checked.moment("--retain-until"),
        "compression": options.compression,
        "ifRunning": options.if_running,
        "unlessNewerThan": checked.duration("--unless-newer-than"),
        "jobTimeout": checked.duration("--job-timeout"),
    }


def _restore(options: argparse.Namespace, problems: list[str]) -> JsonObject:
    if options.vm is None and options.availability_group is None:
        raise CommandError("--vm: required, and not given: the VM that the database is on, or was.")
    checked = _Checked(options, problems)
    return {
        "vaultId": options.vault,
        "vmId": options.vm,
        **one_database(options),
        "recoveryPoint": _recovery_point(options, checked),
        "target": _target(options),
        "overwrite": options.overwrite or None,
        "noRecovery": options.no_recovery or None,
        "jobTimeout": checked.duration("--job-timeout"),
    }


def _drill(options: argparse.Namespace, problems: list[str]) -> JsonObject:
    checked = _Checked(options, problems)
    return {
        "vaultId": options.vault,
        **_user_selection(options),
        "count": options.count,
        "recoveryPoint": _recovery_point(options, checked),
        "target": {"vmId": options.to_vm, "instance": _given_or(options.to_instance, DEFAULT_INSTANCE)},
        "check": options.check,
        "cleanUp": options.clean_up,
        "jobTimeout": checked.duration("--job-timeout"),
    }


def _given_or(given: T | None, otherwise: T) -> T:
    """The value that was given; an empty text counts as given, and as wrong."""
    return given if given is not None else otherwise


def one_database(options: argparse.Namespace) -> JsonObject:
    """The one database that the flags name, as the command itself prints it or by name and instance."""
    if options.availability_group is not None:
        return {"availabilityGroup": options.availability_group, "database": options.database}
    if "/" not in options.database and any(wildcard in options.database for wildcard in "*?"):
        raise CommandError(
            f"--database: expected the name of one database, not a pattern such as {options.database};"
            " `sqlvmbackup databases` lists the names"
            f"{_called_so('--database', options.database)}"
        )
    return _database(options.database, _given_or(options.instance, DEFAULT_INSTANCE), "--database")


def _recovery_point(options: argparse.Namespace, checked: _Checked) -> JsonObject:
    choices = {
        "pointInTime": checked.moment("--point-in-time"),
        "name": options.recovery_point,
        "before": checked.moment("--before"),
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
        return without_none({"kind": "files", "vmId": machine, "path": options.to_files})
    instance = _given_or(options.to_instance, one_database(options).get("instance"))
    return without_none(
        {
            "kind": "alternate",
            "vmId": machine,
            "instance": _given_or(instance, DEFAULT_INSTANCE),
            "database": options.to_database,
            "dataDirectory": options.data_directory,
            "logDirectory": options.log_directory,
            "files": [{"logicalName": name, "path": path} for name, path in _pairs(options.file, "--file")]
            or None,
        }
    )


def selection(options: argparse.Namespace) -> JsonObject:
    """The databases that the flags mean, as a request has them."""
    return {**_user_selection(options), "includeSystem": options.include_system or None}


def _user_selection(options: argparse.Namespace) -> JsonObject:
    instance = _given_or(options.instance, EVERY_INSTANCE)
    everything = [{"instance": instance, "database": "*"}]
    on_no_vm = options.command == "drill" or (options.command in ("backup", "report") and options.vm is None)
    if on_no_vm and options.instance is None:
        # Databases of availability groups are not tied to one VM.
        everything.append({"availabilityGroup": "*", "database": "*"})
    groups = [_group_database(text) for text in options.group_database]
    named = [_database(text, instance, "--database") for text in options.database]
    excluded = [_database(text, instance, "--exclude") for text in options.exclude]
    if everything[1:] and not (named or groups):
        excluded += [
            {"availabilityGroup": "*", "database": one["database"]}
            for one in excluded
            if one["instance"] == "*"
        ]
    return {
        "databases": named + groups or everything,
        "exclude": excluded or None,
    }


def _database(text: str, instance: str, flag: str) -> JsonObject:
    # An instance's name holds no slash; a database's may.
    head, slash, tail = text.partition("/")
    if slash:
        return {"instance": head, "database": tail}
    whole = _called_so(flag, text)
    if "\\" in text:
        machine, _, name = text.rpartition("\\")
        raise CommandError(
            f"{flag}: an instance and its database are written INSTANCE/NAME: {flag}"
            f" {machine.rpartition(chr(92))[2]}/{name}, not {text}{whole}"
        )
    if text.startswith("[") and text.endswith("]") and len(text) > 2:
        bare = text[1:-1].replace("]]", "]")
        raise CommandError(
            f"{flag}: names are written without brackets: {flag} {shlex.quote(bare)}, not {text}{whole}"
        )
    if "," in text:
        each = " ".join(f"{flag} {shlex.quote(part.strip())}" for part in text.split(",") if part.strip())
        raise CommandError(f"{flag}: several names are given one by one: {each}, not {text}{whole}")
    return {"instance": instance, "database": text}


def _called_so(flag: str, text: str) -> str:
    """How to give a name that looks like a mistake."""
    return f"; a database that is called so is given as {flag} INSTANCE/{text}."


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
    except RecursionError as error:
        raise CommandError(f"{flag}: {path} cannot be read as JSON (it is nested too deeply).") from error
    except (OSError, ValueError) as error:
        raise CommandError(f"{flag}: {path} cannot be read as JSON ({error}).") from error
