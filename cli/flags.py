"""Translates messages from the field names of requests to the flags of the command."""

from __future__ import annotations

import re
from typing import Final

from shared.messages.cloud_events import Problem

#: The flag of each field, by its path within `data`.
FLAGS: Final = {
    "vaultId": "--vault",
    "vmId": "--vm",
    "target": "--to-vm or --to-instance",
    "target.vmId": "--to-vm",
    "target.instance": "--to-instance",
    "target.database": "--to-database",
    "target.path": "--to-files",
    "target.dataDirectory": "--data-directory",
    "target.logDirectory": "--log-directory",
    "target.files": "--file",
    "policyName": "--policy",
    "databases": "--database",
    "database": "--database",
    "instance": "--instance",
    "availabilityGroup": "--availability-group",
    "exclude": "--exclude",
    "includeSystem": "--include-system",
    "onExisting": "--on-existing",
    "firstBackup": "--first-backup-now",
    "autoProtect": "--auto-protect",
    "backupType": "--type",
    "compression": "--compression",
    "ifRunning": "--if-running",
    "retainFor": "--retain-for",
    "retainUntil": "--retain-until",
    "unlessNewerThan": "--unless-newer-than",
    "count": "--count",
    "check": "--check",
    "cleanUp": "--clean-up",
    "jobTimeout": "--job-timeout",
    "createPolicy": "--create-policy",
    "createVault.location": "--create-vault",
    "createVault.redundancy": "--redundancy",
    "createVault.tags": "--tag",
    "createVault": "--create-vault",
    "recoveryPoint.pointInTime": "--point-in-time",
    "recoveryPoint.name": "--recovery-point",
    "recoveryPoint.before": "--before",
    "recoveryPoint.latest": "--latest",
    "recoveryPoint": "--point-in-time, --recovery-point, --before or --latest",
    "noRecovery": "--no-recovery",
    "overwrite": "--overwrite",
    "resume": "--resume",
    "undelete": "--undelete",
    "source": "--source",
    "id": "--id",
    "correlationid": "--correlation-id",
}
#: What is accepted, in words, for fields whose own check quotes a pattern.
_ACCEPTED: Final = {
    "--recovery-point": "expected the name of a recovery point, as `sqlvmbackup recovery-points` lists it",
    "--create-vault": "expected a region of Azure, such as westeurope",
    "--instance": "expected the name of an instance, such as MSSQLSERVER or SQL2019",
    "--to-instance": "expected the name of an instance, such as MSSQLSERVER or SQL2019",
    "--availability-group": "expected the name of an availability group",
    "--database": "expected the name of a database, such as orders or SQL2019/orders",
    "--to-database": "expected the name of a database, such as orders_copy",
    "--exclude": "expected the name of a database, such as orders_old or SQL2019/orders_old",
}
_OR_ELSE: Final = {"--to-vm": ", nor is --vm, which would be the same"}
_PHRASES: Final = (
    (re.compile(r"\bset (overwrite|resume|undelete) to\s+true\b"), r"give --\1"),
    (re.compile(r"\bset onExisting to\s+changePolicy or keep\b"), "give --on-existing changePolicy or keep"),
    (re.compile(r"\b(?:ask for )?a target of kind files\b"), "give --to-files"),
    (re.compile(r"\bgive as vmId the one of\b"), "give with --vm the VM of"),
    (re.compile(r"\bis named by its availabilityGroup\b"), "is given with --group-database"),
)
#: Field names that cannot be ordinary words; in quotation marks they are part of a value.
_IN_TEXT: Final = re.compile(
    r"\bdata\.(?P<path>[A-Za-z]+(?:\.\w+)*)"
    rf"|(?<!\")\b(?P<word>{'|'.join(name for name in FLAGS if name.isalpha() and not name.islower())})\b"
)


def in_flags(text: str) -> str:
    """A message of the app, with flags in place of field names."""
    for pattern, words in _PHRASES:
        text = pattern.sub(words, text)
    return _IN_TEXT.sub(lambda found: flag_of(found["path"] or found["word"]) or found[0], text)


def flag_of(path: str) -> str | None:
    """The flag of a field: `target.vmId` of `data.target.vmId`."""
    parts = path.split(".")
    return next(
        (FLAGS[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in FLAGS), None
    )


def problem_in_flags(problem: Problem) -> str:
    """A problem in a request, as a sentence that begins with the flag."""
    field = problem.field.removeprefix("data.")
    flag = flag_of(field) or problem.field
    within = _within_a_file(flag, field)
    accepted = in_flags(problem.accepted)
    if "matches" in accepted:
        accepted = _ACCEPTED.get(flag, "has characters that are not allowed there")
    if problem.field == "data":
        # About several fields, which the sentence names.
        return f"{accepted[:1].upper()}{accepted[1:]}."
    if problem.given == "nothing" and accepted == "is required":
        return f"{flag}: {within}required, and not given{_OR_ELSE.get(flag, '')}."
    given = "" if problem.given in ("nothing", "an object") else f", not {problem.given}"
    return f"{flag}: {within}{accepted}{given}."


def _within_a_file(flag: str, field: str) -> str:
    """The place in a JSON file: that has fields, not flags."""
    return f"{field.removeprefix('createPolicy.')}: " if flag == "--create-policy" and "." in field else ""
