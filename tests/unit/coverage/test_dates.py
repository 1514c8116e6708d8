"""Since when a gap has been open, by the jobs that changed protection, which name a database alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shared.azure_backup.models import Job, JobStatus
from shared.coverage.dates import Dated, dated
from tests.unit.coverage.estate import NOW, item, surveyed

PENDING: dict[str, Any] = {"last_backup_status": "IRPending", "last_backup_time": None}


def job(name: str, *, ago: int, container: str = "", operation: str = "ConfigureBackup", **more: Any) -> Job:
    fields: dict[str, Any] = {
        "id": f"{name}-{ago}",
        "entity_name": name,
        "operation": operation,
        "status": JobStatus.COMPLETED,
        "start_time": NOW - timedelta(hours=ago),
        "properties": {"ContainerUniqueName": container} if container else {},
    }
    return Job(**{**fields, **more})


def of(*items: Any, jobs: list[Job], most_reads: int = 10) -> Dated:
    by_id = {one.id: one for one in jobs}
    return dated(surveyed(*items).databases, jobs, read=by_id.get, most_reads=most_reads)


def test_a_name_that_is_one_databases_needs_no_read() -> None:
    found = of(item("orders", **PENDING), jobs=[job("orders", ago=5), job("orders", ago=50)], most_reads=0)
    assert [one.since for one in found.databases] == [NOW - timedelta(hours=5)]
    assert not found.doubtful


def test_a_failed_job_and_another_operation_tell_nothing() -> None:
    jobs = [job("orders", ago=5, status=JobStatus.FAILED), job("orders", ago=6, operation="DisableBackup")]
    found = of(item("orders", **PENDING), jobs=jobs)
    assert [one.since for one in found.databases] == [None]
    assert not found.doubtful


def test_of_namesakes_the_job_that_names_the_container_counts() -> None:
    items = [item("orders", **PENDING), item("orders", instance="SQL2", **PENDING)]
    on_one_vm = of(*items, jobs=[job("orders", ago=5, container="Compute;rg-sql;sqlvm1")])
    # On one VM the container does not tell them apart.
    assert {one.since for one in on_one_vm.databases} == {None}
    assert len(on_one_vm.doubtful) == 2
