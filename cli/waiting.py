"""Waiting for jobs and operations of the service, as often as its read limits allow."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cli.errors import FAILED, CommandError
from cli.wording import spoken
from shared.arm.errors import ArmError, ArmStatusError, TokenUnavailableError
from shared.arm.ids import VaultId
from shared.azure_backup.models import Job, StartedOperation
from shared.azure_backup.wire import uuid_text
from shared.engine.retry import FIRST_WAIT, LONGEST_WAIT, Retry, decide
from shared.engine.runtime import Runtime
from shared.listing_cache import reads_of_jobs, tick_of

#: Nobody is shown more by asking more often.
_TICK: Final = timedelta(seconds=10)
#: A person who waits has no deadline of their own.
_FOR_EVER: Final = timedelta(days=365)
#: So often in a row there may be no token: who gives them may be busy.
_MOST_WITHOUT_TOKEN: Final = 10

T = TypeVar("T")
Tell = Callable[[Job, datetime], None]


def to_their_ends(
    runtime: Runtime, vault: VaultId, jobs: Sequence[Job], *, timeout: timedelta | None, told: Tell
) -> list[Job]:
    """The jobs once each has ended. What passes (throttling, an outage) is waited out.

    Args:
        jobs: as they were read just now.
        timeout: of the service's time; None waits for as long as it takes.
        told: hears of each job whenever something about it has changed, with the service's time.

    Raises:
        CommandError: some have not ended within `timeout`.
        ArmError, TokenError: they cannot be read any more.
    """
    clock = runtime.service_clock
    ends = clock.now() + (timeout if timeout is not None else _FOR_EVER)
    known = {uuid_text(job.id): job for job in jobs}
    for job in known.values():
        told(job, clock.now())
    while running := [key for key, job in known.items() if not job.status.has_ended]:
        reads = reads_of_jobs(runtime.backup.budget, vault.subscription_id)
        tick = tick_of(_TICK, pages=len(running), reads=reads)
        if (time_left := ends - clock.now()) <= timedelta():
            raise CommandError(_still_running([known[key] for key in running], timeout), status=FAILED)
        _sleep(runtime, min(tick, time_left))
        for key in running:
            before = known[key]
            # A job that is not listed for a moment has not ended by that.
            now = _patiently(runtime, ends, lambda key=key: runtime.backup.get_job(vault, key)) or before  # type: ignore[misc]
            known[key] = now
            if (now.status, now.percent_complete, now.tasks) != (
                before.status,
                before.percent_complete,
                before.tasks,
            ):
                told(now, clock.now())
    return list(known.values())


def _still_running(jobs: Sequence[Job], timeout: timedelta | None) -> str:
    ids = ", ".join(job.id for job in jobs)
    return (
        f"--timeout: after {spoken(timeout or _FOR_EVER)} there still runs: {ids}. The same command waits for longer;"
        " nothing was changed."
    )


def operation_ended(runtime: Runtime, vault: VaultId, started: StartedOperation) -> None:
    """Return once an operation has ended. One that says nothing to follow has.

    Its `Location` is followed, and its `Azure-AsyncOperation` where there is no other or where that one is
    forbidden.

    Raises:
        CommandError: it failed, or has not ended within `OPERATION_TIMEOUT`.
        ArmError, TokenError: it cannot be followed any more.
    """
    urls = [
        (follow, url)
        for follow, url in ((_result, started.location_url), (_status, started.async_operation_url))
        if url is not None
    ]
    clock = runtime.service_clock
    ends = clock.now() + runtime.settings.operation_timeout
    wait = started.retry_after
    while urls:
        _sleep(runtime, max(wait or timedelta(), _TICK))
        follow, url = urls[0]
        try:
            wait = _patiently(runtime, ends, lambda follow=follow, url=url: follow(runtime, vault, url))  # type: ignore[misc]
        except ArmStatusError as error:
            if error.status != 403 or len(urls) == 1:
                raise
            del urls[0]
            continue
        if wait is None:
            return
        if clock.now() >= ends:
            raise CommandError(
                "the operation has not ended within OPERATION_TIMEOUT: look at the job with `sqlvmbackup jobs show`.",
                status=FAILED,
            )


def _result(runtime: Runtime, vault: VaultId, url: str) -> timedelta | None:
    """How long to wait before the next question; None where the operation has ended."""
    result = runtime.backup.get_operation_result(url, vault=vault)
    return None if result.finished else result.retry_after or timedelta()


def _status(runtime: Runtime, vault: VaultId, url: str) -> timedelta | None:
    status = runtime.backup.get_operation_status(url, vault=vault)
    if status.finished and not status.succeeded:
        reason = f"{status.error_code}: {status.error_message}" if status.error_code else status.status
        raise CommandError(f"the operation ended as {reason}.", status=FAILED)
    return None if status.finished else status.retry_after or timedelta()


def _patiently(runtime: Runtime, ends: datetime, ask: Callable[[], T]) -> T:
    """What `ask` gives, asked again for what passes."""
    clock = runtime.service_clock
    attempt = 0
    began = clock.now()
    while True:
        try:
            return ask()
        except TokenUnavailableError:
            attempt += 1
            if attempt >= _MOST_WITHOUT_TOKEN:
                raise
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
        except ArmError as error:
            decision = decide(
                error,
                attempt=attempt,
                age=clock.now() - began,
                time_left=ends - clock.now(),
                jitter=random.random(),  # noqa: S311 - spreads calls, and is no secret
            )
            # A right that is missing is not on its way: it was there when the vault was read.
            if not isinstance(decision, Retry) or (
                isinstance(error, ArmStatusError) and error.status in (401, 403)
            ):
                raise
            attempt += decision.counts
            wait = decision.after
        _sleep(runtime, wait)


def _sleep(runtime: Runtime, duration: timedelta) -> None:
    """Wait for so much of the service's time."""
    runtime.clock.sleep(max(timedelta(), duration) * runtime.service_clock.scale)
