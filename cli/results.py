"""Results of requests, for people: what succeeded, what was left out, what failed, and the sums."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from rich.text import Text

from cli.awaited_requests import AwaitedRequests, is_success
from cli.encoding import JsonObject
from cli.left_out import LeftOut
from cli.output import Output, console, print_sentence, print_table, write_data
from cli.request_lines import RequestLine
from cli.wording import count_of, going_to, place_of, restored_to, spoken
from shared.arm.redaction import printable

Reword = Callable[[str], str]

STYLES: Final = {"succeeded": "green", "succeededWithWarnings": "yellow", "skipped": "yellow"}
#: From this many columns on, an outcome is one line.
_WIDE: Final = 130
#: Up to this many columns, only a name and a status fit.
_NARROW: Final = 60
#: Up to this many outcomes are shown in full however narrow the terminal is.
_FEW: Final = 10
#: Lines of a terminal below the failures: the sums, and where the next command is typed.
_BELOW: Final = 2


def print_outcomes(
    awaited: AwaitedRequests,
    output: Output,
    *,
    left_out: Sequence[LeftOut] = (),
    elapsed: timedelta | None = None,
    simulated: bool = False,
    reword: Reword = str,
) -> None:
    """Print the outcomes on standard output: what succeeded, then what failed, and the sums.

    Args:
        awaited: the requests with what is known of them.
        output: the format; a program gets the events unchanged, and the rest on standard error.
        left_out: what the requests left out.
        elapsed: how long it took.
        simulated: whether that is by a clock that runs faster than this machine's.
        reword: puts a message in the words of whoever reads it.
    """
    asked = {id(outcome): one.line for one in awaited.requests for outcome in one.final_outcomes()}
    outcomes = list(awaited.final_outcomes())
    wanted = [one for one in outcomes if not output.failed_only or not is_success(one)]
    # Failures last: the end is what stays on the screen.
    wanted.sort(key=lambda outcome: not is_success(outcome))
    say = print_sentence if output.is_table else _say_beside
    if not output.is_table:
        write_data(wanted, output, flat=flat_outcome)
    else:
        _print_successes([one for one in wanted if is_success(one)])
    for one in left_out:
        say(f"Left out: {reword(str(one))}.")
    if output.is_table:
        _print_failures([(asked[id(one)], one) for one in wanted if not is_success(one)], reword)
    expected = sum(max(one.outcome_count or 1, len(one.final_outcomes())) for one in awaited.requests)
    if outcomes:
        took = (
            "" if elapsed is None else f" ({spoken(elapsed)}{' by the simulated clock' if simulated else ''})"
        )
        say(_sums(outcomes, expected, left_out, took))


def _say_beside(text: str) -> None:
    """A sentence on standard error, beside what a program reads."""
    print(printable(text), file=sys.stderr, flush=True)


def _sums(outcomes: Sequence[JsonObject], expected: int, left_out: Sequence[LeftOut], took: str) -> str:
    statuses = Counter(outcome["data"]["status"] for outcome in outcomes)
    ordered = sorted(statuses.items(), key=lambda pair: (not pair[0].startswith("succeeded"), pair[0]))
    databases = all(outcome["data"].get("database") is not None for outcome in outcomes)
    operations = {outcome["type"].split(".")[1] for outcome in outcomes}
    noun = "database" if databases and len(operations) == 1 else "outcome"
    of = f"{next(iter(operations)).capitalize()} of " if noun == "database" else ""
    parts = ", ".join(f"{count:,} {status}" for status, count in ordered)
    missing = expected - len(outcomes)
    if missing > 0:
        parts += f", {missing:,} not ended"
    more = f"; {sum(one.count for one in left_out):,} left out" if left_out else ""
    return f"{of}{count_of(expected, noun)}: {parts}{more}{took}."


def _print_successes(outcomes: Sequence[JsonObject]) -> None:
    rows = [tuple(map(printable, _row(outcome))) for outcome in outcomes]
    if not rows:
        return
    if console().width >= _WIDE:
        print_table(("request", "database", "status", "took", "job", "remarks"), rows, styles=STYLES)
        return
    few = len(rows) <= _FEW and console().width >= _NARROW
    stacked: list[tuple[str, ...]] = [
        (operation, "\n  ".join(_told(outcome, place, job, remarks, few=few)), status, took)
        for outcome, (operation, place, status, took, job, remarks) in zip(outcomes, rows, strict=True)
    ]
    columns = ["request", "database", "status", "took"]
    if len({operation for operation, *_ in stacked}) == 1:
        # The sums say which it is.
        columns, stacked = columns[1:], [row[1:] for row in stacked]
    if console().width < _NARROW:
        columns, stacked = columns[:-1], [row[:-1] for row in stacked]
    print_table(columns, stacked, styles=STYLES)


def _told(outcome: JsonObject, place: str, job: str, remarks: str, *, few: bool) -> Iterator[str]:
    """The lines that fit on a narrow terminal, below the database's name."""
    yield place
    if few and job:
        yield f"job {job}"
    # Where a restore went, and what is to be known of a success, is told of however many there are.
    if remarks and (few or outcome["data"].get("target") or outcome["data"].get("warnings")):
        yield remarks


def _row(outcome: JsonObject) -> tuple[str, ...]:
    data = outcome["data"]
    return (
        str(outcome["type"]).split(".")[1],
        place_of(data),
        data["status"],
        _took(data),
        data.get("job", {}).get("id", ""),
        "; ".join(_remarks(data)),
    )


def _took(data: JsonObject) -> str:
    seconds = data.get("durationSeconds")
    return spoken(timedelta(seconds=seconds)) if isinstance(seconds, int | float) else ""


def _remarks(data: JsonObject) -> Iterator[str]:
    yield from data.get("warnings", ())
    counts = (data.get("coverage") or {}).get("counts", {})
    if counts:
        yield ", ".join(f"{count:,} {state}" for state, count in counts.items())
    if data.get("operation") == "protect" and data.get("policyName"):
        yield f"policy {data['policyName']}"
    if data.get("backupType"):
        until = f", kept until {data['retainUntil'][:10]}" if data.get("retainUntil") else ""
        yield f"{data['backupType']}{until}"
    target = data.get("target")
    if isinstance(target, dict) and data.get("recoveryPoint"):
        yield f"{data['recoveryPoint']['time']} to {restored_to(data)}"
    if isinstance(data.get("drill"), dict):
        yield from _proven(data["drill"])


def _proven(drill: JsonObject) -> Iterator[str]:
    for name, field in (("RPO", "achievedRpoSeconds"), ("RTO", "measuredRtoSeconds")):
        if isinstance(seconds := drill.get(field), int | float):
            yield f"{name} {spoken(timedelta(seconds=seconds))}"
    if drill.get("checkErrors") == 0:
        yield "no error found by DBCC CHECKDB"
    yield "dropped" if drill.get("cleanedUp") else "not dropped"


@dataclass(frozen=True)
class _Cause:
    """A cause of failures: databases with the same cause are shown together."""

    operation: str
    status: str
    code: str
    message: str
    advice: tuple[str, ...]


@dataclass(frozen=True)
class _Failed:
    """One database that did not succeed."""

    place: str
    job: str


def _print_failures(outcomes: Sequence[tuple[RequestLine, JsonObject]], reword: Reword) -> None:
    causes: dict[_Cause, list[_Failed]] = {}
    for line, outcome in outcomes:
        data = outcome["data"]
        error = data.get("error", {})
        cause = _Cause(
            operation=str(outcome["type"]).split(".")[1],
            status=data["status"],
            code=str(error.get("code", "")),
            message=reword(str(error.get("message", "")).strip()),
            advice=tuple(reword(text.strip()) for text in error.get("recommendations", ()) if text.strip()),
        )
        place = f"{place_of(data)}{going_to(line, data)}"
        causes.setdefault(cause, []).append(_Failed(place, data.get("job", {}).get("id", "")))
    for compact in (False, True):
        blocks = [_block(cause, those, compact=compact) for cause, those in causes.items()]
        lines = [line for block in blocks for line in block]
        # All of them should fit on the last screen, if that is possible at all.
        if not sys.stdout.isatty() or len(lines) <= console().height - _BELOW:
            break
    for text in lines:
        if sys.stdout.isatty():
            console().print(text, soft_wrap=True)
        else:
            print(text.plain)


def _block(cause: _Cause, those: Sequence[_Failed], *, compact: bool) -> list[Text]:
    """The lines of one cause, as wide as the terminal. `compact`: without the jobs, and in one paragraph."""
    code = f", {cause.code}" if cause.code else ""
    advice = [f"What to do: {text}" for text in cause.advice]
    if compact:
        alone = f"{those[0].place}: " if len(those) == 1 else ""
        places = [one.place for one in those] if len(those) > 1 else []
        texts = [*places, " ".join(filter(None, (cause.message, *advice)))]
        head = f"{alone}{cause.operation} {cause.status}{code}:"
    else:
        jobs = [f"{one.place}{f' (job {one.job})' if one.job else ''}" for one in those]
        texts = [*jobs, cause.message, *advice]
        head = f"{cause.operation} {cause.status}{code}:"
    lines = _wrapped(head, "", STYLES.get(cause.status, "red"))
    for text in filter(None, texts):
        lines += _wrapped(text, "  ", "")
    return lines


def _wrapped(text: str, indent: str, style: str) -> list[Text]:
    shown = Text(printable(text), style=style)
    if not sys.stdout.isatty():
        return [Text(indent) + shown]
    wide = console()
    parts = shown.wrap(wide, max(20, wide.width - len(indent)))
    for part in parts:
        part.rstrip()
    return [Text(indent) + part for part in parts]


def flat_outcome(outcome: JsonObject) -> JsonObject:
    """An outcome of one level, for CSV and TSV."""
    data = outcome["data"]
    error = data.get("error", {})
    target = data.get("target")
    point = data.get("recoveryPoint") or {}
    return {
        "operation": str(outcome["type"]).split(".")[1],
        "status": data["status"],
        "vm": str(data.get("vmId") or "").rpartition("/")[2],
        "instance": data.get("instance"),
        "availabilityGroup": data.get("availabilityGroup"),
        "database": data.get("database"),
        "startTime": data.get("startTime"),
        "endTime": data.get("endTime"),
        "durationSeconds": data.get("durationSeconds"),
        "jobId": data.get("job", {}).get("id"),
        "policy": data.get("policyName"),
        "backupType": data.get("backupType"),
        "retainUntil": data.get("retainUntil"),
        "recoveryPointTime": point.get("time"),
        "restoredTo": restored_to(data) if isinstance(target, dict) else None,
        "errorCode": error.get("code"),
        "errorMessage": error.get("message"),
        "recommendations": " ".join(error.get("recommendations", ())),
        "warnings": " ".join(data.get("warnings", ())),
        "requestId": data.get("requestId"),
    }
