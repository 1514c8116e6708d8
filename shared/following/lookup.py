"""How the polls of a batch are looked up: a few jobs of a vault one by one, many in one listing of the vault's jobs.

So the cost of following a job does not grow with the number of jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from shared.arm.budget import JOB_READS, action_of, coming_back
from shared.arm.errors import ArmError, TokenError
from shared.clock import ServiceTime
from shared.engine.failures import after_arm_error
from shared.engine.message import (
    TRACK,
    DecidedEffect,
    Delivery,
    Ending,
    FollowedJob,
    FollowedOperation,
    Following,
    StepMessage,
)
from shared.engine.result import Collaborators, End, GrownTick, Later, Result
from shared.engine.run import run
from shared.engine.runtime import Runtime, collaborate, some_reads
from shared.engine.send import next_tick
from shared.engine.table import Row
from shared.engine.telemetry import log_context
from shared.following import doubts
from shared.following.poll import Poll, adds_details
from shared.listing_cache import ListedJobs, reads_of_jobs, tick_of
from shared.telemetry import tracing
from shared.telemetry.log import logger

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


@dataclass(frozen=True)
class Item:
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
class Defect:
    """A poll that this version cannot handle."""

    error: Exception


#: What a poll of a message came to.
Answer: TypeAlias = "tuple[Item, Result | Defect]"


def look_up(items: Sequence[Item], runtime: Runtime) -> list[Answer]:
    """Poll once for each message. No error of one message is raised: it is a result, or a defect."""
    began = runtime.clock.monotonic()
    limit = LONGEST_WORK.total_seconds()
    single: list[Item] = []
    vaults: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        vault_id = item.message.request.vault_id
        if vault_id is not None and item.row.job is not None and _is_followed(item.message.payload):
            vaults[vault_id.key].append(item)
        else:
            single.append(item)
    now = runtime.service_clock.now()
    runtime.items.forget(now)
    runtime.listings.forget(runtime.settings.track_interval, now)
    results: list[Answer] = []
    held_back = doubts.outstanding((item.message for item in single), runtime)
    for together in vaults.values():
        if _are_few(together) and not _listed(together, runtime):
            single.extend(together)
        else:
            results += _from_listing(together, runtime, began)
    for item in single:
        if doubts.is_doubt(item.message) and doubts.part_of(item.message) in held_back:
            results.append((item, doubts.wait(item.message)))
        elif _is_followed(item.message.payload) and runtime.clock.monotonic() - began > limit:
            results.append((item, Later(timedelta())))
        else:
            grown = _tick_of_singles(item, single, runtime)
            results.append((item, _one(item, runtime, grown_tick=grown)))
    return results


def _tick_of_singles(item: Item, single: list[Item], runtime: Runtime) -> GrownTick | None:
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


def _are_few(items: list[Item]) -> bool:
    """Whether looking them up one by one takes no more reads than one page of a listing."""
    return (
        len(items) <= FEW
        and sum(isinstance(item.message.payload.followed, FollowedJob) for item in items) <= 1
    )


def _is_followed(following: Following) -> bool:
    """Whether there is something to follow, which a listing of jobs may answer; else it has only to be sent on."""
    return isinstance(following.followed, FollowedOperation | FollowedJob)


def _one(
    item: Item,
    runtime: Runtime,
    *,
    known: Job | None = None,
    details: bool = False,
    grown_tick: GrownTick | None = None,
) -> Result | Defect:
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
        return Defect(error)


def _listed(items: list[Item], runtime: Runtime) -> bool:
    """Whether a listing that was made for other messages answers these too."""
    return runtime.listings.recent(
        items[0].message.vault_id,
        oldest=_oldest(items),
        interval=runtime.settings.track_interval,
        now=runtime.service_clock.now(),
        running_only=_all_known(items),
    )


def _job_in(listing: ListedJobs, item: Item) -> Job | None:
    following = item.message.payload
    job_id = following.followed.job_id if isinstance(following.followed, FollowedJob) else None
    return listing.find(job_id=job_id, activity_id=following.client_request_id)


def _oldest(items: list[Item]) -> ServiceTime:
    return min(item.message.payload.began for item in items) - _EARLIER


def _all_known(items: list[Item]) -> bool:
    return all(isinstance(item.message.payload.followed, FollowedJob) for item in items)


def _from_listing(items: list[Item], runtime: Runtime, began: float) -> list[Answer]:
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


def _by_listing(item: Item, listing: ListedJobs, runtime: Runtime, began: float) -> Result | Defect:
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
