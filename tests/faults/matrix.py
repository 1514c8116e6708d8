"""The fault matrix as data: each fault, what is expected, and why it does not apply where it does not.

The tests are found by their names: `test_F07_…` is a test of F07. `python -m tests.faults.reliability` writes
the table into docs/reliability.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Row:
    """One fault."""

    id: str
    fault: str
    expected: str
    #: why there is no test of it; empty where there is
    does_not_apply: str = ""


MATRIX: Final = (
    Row(
        "F01",
        "The process ends before a mutating call.",
        "The step runs again; one effect. Where the vault is not known to echo request ids: `unknown`, no effect.",
    ),
    Row(
        "F02",
        "The process ends after a PUT was accepted, before its hand-over.",
        "The PUT is repeated or its job adopted; the same end state; one outcome.",
    ),
    Row(
        "F03",
        "The process ends after a backup or restore was accepted, before its hand-over.",
        "Its job is found by the request id and adopted; no second POST; the outcome carries the first job.",
    ),
    Row(
        "F04",
        "The process ends after the hand-over, before the message is completed.",
        "The second hand-over is dropped as a duplicate; one outcome.",
    ),
    Row(
        "F05",
        "The process ends after an outcome was published, before the message is completed.",
        "It is published again under the same id, and dropped as a duplicate.",
    ),
    Row(
        "F06",
        "A lock is lost while its function runs, and the message is delivered a second time.",
        "No late POST; one effect; polls do not multiply.",
    ),
    Row("F07", "Polls are delivered out of order.", "A stale poll leads to nothing; one outcome."),
    Row(
        "F08",
        "429 with Retry-After: seconds, an HTTP date, huge, negative, garbage.",
        "Never asked earlier; garbage and negative count as absent; a wait beyond the deadline ends at once.",
    ),
    Row("F09", "429 without Retry-After.", "Tried again after growing, randomised waits."),
    Row(
        "F10",
        "A burst of 5xx.",
        "GET and PUT are tried again within the deadline; a POST is settled as in F11.",
    ),
    Row(
        "F11",
        "The answer to an accepted POST is lost or comes too late.",
        "Settled by the vault's jobs, never sent again blindly; a restore only where it can replace nothing.",
    ),
    Row("F12", "A connection breaks within an answer.", "A GET is asked again; a POST is settled as in F11."),
    Row(
        "F13",
        "An answer that is not JSON, is a proxy's page, has a wrong type or no status.",
        "Tried five times, then one outcome with a redacted excerpt.",
    ),
    Row("F14", "The token expires while a job is followed.", "A new token is fetched; no outcome is lost."),
    Row(
        "F15",
        "403: a role is missing, removed, or has not spread yet.",
        "Tried for ten minutes, the other tracking header once; then `NotAuthorised` with Azure's words.",
    ),
    Row(
        "F16",
        "A poll URL or a redirect leads to another host, scheme or port.",
        "Refused; nothing is sent there, no token above all; one outcome.",
    ),
    Row(
        "F17",
        "A poll URL leads into another subscription, or climbs by `..`.",
        "Refused; one outcome.",
    ),
    Row(
        "F18",
        "An accepted call names no URL to follow it by.",
        "The job is found by listing; what is done at once (200, 201, 204) goes on; else one outcome says so.",
    ),
    Row(
        "F19",
        "An operation or a job never ends.",
        "`timedOut` at the deadline, with the job's id; the job is left to run.",
    ),
    Row(
        "F20",
        "The result of an operation answers 404, 410 or 204; what was just made answers 404.",
        "204 means done; 404 soon after the start means too early; later the job is looked for; what was just made is"
        " asked for again.",
    ),
    Row("F21", "A job completes with warnings.", "`succeededWithWarnings`, the warnings in the outcome."),
    Row("F22", "A job is cancelled (`Cancelled` or `Canceled`).", "`cancelled`."),
    Row("F23", "A status that no documentation names.", "Followed until it ends, or to the deadline."),
    Row(
        "F24",
        "A job fails for a reason in the database.",
        "`failed` with code, message and what to do.",
    ),
    Row(
        "F25",
        "Another operation is running on the database.",
        "Waited for, then sent again; at most three POSTs per request and database.",
    ),
    Row("F26", "The day's on-demand backups are used up.", "`QuotaExhausted`; no further attempt."),
    Row(
        "F27",
        "The VM is registered already, to this vault or to another.",
        "Passed through; or `failed`, naming what the vault offers.",
    ),
    Row("F28", "The database is protected already.", "Passed through; or `failed` where the policy differs."),
    Row(
        "F29",
        "The database does not exist, or two VMs have one name.",
        "`failed`, naming what exists; VMs are told apart by their full ids.",
    ),
    Row("F30", "The workload extension cannot be reached.", "`failed`, saying how to repair it."),
    Row(
        "F31",
        "The target of a restore exists.",
        "`rejected`; overwritten only if request and setting say so.",
    ),
    Row(
        "F32", "A message grows too large for Service Bus.", "Details are left out; the outcome is published."
    ),
    Row(
        "F33",
        "A message that is no request, of another version, with an unknown field, empty, or not UTF-8.",
        "One `rejected` outcome with every problem; the original is parked; other messages are unharmed.",
    ),
    Row("F34", "A function fails on one message by a defect.", "Answered as `FailedInternal`, and parked."),
    Row(
        "F35",
        "Service Bus or one entity takes nothing, or refuses this identity.",
        "Nothing is completed; sent again under the same ids; no effect is repeated.",
    ),
    Row(
        "F36",
        "The link to Service Bus is stale, or two threads use it at once.",
        "One reconnect; every message arrives once.",
    ),
    Row(
        "F37",
        "This machine's clock is ten minutes off, or a proxy's by months.",
        "No wait is too long, no poll too early, no job given up.",
    ),
    Row(
        "F38",
        "The timer fires twice, late, or not for hours.",
        "Each occurrence runs once; one that is too late is `skipped` and says so.",
    ),
    Row(
        "F39",
        "The app is scaled in while a function runs.",
        "It may finish, or its message is delivered again; one effect.",
    ),
    Row(
        "F40",
        "Jobs are in flight while a new version is deployed.",
        "The new version reads the messages of the old one.",
    ),
    Row(
        "F41",
        "A message between steps is dead-lettered.",
        "Its requester is answered; it is parked, and replayed.",
    ),
    Row(
        "F42",
        "Hundreds of databases at once.",
        "The pace stays under Azure Resource Manager's limits; nobody waits for ever.",
    ),
    Row("F43", "Listings whose pages lead elsewhere, in a circle, or never end.", "Refused; one outcome."),
    Row("F44", "The same request a thousand times.", "One backup, one outcome; Service Bus drops the rest."),
    Row("F45", "A job is to be cancelled.", "—", "there is no cancel request: the app cancels nothing"),
)
