"""The backups from before the simulator began: their recovery points, and the jobs that took them."""

from __future__ import annotations

from datetime import datetime, timedelta

from local.simulator.backups import add_backup
from local.simulator.estate import WRITTEN, Policy, ProtectedItem
from local.simulator.jobs import Job
from local.simulator.policy_schedules import SCHEDULED, next_run, retention
from local.simulator.scenario import DatabaseScenario
from local.simulator.world import World

_JOBS_KEPT = timedelta(days=30)
_LEAST_HISTORY_WITH_JOBS = timedelta(days=6)
"""In a history of a week the first backup is at least this old."""


class PastRuns:
    """When policies took which backups before the simulator began; each policy is walked once."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._found: dict[tuple[int, datetime], list[tuple[datetime, str]]] = {}

    def since(self, policy: Policy, moment: datetime) -> list[tuple[datetime, str]]:
        """The moment and the kind of each backup since a moment, the oldest first."""
        key = (id(policy), moment)
        if key not in self._found:
            found: list[tuple[datetime, str]] = []
            for kind in SCHEDULED:
                due = next_run(policy, kind, moment)
                while due is not None and due + timedelta(minutes=5) <= self._now:
                    found.append((due, kind))
                    due = next_run(policy, kind, due)
            self._found[key] = sorted(found)
        return self._found[key]


def give_history(world: World, item: ProtectedItem, scenario: DatabaseScenario, runs: PastRuns) -> None:
    """Give an item the recovery points that its policy would have made in the days of its history."""
    days = scenario.history_days
    database = item.live_database()
    if database is None or item.policy is None or days <= 0:
        return
    for due, kind in runs.since(item.policy, world.now - timedelta(days=days)):
        kept = retention(item.policy, kind)
        time = due + timedelta(seconds=44)
        builds_on_none = kind == "Differential" and item.full() is None
        if time + kept > world.now and database.allows(kind) and not builds_on_none:
            add_backup(world, item, database, kind, taken=time, expires=None)
    for point in item.recovery_points:
        age = world.now - point.time
        for limit, mark in (
            (scenario.archived_after_days, "archived"),
            (scenario.soft_deleted_after_days, "soft_deleted"),
            (scenario.vault_tier_deleted_after_days, "tier_deleted"),
        ):
            if limit is not None and age >= timedelta(days=limit):
                setattr(point, mark, True)
        recent = scenario.threats_within_days
        point.threatened = recent is not None and age < timedelta(days=recent)
    if item.recovery_points:
        item.last_backup_time = item.recovery_points[-1].time + WRITTEN
        item.last_backup_status = "Healthy"


def give_jobs(world: World) -> None:
    """Give each vault the jobs that took the recovery points of the last month, which is how long jobs are kept.

    An item with less than a week of history gets recovery points alone, so that a test can count the jobs that follow.
    """
    taken = [
        (point.time, point.kind, item)
        for vault in world.vaults.values()
        for container in vault.containers.values()
        for item in container.items.values()
        if item.recovery_points and world.now - item.recovery_points[0].time >= _LEAST_HISTORY_WITH_JOBS
        for point in item.recovery_points
        if world.now - point.time <= _JOBS_KEPT
    ]
    for time, kind, item in sorted(taken, key=lambda each: each[0]):
        start, end = time - timedelta(seconds=44), time + WRITTEN
        job = Job(
            world.ids.past_guid(),
            next(world.sequence),
            "Backup",
            item.database,
            item.name,
            start,
            end,
            world.ids.past_guid(),
            user_triggered=False,
            named=item.job_name,
            task="Transfer data to vault",
            shown_at_end=f"Backup ({kind})",
            cancellable=True,
            status="Completed",
            end=end,
            property_bag=item.transferred(kind),
        )
        item.container.vault.jobs[job.id] = job
