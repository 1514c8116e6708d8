"""Backups: those that policies take at their times, and what each leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from local.simulator.calls import Call
from local.simulator.estate import Database, LogChain, ProtectedItem, RecoveryPoint
from local.simulator.job_errors import database_is_gone, unreachable
from local.simulator.job_lifecycle import start_job
from local.simulator.jobs import Job
from local.simulator.policy_schedules import SCHEDULED, next_run, retention_rule
from local.simulator.timeline import review_log_backups, scheduled_failure
from local.simulator.world import World


def schedule_backups(world: World, item: ProtectedItem) -> None:
    """Put the next full and the next differential backup of the item's policy on the agenda."""
    item.schedule_epoch += 1
    epoch = item.schedule_epoch
    if not world.scenario.scheduled_backups or item.policy is None:
        return
    for kind in SCHEDULED:
        due = next_run(item.policy, kind, world.now)
        if due is not None:
            world.agenda.at(due, partial(_scheduled_backup, world, item, kind, epoch))


def _scheduled_backup(world: World, item: ProtectedItem, kind: str, epoch: int) -> None:
    if item.schedule_epoch != epoch or item.soft_deleted or item.stopped or item.policy is None:
        return
    database = item.live_database()
    # If the database is gone, the job starts and fails.
    allowed = database is None or database.allows(kind)
    if kind == "Differential" and (item.full() is None or item.log_chain_broken):
        # The service heals by itself: a differential with nothing to build on becomes a full.
        kind = "Full"
    if allowed and item.busy_with is None:
        started = world.now

        def complete(job: Job) -> None:
            if (problem := unreachable(item.container)) is not None:
                raise problem
            if (problem := scheduled_failure(world, item, kind, started)) is not None:
                raise problem
            complete_backup(world, item, job, kind, started=started, expires=None)

        start_backup_job(world, None, item, kind, complete, length=world.durations.draw("backup"))
    schedule_backups(world, item)


def start_backup_job(
    world: World,
    call: Call | None,
    item: ProtectedItem,
    kind: str,
    complete: Callable[[Job], None],
    *,
    length: timedelta,
) -> Job:
    """Start the job of a backup; without a call it is the policy's. While it runs, the item is busy with it."""
    job = start_job(
        world,
        call,
        item.container.vault,
        "Backup",
        entity=item.database,
        named=item.job_name,
        item=item,
        length=length,
        complete=complete,
        user_triggered=call is not None,
        task="Transfer data to vault",
        shown=f"Backup ({kind})",
        shown_at_end=f"Backup ({kind})",
        cancellable=True,
    )
    if job.running:
        item.busy_with = job
    return job


def complete_backup(
    world: World, item: ProtectedItem, job: Job, kind: str, *, started: datetime, expires: datetime | None
) -> None:
    """Leave what a successful backup of `kind` leaves: a recovery point or a longer log chain.

    `expires` is when a backup on demand expires; None: by the policy's retention. Raises JobError where the
    database is gone.
    """
    database = item.live_database()
    if database is None:
        raise database_is_gone(item)
    add_backup(world, item, database, kind, taken=_moment_of_backup(started, world.now), expires=expires)
    item.last_backup_time = world.now
    item.last_backup_status = "Healthy"
    item.last_error = None
    job.property_bag |= item.transferred(kind)


def add_backup(
    world: World,
    item: ProtectedItem,
    database: Database,
    kind: str,
    *,
    taken: datetime,
    expires: datetime | None,
) -> None:
    """Record a backup. Its time is kept in whole seconds, except where it starts a log range."""
    time = taken.replace(microsecond=0)
    if kind == "Log":
        chain = item.open_chain
        if chain is not None:
            chain.end = max(time, chain.end_at(world.now) or time)
        return
    rule = ""
    if expires is None:
        kept, rule = retention_rule(item.policy, kind)
        expires = time + kept
    item.recovery_points.append(
        RecoveryPoint(
            world.ids.number(), time, kind, list(database.files), next(world.sequence), expires, rule
        )
    )
    if item.state == "IRPending":
        item.state = "Protected"
    if kind == "Full":
        item.log_chain_broken = False
    if kind == "Full" and item.open_chain is None and database.recovery_model != "Simple":
        interval = item.policy.log_interval() if item.policy is not None else None
        item.chains.append(LogChain(taken - timedelta(seconds=2), None, interval, time))
        review_log_backups(world, item)


def _moment_of_backup(started: datetime, ended: datetime) -> datetime:
    # Recorded: a full of two minutes has its recovery point 20 seconds after its start.
    return started + min(timedelta(seconds=20), (ended - started) / 6)
