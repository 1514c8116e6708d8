"""Whose job it is, as far as a job says."""

from __future__ import annotations

from typing import Any

import pytest

from shared.engine import job_matching
from shared.messages.identity import Database
from tests.unit.examples import VM, job

ENTITIES: dict[str, bool] = {
    "orders": True,
    "ORDERS [SQLVM1]": True,
    "orders [sqlvm1.contoso.com]": True,
    "MSSQLSERVER/orders [sqlvm1.contoso.com]": True,
    "mssqlserver/orders": True,
    "SQL2019/orders [sqlvm1]": False,
    "orders [sqlvm2.contoso.com]": False,
    "orders [old] [sqlvm1]": False,
    "orders [old]": False,
    "xorders [sqlvm1]": False,
}


@pytest.mark.parametrize(("entity", "about"), ENTITIES.items(), ids=ENTITIES)
@pytest.mark.parametrize("server", ["sqlvm1", "sqlvm1.contoso.com"])
def test_a_job_is_about_the_database_as_far_as_it_says(entity: str, about: bool, server: str) -> None:
    database = Database(vm_id=VM, instance="MSSQLSERVER", name="orders")
    assert job_matching.names(entity, database, server) is about


def test_two_full_host_names_are_those_of_one_machine_only_where_they_are_equal() -> None:
    database = Database(vm_id=VM, instance="MSSQLSERVER", name="orders")
    assert not job_matching.names("orders [sqlvm1.contoso.com]", database, "sqlvm1.fabrikam.com")


def test_a_host_name_that_windows_has_cut_is_that_of_its_machine() -> None:
    database = Database(vm_id=VM, instance="MSSQLSERVER", name="orders")
    assert job_matching.names("orders [sql-production-]", database, "sql-production-west")
    assert job_matching.names("orders [sql-production-west]", database, "sql-production-")
    assert not job_matching.names("orders [sql-production1]", database, "sql-production2")


#: a job of which the service says this, for a backup of orders on sqlvm1: whether it must be another's
STRANGERS: dict[str, tuple[dict[str, Any], bool]] = {
    "its own": ({}, False),
    "no kind": ({"operation": "Backup"}, False),
    "nothing named": ({"entity_name": ""}, False),
    "another operation": ({"operation": "Restore"}, True),
    "an operation that is not known": ({"operation": "Inquiry"}, False),
    "another database": ({"entity_name": "billing [sqlvm1]"}, True),
    "another server": ({"entity_name": "orders [sqlvm2]"}, True),
}


@pytest.mark.parametrize(("changes", "strange"), STRANGERS.values(), ids=STRANGERS)
def test_a_job_is_anothers_as_far_as_it_says(changes: dict[str, Any], strange: bool) -> None:
    database = Database(vm_id=VM, instance="MSSQLSERVER", name="orders")
    assert job_matching.is_of_another(job(**changes), "Backup", database=database, server="sqlvm1") is strange


def test_the_server_is_not_compared_where_jobs_may_name_another_one() -> None:
    alone = Database(vm_id=VM, instance="MSSQLSERVER", name="orders")
    shared = Database(vm_id=VM, name="orders", availability_group="ag1")
    restore = job(operation="Restore", entity_name="orders [sqlvm2]")
    assert not job_matching.is_of_another(restore, "Restore", database=alone, server="sqlvm1")
    backup = job(entity_name="ag1/orders [sqlvm2]")
    assert not job_matching.is_of_another(backup, "Backup", database=shared, server="sqlvm1")
