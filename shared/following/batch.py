"""The tracker's batch: each message is handled on its own; the batch only decides how jobs are looked up.

A few jobs of a vault are read one by one; many are answered from one listing of the vault's jobs, so that the cost of
following a job does not grow with the number of jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from shared.arm.budget import JOB_READS, action_of, coming_back
from shared.arm.errors import ArmError, TokenError
from shared.bus import BusError, BusUnavailableError, MessageTooLargeError, OutgoingMessage
from shared.clock import ServiceTime
from shared.engine.failures import after_arm_error
from shared.engine.message import (
    MOST_DEATHS,
    TRACK,
    DecidedEffect,
    Delivery,
    Ending,
    FollowedJob,
    FollowedOperation,
    Following,
    StepMessage,
)
from shared.engine.parking import answer_and_park, too_many_deaths
from shared.engine.requeue import (
    HOLD_BATCH,
    OPERATOR_WAIT,
    UNAVAILABLE_WAIT,
    copy_of_unfinished,
    requeue,
    requeue_copies,
)
from shared.engine.result import Collaborators, End, GrownTick, Later, Result
from shared.engine.run import read, requeue_unsent, run
from shared.engine.runtime import Runtime, collaborate, some_reads
from shared.engine.send import Carried, carried, hand_over, next_tick
from shared.engine.table import Row
from shared.engine.telemetry import context_of, delivery_context, log_context, say, started, traced_batch
from shared.following import doubts
from shared.following.poll import Poll, adds_details
from shared.listing_cache import ListedJobs, reads_of_jobs, tick_of
from shared.messages.error_codes import ErrorCode
from shared.messages.events import ErrorInfo
from shared.telemetry import tracing
from shared.telemetry.log import logger
from shared.telemetry.tracing import Instrument

if TYPE_CHECKING:
    from shared.arm.ids import VaultId
    from shared.azure_backup.models import Job

_log: Final = logger(__name__)

#: Up to this many messages of a vault are looked up one by one, if at most one of them follows a job: two are listed.
FEW: Final = 4
#: Locks of a batch are not renewed: messages that are not done by then poll again.
LONGEST_WORK: Final = timedelta(seconds=60)
#: How often a message that this version cannot handle is tried before it is answered and parked.
_MOST_DEFECTS: Final = 5
_DEFECT_WAIT: Final = timedelta(seconds=30)
#: An operation is polled itself once its job has been missing from listings for this many ticks and this long.
_TICKS_UNLISTED: Final = 2
_LEAST_UNLISTED: Final = timedelta(minutes=1)
#: The service's clock and its listing filter agree to the second.
_EARLIER: Final = timedelta(seconds=5)
#: Messages that have died before are spaced this far apart, so that each has a batch to itself.
_APART: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class _Item:
    delivery: Delivery
    message: StepMessage[Following]
    #: the row of the step that the message follows for
    row: Row
    span: tracing.Span
    #: the trace context that it came with
    parent: str | None

    def processing(self) -> AbstractContextManager[None]:
        """Within this context, this message is the one being processed."""
        return tracing.processing(TRACK, self.span, self.parent)


@dataclass(frozen=True)
class _Defect:
    """A poll that this version cannot handle."""

    error: Exception


def handle_batch(deliveries: Sequence[Delivery], runtime: Runtime) -> None:
    """Handle a batch of the tracker's messages.

    Raises BusError where the bus takes nothing at all: the whole batch is then delivered again.
    """
    try:
        healthy, dying = _admitted(deliveries, runtime)
        _work(healthy, runtime)
        # Last: if it kills this process, the results of the others have been sent.
        _work(dying, runtime)
    except BusError:
        # Where one result could not be sent, all deliveries come again, and none of them counts as a death.
        for delivery in deliveries:
            runtime.given_back.add(delivery.queue, delivery.identity)
        raise


def _admitted(deliveries: Sequence[Delivery], runtime: Runtime) -> tuple[list[Delivery], list[Delivery]]:
    """The deliveries that may be worked on: those that have never died, and at most one that has.

    All others are requeued before any work begins, or answered and parked.
    """
    redelivered = [delivery for delivery in deliveries if delivery.delivery_count > 1]
    rest = [delivery for delivery in deliveries if delivery.delivery_count <= 1]
    dying = [delivery for delivery in rest if 0 < delivery.deaths < MOST_DEATHS]
    now = runtime.clock.now()
    copies = [copy_of_unfinished(delivery, runtime) for delivery in redelivered]
    copies += [delivery.copy(scheduled_for=now + n * _APART) for n, delivery in enumerate(dying[1:], start=1)]
    if copies:
        originals = [*redelivered, *dying[1:]]
        try:
            requeue_copies(lambda: copies, originals, runtime, hold=HOLD_BATCH)
        except MessageTooLargeError:
            _requeue_one_by_one(copies, originals, runtime)
    for delivery in rest:
        if delivery.deaths >= MOST_DEATHS:
            _answer_and_park(delivery, runtime, too_many_deaths(delivery))
    return [delivery for delivery in rest if not delivery.deaths], dying[:1]


def _requeue_one_by_one(
    copies: Sequence[OutgoingMessage], originals: Sequence[Delivery], runtime: Runtime
) -> None:
    """Send copies one by one; a message that leaves no room for a copy's properties is answered and parked."""
    for copy, original in zip(copies, originals, strict=True):
        try:
            requeue_copies(partial(list, [copy]), [original], runtime, hold=HOLD_BATCH)
        except MessageTooLargeError:
            _answer_and_park(original, runtime, too_many_deaths(original))


def _answer_and_park(delivery: Delivery, runtime: Runtime, why: ErrorInfo) -> None:
    """Answer the requester of a message that is given up, and park it. Where that fails, it comes again later."""
    try:
        answer_and_park(delivery, runtime, why)
    except BusError as error:
        requeue_unsent(delivery, runtime, error, worked_on=True, hold=HOLD_BATCH)
    except Exception:
        _log.exception("a poll can be neither handled nor answered", extra=delivery_context(delivery, TRACK))
        requeue(delivery, runtime, wait=OPERATOR_WAIT, worked_on=True, hold=HOLD_BATCH)


def _work(deliveries: Sequence[Delivery], runtime: Runtime) -> None:
    with traced_batch(deliveries) as batch:
        items = [item for item in (_read(delivery, runtime, batch) for delivery in deliveries) if item]
        try:
            _work_on(items, runtime)
        except BaseException as error:
            for item in items:
                item.span.end(error)
            raise
        for item in items:
            item.span.end()


def _work_on(read_items: Sequence[_Item], runtime: Runtime) -> None:
    began = runtime.clock.monotonic()
    limit = LONGEST_WORK.total_seconds()
    single: list[_Item] = []
    vaults: dict[str, list[_Item]] = defaultdict(list)
    if read_items:
        tracing.measure(Instrument.FOLLOWED, len(read_items))
    for item in read_items:
        vault_id = item.message.request.vault_id
        if vault_id is not None and item.row.job is not None and _is_followed(item.message.payload):
            vaults[vault_id.key].append(item)
        else:
            single.append(item)
    now = runtime.service_clock.now()
    runtime.items.forget(now)
    runtime.listings.forget(runtime.settings.track_interval, now)
    results: list[tuple[_Item, Result | _Defect]] = []
    held_back = doubts.outstanding((item.message for item in single), runtime)
    for items in vaults.values():
        if _are_few(items) and not _listed(items, runtime):
            single.extend(items)
        else:
            results += _from_listing(items, runtime, began)
    for item in single:
        if doubts.is_doubt(item.message) and doubts.part_of(item.message) in held_back:
            results.append((item, doubts.wait(item.message)))
        elif _is_followed(item.message.payload) and runtime.clock.monotonic() - began > limit:
            results.append((item, Later(timedelta())))
        else:
            grown = _tick_of_singles(item, single, runtime)
            results.append((item, _one(item, runtime, grown_tick=grown)))
    _send(results, runtime)


def _tick_of_singles(item: _Item, single: list[_Item], runtime: Runtime) -> GrownTick | None:
    """The longer tick for jobs that are looked up one by one: each takes a read of the same hourly budget."""
    vault_id = item.message.request.vault_id
    if vault_id is None:
        return None
    subscription_id = vault_id.subscription_id
    reads = sum(
        isinstance(other.message.payload.followed, FollowedJob)
        and other.message.request.vault_id is not None
        and other.message.request.vault_id.subscription_id == subscription_id
        for other in single
    )
    interval = runtime.settings.track_interval
    tick = tick_of(
        interval,
        pages=reads + runtime.listings.pages(subscription_id),
        reads=reads_of_jobs(runtime.backup.budget, subscription_id),
    )
    return GrownTick(tick, runtime.service_clock.now()) if tick > interval else None


def _are_few(items: list[_Item]) -> bool:
    """Whether looking them up one by one takes no more reads than one page of a listing."""
    return (
        len(items) <= FEW
        and sum(isinstance(item.message.payload.followed, FollowedJob) for item in items) <= 1
    )


def _is_followed(following: Following) -> bool:
    """Whether there is something to follow, which a listing of jobs may answer; else it has only to be sent on."""
    return isinstance(following.followed, FollowedOperation | FollowedJob)


def _read(delivery: Delivery, runtime: Runtime, batch: tracing.Span) -> _Item | None:
    """The poll in a delivery; None where this version cannot handle it: it is parked then, or requeued."""
    try:
        message = read(runtime.table.rows[TRACK], delivery, runtime)
        if message is None:
            return None
        parent = context_of(delivery)
        row = runtime.table.origin(message)
        age = runtime.service_clock.now() - message.payload.began
        tracing.measure(Instrument.JOB_AGE, max(0.0, age.total_seconds()), step=row.name)
        return _Item(delivery, message, row, started(delivery, parent, batch.context), parent)
    except BusError as error:
        requeue_unsent(delivery, runtime, error, worked_on=False, hold=HOLD_BATCH)
    except Exception as error:
        _log.exception("a poll cannot be read", extra=delivery_context(delivery, TRACK))
        _answer_defect(delivery, runtime, error)
    return None


def _answer_defect(delivery: Delivery, runtime: Runtime, error: Exception) -> None:
    """Answer the requester of a message that this version cannot handle, and park it."""
    text = f"{type(error).__name__} while a job was followed; find the cause in the log, then replay it."
    _answer_and_park(delivery, runtime, ErrorInfo(code=ErrorCode.FAILED_INTERNAL, message=text))


def _one(
    item: _Item,
    runtime: Runtime,
    *,
    known: Job | None = None,
    details: bool = False,
    grown_tick: GrownTick | None = None,
) -> Result | _Defect:
    followed = item.message.payload.followed
    if isinstance(followed, Ending):
        return End.decided(followed)
    if isinstance(followed, DecidedEffect):
        return followed

    def poll(message: StepMessage[Any], collaborators: Collaborators) -> Result:
        return Poll(message, item.row, collaborators).result(known=known, details=details)

    try:
        with item.processing():
            return run(item.row, item.message, item.delivery, runtime, step=poll, grown_tick=grown_tick)
    except Exception as error:
        _log.exception("a poll failed on a defect of this app", extra=log_context(item.message))
        if item.message.attempt < _MOST_DEFECTS:
            return Later(_DEFECT_WAIT, attempt=item.message.attempt + 1)
        return _Defect(error)


def _listed(items: list[_Item], runtime: Runtime) -> bool:
    """Whether a listing that was made for other messages answers these too."""
    return runtime.listings.recent(
        items[0].message.vault_id,
        oldest=_oldest(items),
        interval=runtime.settings.track_interval,
        now=runtime.service_clock.now(),
        running_only=_all_known(items),
    )


def _job_in(listing: ListedJobs, item: _Item) -> Job | None:
    following = item.message.payload
    job_id = following.followed.job_id if isinstance(following.followed, FollowedJob) else None
    return listing.find(job_id=job_id, activity_id=following.client_request_id)


def _oldest(items: list[_Item]) -> ServiceTime:
    return min(item.message.payload.began for item in items) - _EARLIER


def _all_known(items: list[_Item]) -> bool:
    return all(isinstance(item.message.payload.followed, FollowedJob) for item in items)


def _from_listing(items: list[_Item], runtime: Runtime, began: float) -> list[tuple[_Item, Result | _Defect]]:
    """Answer many messages of one vault from one listing of its jobs."""
    vault_id = items[0].message.vault_id

    def list_jobs(*, running_only: bool) -> ListedJobs:
        with coming_back(any(item.message.poll for item in items)):
            return runtime.listings.get(
                runtime.backup,
                vault_id,
                oldest=_oldest(items),
                interval=runtime.settings.track_interval,
                now=runtime.service_clock.now,
                running_only=running_only,
            )

    called = runtime.service_clock.now()
    try:
        listing = list_jobs(running_only=_all_known(items))
        missing = sum(_job_in(listing, item) is None for item in items)
        if listing.running_only and missing > listing.whole_pages:
            # Many have ended at once: reading them one by one costs more than the whole list.
            listing = list_jobs(running_only=False)
    except ArmError as error:
        return [
            (
                item,
                after_arm_error(
                    item.row, item.message, collaborate(runtime, item.message), runtime, error, called=called
                ),
            )
            for item in items
        ]
    except TokenError:
        # Each message reports the error by its own poll.
        return [(item, _one(item, runtime)) for item in items]
    return [(item, _by_listing(item, listing, runtime, began)) for item in items]


def _by_listing(item: _Item, listing: ListedJobs, runtime: Runtime, began: float) -> Result | _Defect:
    following = item.message.payload
    vault_id = item.message.vault_id
    interval = runtime.settings.track_interval
    tick = listing.tick(interval)
    grown = GrownTick(tick, listing.at) if tick > interval else None
    # Single reads take time, and the locks of the batch end.
    in_time = runtime.clock.monotonic() - began < LONGEST_WORK.total_seconds()
    job = _job_in(listing, item)
    if job is not None:
        clean = job.status.value == "Completed"
        worth = in_time and adds_details(item.row) and _may_read_details(listing, vault_id, runtime)
        return _one(
            item, runtime, known=job, details=job.status.has_ended and (not clean or worth), grown_tick=grown
        )
    now = runtime.service_clock.now()
    ended = listing.running_only and isinstance(following.followed, FollowedJob)
    early = not ended and now - following.began < max(tick * _TICKS_UNLISTED, _LEAST_UNLISTED)
    # A job that has ended is read at once: there are fewer of those than pages of a whole listing.
    affordable = ended or some_reads(runtime, vault_id, _single_read(following))
    # A message past its deadline has its outcome now, whether or not a read is left for it.
    may_wait = now < following.deadline and (early or not affordable)
    if may_wait or not in_time:
        return Later(next_tick(now, tick, since=listing.at if grown is not None else None))
    return _one(item, runtime, grown_tick=grown)


def _may_read_details(listing: ListedJobs, vault_id: VaultId, runtime: Runtime) -> bool:
    """Whether more of the hourly budget is left than the listings to come will take."""
    left = runtime.backup.budget.left(vault_id.subscription_id, JOB_READS)
    return left > listing.reads_ahead(runtime.settings.track_interval)


def _single_read(following: Following) -> str:
    """The action that a single look-up counts against."""
    if isinstance(following.followed, FollowedOperation):
        url = following.followed.async_operation_url or following.followed.location_url
        if url is not None:
            return action_of("GET", urlsplit(url).path)
    return JOB_READS


def _send(results: Sequence[tuple[_Item, Result | _Defect]], runtime: Runtime) -> None:
    """Send the results of all polls together; each is made into messages on its own."""
    together: list[Carried] = []
    alone: list[tuple[_Item, Result]] = []
    sent: list[tuple[_Item, Result]] = []
    for item, result in results:
        say(item.span, item.message, result)
        if isinstance(result, _Defect):
            _answer_defect(item.delivery, runtime, result.error)
            continue
        try:
            with item.processing():
                for portion in carried(item.row, item.message, result, runtime):
                    together += portion
            sent.append((item, result))
        except Exception as error:
            _log.exception("what a poll led to is no message", extra=log_context(item.message))
            _answer_defect(item.delivery, runtime, error)
    try:
        if together:
            runtime.bus.send([each.sent for each in together])
    except BusError:
        # One result that cannot be sent must not hold up the others; the broker drops what it has accepted already.
        alone = sent
    for number, (item, result) in enumerate(alone):
        try:
            with item.processing():
                hand_over(item.row, item.message, result, runtime)
        except BusUnavailableError as error:
            # A bus that is away for one is away for the others, and each try takes half a minute.
            _requeue_all([each.delivery for each, _ in alone[number:]], runtime, error)
            return
        except BusError as error:
            requeue_unsent(item.delivery, runtime, error, worked_on=True, hold=HOLD_BATCH)


def _requeue_all(deliveries: Sequence[Delivery], runtime: Runtime, error: BusError) -> None:
    """Requeue deliveries, since the bus does not take what follows them."""
    _log.warning(
        "the bus did not take what follows on %d polls; they come again: %s",
        len(deliveries),
        error,
        extra={"action": "track"},
    )

    def copies() -> list[OutgoingMessage]:
        at = runtime.clock.now() + UNAVAILABLE_WAIT
        return [delivery.copy(scheduled_for=at, worked_on=True) for delivery in deliveries]

    requeue_copies(copies, deliveries, runtime, hold=HOLD_BATCH)
