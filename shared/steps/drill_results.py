"""What the outcome of a drill tells: the findings of its check, why its script failed, and what was left behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.drills import drill_database_name
from shared.engine.message import Ending, StepMessage
from shared.engine.result import End
from shared.messages.error_codes import ErrorCode
from shared.messages.events import NO_DETAILS, SUCCESSES, ErrorInfo, Status
from shared.messages.identity import Database
from shared.run_commands.drill_script import ScriptResult
from shared.steps.payloads import Drill, RestoreTask


def checked(drill: Drill, source: Database, result: ScriptResult) -> Drill:
    """The drill with the findings of its check."""
    findings: dict[str, Any] = {"check_seconds": result.seconds, "free_mb": result.free_mb}
    if result.size_mb is not None:
        findings["size_mb"] = result.size_mb
    restored = drill.so_far.details.drill if drill.so_far is not None else None
    if restored is not None and restored.restore_seconds is not None and result.seconds is not None:
        findings["measured_rto_seconds"] = round(restored.restore_seconds + result.seconds, 3)
    if result.verdict == "ok":
        so_far = _with_info(drill, {**findings, "check_errors": 0})
        return drill.changed(so_far=so_far)
    if result.verdict == "corrupt":
        findings["check_errors"] = result.errors
        findings["check_error_numbers"] = result.numbers
        findings["check_messages"] = result.messages
    return check_failed(drill, why_not(source, result), findings)


def check_failed(drill: Drill, error: ErrorInfo, findings: dict[str, Any] | None = None) -> Drill:
    """The drill with the error that its check ended with."""
    so_far = _with_info(drill, findings or {})
    return drill.changed(so_far=so_far.changed(status=Status.FAILED, error=error))


def why_not(source: Database, result: ScriptResult) -> ErrorInfo:
    """Why the script failed."""
    name = drill_database_name(source)
    if result.verdict == "corrupt":
        return ErrorInfo(
            code=ErrorCode.DRILL_CHECK_FAILED,
            message=f"DBCC CHECKDB found {result.errors} errors in the backup of {source}, restored as {name}:"
            f" {result.described}.",
            recommendations=(
                "Run DBCC CHECKDB on the source: where it is damaged as well, restore it from an older recovery point"
                " that a drill proves sound; where it is not, take a new full backup and drill it.",
            ),
        )
    if result.verdict == "notPermitted":
        return ErrorInfo(
            code=ErrorCode.DRILL_NOT_PERMITTED,
            message=f"the account that run commands run as (SYSTEM) may not check or drop {name}: {result.described}.",
            recommendations=(
                "On the drill VM alone, make it a member of sysadmin: DECLARE @system sysname ="
                " QUOTENAME(SUSER_SNAME(0x010100000000000512000000)); EXEC (N'ALTER SERVER ROLE sysadmin ADD MEMBER '"
                " + @system);",
            ),
        )
    if result.verdict == "absent":
        text = f"the instance has no database {name}, though the service says that it was restored."
        return ErrorInfo(code=ErrorCode.DRILL_CHECK_INCOMPLETE, message=text)
    text = f"{name} could not be checked or dropped: {result.described}."
    return ErrorInfo(code=ErrorCode.DRILL_CHECK_INCOMPLETE, message=text)


def completed(drill: Drill, *, cleaned_up: bool) -> End:
    """The outcome of a drill that is complete; `cleaned_up`: its database was dropped, and not kept."""
    return End.decided(_with_info(drill, {"cleaned_up": cleaned_up}))


def left_behind(drill: Drill, error: ErrorInfo) -> End:
    """The outcome of a drill whose database could not be dropped: what it proved still counts."""
    end = completed(drill, cleaned_up=False)
    info = end.details.drill
    name = info.database if info is not None else "the drill database"
    warning = f"{name} was not dropped, and is replaced by the next drill of its source: {error.code}: {error.message}"
    status = Status.SUCCEEDED_WITH_WARNINGS if end.status in SUCCESSES else end.status
    return replace(end, status=status).with_details(warnings=(*end.details.warnings, warning))


def conclude_check(message: StepMessage[RestoreTask], end: End) -> End:
    """The outcome of a drill that could not be checked, with what the restore proved and how long it took."""
    drill = message.payload.drill
    if end.details != NO_DETAILS or drill is None or drill.so_far is None:
        return end
    return replace(end, details=_with_info(drill, {"cleaned_up": False}).details)


def conclude_clean_up(message: StepMessage[RestoreTask], end: End) -> End:
    """The outcome of a drill, whether or not its database could be dropped."""
    drill = message.payload.drill
    if end.details != NO_DETAILS or drill is None or drill.so_far is None or end.error is None:
        return end
    return left_behind(drill, end.error)


def _with_info(drill: Drill, findings: dict[str, Any]) -> Ending:
    so_far = drill.so_far if drill.so_far is not None else Ending(status=Status.SUCCEEDED)
    info = so_far.details.drill
    if info is None:
        return so_far
    details = so_far.details.changed(drill=info.changed(**findings))
    return so_far.changed(details=details)
