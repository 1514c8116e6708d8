"""The events of coverage: its gaps, the repairs that were sent, and the outcome of a vault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from shared.clock import ServiceTime
from shared.coverage.gaps import Gap
from shared.coverage.repairs import Repair
from shared.coverage.states import VaultCoverage
from shared.engine import outcomes
from shared.engine.message import StepMessage
from shared.engine.result import End
from shared.messages import events
from shared.messages.events import CoverageInfo, Event, OutcomeDetails, Status
from shared.messages.identity import Request
from shared.steps.payloads import VaultTask

#: The most gaps that an outcome names.
MOST_GAPS_NAMED: Final = 200


def gap_event(
    request: Request,
    gap: Gap,
    repair: Repair | None,
    at: ServiceTime,
    *,
    outcome_count: int,
    outcome_key: str,
) -> Event:
    """The event of a gap."""
    entry = gap.entry
    return events.gap(
        request,
        at=at,
        identity=gap.identity(at),
        subject=gap.subject,
        info=gap.info(repair.info if repair is not None else None),
        outcome_count=outcome_count,
        outcome_key=outcome_key,
        policy_name=entry.policy_name if entry is not None else None,
        last_backup_time=entry.last_backup_time if entry is not None else None,
        recommendations=(gap.advice,) if gap.advice else (),
        reminder=gap.reminders(at) > 0,
    )


def accepted_repairs(repairs: Sequence[tuple[Gap, Repair | None]], at: ServiceTime) -> Iterator[Event]:
    """`accepted` for each repair that was sent."""
    for _, repair in repairs:
        if repair is not None and repair.to is not None and repair.request is not None:
            yield events.accepted(repair.request, at=at, outcome_count=1, skipped={}, names=())


def vault_outcome(
    message: StepMessage[VaultTask],
    coverage: VaultCoverage,
    repairs: Sequence[tuple[Gap, Repair | None]],
    at: ServiceTime,
) -> Event:
    """The outcome of a vault, with each gap and what is done about it."""
    sent: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for _, repair in repairs:
        if repair is not None and repair.to is not None:
            sent[repair.info.action] += 1
        elif repair is not None:
            held[repair.info.reason or "Held"] += 1
    info = CoverageInfo(
        at=coverage.at,
        counts={state.value: count for state, count in coverage.counts.items()},
        gaps=tuple(
            gap.info(repair.info if repair is not None else None) for gap, repair in repairs[:MOST_GAPS_NAMED]
        ),
        gaps_left_out=max(0, len(repairs) - MOST_GAPS_NAMED),
        repairs=sent,
        held=held,
        left_out=coverage.left_out,
    )
    warnings = tuple(f"no database is meant by {selector}." for selector in coverage.missed)
    details = OutcomeDetails(coverage=info, warnings=warnings)
    status = Status.SUCCEEDED_WITH_WARNINGS if warnings else Status.SUCCEEDED
    return outcomes.outcome(message, End(status, details=details), at=at)
