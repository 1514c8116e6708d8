"""The tracker's batch: every message is handled on its own, and the batch decides how jobs are looked up.

A few messages of a vault are looked up singly; many are answered from one listing of the vault's jobs, so
that the cost of following a job does not grow with the number of jobs.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.arm.budget import coming_back
from shared.arm.errors import ArmError, TokenError
from shared.bus import BusError, OutgoingMessage
from shared.composition import Runtime
from shared.listings import JobListing
from shared.messages.events import ErrorInfo
from shared.messages.steps import StepMessage, Tracking
from shared.telemetry import log_context
from shared.workflow.answers import outcome_of_body
from shared.workflow.delivery import (
    come_back,
    decode,
    dispatch,
    outgoing,
    plenty_of_reads,
    run,
    some_reads,
)
from shared.workflow.failures import after_arm_error, put_back
from shared.workflow.flow import TRACK, next_tick
from shared.workflow.parking import Delivery, park, wait_for_operator
from shared.workflow.step import Result
from shared.workflow.table import STEPS
from shared.workflow.workflows import WORKFLOW_STEPS, starts_job

if TYPE_CHECKING:
    from shared.azure_backup.models import Job

_log: Final = logging.getLogger(__name__)

#: Up to this many messages of a vault are looked up singly.
FEW: Final = 4
#: Locks of a batch are not renewed: what is not done by then is put back.
LONGEST_WORK: Final = timedelta(seconds=60)
#: A message that this version cannot handle is tried this often before it is answered and parked.
_MOST_DEFECTS: Final = 5
#: An operation whose job is not listed after this many ticks is asked itself.
_TICKS_UNLISTED: Final = 2
#: The clocks of the service and of a listing filter agree to the second.
_EARLIER: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class _Item:
    delivery: Delivery
    message: StepMessage[Tracking]


def handle_batch(deliveries: Sequence[Delivery], runtime: Runtime) -> None:
    """Handle a batch of the tracker's messages. Raises only where the bus takes nothing at all."""
    began = runtime.clock.monotonic()
    limit = LONGEST_WORK.total_seconds()
    single: list[_Item] = []
    vaults: dict[str, list[_Item]] = defaultdict(list)
    for delivery in deliveries:
        item = _read(delivery, runtime)
        if item is None:
            continue
        vault_id, tracking = item.message.request.vault_id, item.message.payload
        if vault_id is not None and starts_job(tracking.origin) and tracking.again is None:
            vaults[vault_id.key].append(item)
        else:
            single.append(item)
    now = runtime.service_clock.now()
    runtime.items.forget(runtime.settings.track_interval, now)
    runtime.listings.forget(runtime.settings.track_interval, now)
    results: list[tuple[_Item, Result]] = []
    for items in vaults.values():
        if len(items) <= FEW and not _listed(items, runtime):
            single.extend(items)
        else:
            results += _from_listing(items, runtime, began)
    for item in single:
        if runtime.clock.monotonic() - began > limit:
            results.append((item, put_back(item.message, runtime, timedelta())))
        else:
            results.append((item, _one(item, runtime)))
    _send(results, runtime)


def _read(delivery: Delivery, runtime: Runtime) -> _Item | None:
    """The poll in a delivery; None where there is none for this version, and it has been put away."""
    try:
        message = decode(STEPS[TRACK], delivery, runtime)
        if message is None:
            return None
        tracking: Tracking = message.payload
        if tracking.origin in WORKFLOW_STEPS:
            return _Item(delivery, message)
        known = f"a job of step {tracking.origin}, which this version does not know"
        if runtime.service_clock.now() < tracking.deadline:
            _log.warning("%s, waits for the app that does", known, extra=log_context(message))
            wait_for_operator(delivery, runtime.bus, runtime.clock.now())
        else:
            _log.error("%s, is over its deadline and parked", known, extra=log_context(message))
            dispatch(_answered(delivery, runtime, known), None, runtime)
    except BusError as error:
        come_back(delivery, runtime, error)
    except Exception as error:
        _log.exception("a poll cannot be read", extra={"action": "track", "message_id": delivery.message_id})
        try:
            dispatch(_answered(delivery, runtime, type(error).__name__), None, runtime)
        except BusError as refusal:
            come_back(delivery, runtime, refusal)
    return None


def _one(item: _Item, runtime: Runtime, **known: Any) -> Result:
    try:
        return run(STEPS[TRACK], item.message, item.delivery, runtime, **known)
    except Exception as error:
        _log.exception("a poll failed on a defect of this app", extra=log_context(item.message))
        message = item.message
        if message.attempt < _MOST_DEFECTS:
            return put_back(message, runtime, timedelta(seconds=30), attempt=message.attempt + 1)
        return _answered(item.delivery, runtime, type(error).__name__)


def _answered(delivery: Delivery, runtime: Runtime, what: str) -> Result:
    """The answer to whoever waits for a message that this version cannot handle, which is parked."""
    text = f"{what} while a job was followed; find the cause in the log, then replay it."
    info = ErrorInfo(code="failed_internal", message=text)
    event = outcome_of_body(delivery, info, at=runtime.service_clock.now())
    return Result(events=(event,), forward=(park(delivery, "failed_internal", text),))


def _listed(items: list[_Item], runtime: Runtime) -> bool:
    """Whether a listing that was made for others answers these too."""
    vault_id = items[0].message.request.vault_id
    assert vault_id is not None
    return runtime.listings.recent(
        vault_id.key,
        oldest=_oldest(items),
        interval=runtime.settings.track_interval,
        now=runtime.service_clock.now(),
        running_only=_all_known(items),
    )


def _missing(items: list[_Item], listing: JobListing) -> int:
    return sum(
        listing.find(job_id=item.message.payload.job_id, activity_id=item.message.payload.client_request_id)
        is None
        for item in items
    )


def _oldest(items: list[_Item]) -> datetime:
    return min(item.message.payload.began for item in items) - _EARLIER


def _all_known(items: list[_Item]) -> bool:
    return all(item.message.payload.job_id is not None for item in items)


def _from_listing(items: list[_Item], runtime: Runtime, began: float) -> list[tuple[_Item, Result]]:
    """Answer many messages of one vault from one listing of its jobs."""
    vault_id = items[0].message.request.vault_id
    assert vault_id is not None

    pages = [1]

    def load(start: datetime, status: str | None) -> list[Job]:
        with coming_back(any(item.message.poll for item in items)):
            return runtime.backup.list_jobs(vault_id, start=start, status=status, counted=pages.append)

    def list_jobs(*, running_only: bool) -> JobListing:
        return runtime.listings.get(
            vault_id.key,
            oldest=_oldest(items),
            interval=runtime.settings.track_interval,
            now=runtime.service_clock.now,
            load=load,
            pages=lambda: pages[-1],
            running_only=running_only,
        )

    try:
        listing = list_jobs(running_only=_all_known(items))
        if listing.running_only and _missing(items, listing) > listing.whole_pages:
            # Many have ended at once: reading them singly costs more than the whole list.
            listing = list_jobs(running_only=False)
    except ArmError as error:
        return [(item, after_arm_error(STEPS[TRACK], item.message, runtime, error)) for item in items]
    except TokenError:
        # Each reports it by its own poll.
        return [(item, _one(item, runtime)) for item in items]
    return [(item, _by_listing(item, listing, runtime, began)) for item in items]


def _by_listing(item: _Item, listing: JobListing, runtime: Runtime, began: float) -> Result:
    tracking = item.message.payload
    vault_id = item.message.request.vault_id
    tick = listing.tick(runtime.settings.track_interval)
    # What is read singly takes time, which the locks of the batch do not have without end.
    in_time = runtime.clock.monotonic() - began < LONGEST_WORK.total_seconds()
    job = listing.find(job_id=tracking.job_id, activity_id=tracking.client_request_id)
    if job is not None:
        clean = job.status.value == "Completed"
        # A configuration that completed has nothing to add to its entry in the list.
        worth = (
            in_time
            and WORKFLOW_STEPS[tracking.origin].job != "ConfigureBackup"
            and plenty_of_reads(runtime, vault_id)
        )
        details = job.status.has_ended and (not clean or worth)
        return _one(item, runtime, known=job, details=details, grown_tick=tick)
    now = runtime.service_clock.now()
    ended = listing.running_only and tracking.job_id is not None
    early = not ended and now - tracking.began < tick * _TICKS_UNLISTED
    # What is over its deadline has its outcome now, whether or not it may be asked once more.
    may_wait = now < tracking.deadline and (early or not some_reads(runtime, vault_id))
    if may_wait or not in_time:
        return put_back(item.message, runtime, next_tick(now, tick))
    return _one(item, runtime, grown_tick=tick)


def _send(results: Iterable[tuple[_Item, Result]], runtime: Runtime) -> None:
    results = list(results)
    messages: list[OutgoingMessage] = []
    for _, result in results:
        messages += outgoing(result, runtime)
    if not messages:
        return
    try:
        runtime.bus.send(messages)
    except BusError:
        # One that cannot be sent must not hold up the others; what was accepted is dropped as a duplicate.
        for item, result in results:
            dispatch(result, item.message, runtime)
