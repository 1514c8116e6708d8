"""Why a database that a request names is not there, and what there is."""

from __future__ import annotations

from typing import Any

import pytest

from shared.azure_backup.listings import Listing
from shared.azure_backup.models import ErrorDetail
from shared.messages.identity import Database
from shared.messages.requests import DatabaseSelector
from shared.steps.candidates import candidates
from shared.steps.missing_databases import (
    Trouble,
    machines_instead,
    missing,
    parent_troubles,
    protected_as_a_whole,
)
from tests.unit.examples import VM, protectable, protected
from tests.unit.steps.test_candidates import OTHER_VM, of_group, unusable, whole

KNOWN = candidates(Listing([protected("b"), protected("a"), of_group("c")], []), vm_id=None)
NAMES = "ag1/c, MSSQLSERVER/a, MSSQLSERVER/b"


def selector(**fields: str) -> DatabaseSelector:
    return DatabaseSelector.model_validate({"instance": "MSSQLSERVER", "database": "x", **fields})


#: the name that is asked for, what else is known, the whole message
MESSAGES: list[tuple[str, dict[str, Any], str]] = [
    ("x", {"vm_id": None}, f"there is no database MSSQLSERVER/x; there are: {NAMES}."),
    ("x*", {"vm_id": None}, f"no database matches MSSQLSERVER/x*; there are: {NAMES}."),
    ("x", {"vm_id": VM}, f"there is no database MSSQLSERVER/x on {VM.path}; there are: {NAMES}."),
    ("x", {"vm_id": None, "why": "So."}, f"there is no database MSSQLSERVER/x; there are: {NAMES}. So."),
    (
        "x",
        {"vm_id": None, "protected_only": True},
        f"the vault protects no database MSSQLSERVER/x; it protects: {NAMES}.",
    ),
    (
        "x*",
        {"vm_id": VM, "protected_only": True},
        f"no protected database matches MSSQLSERVER/x* on {VM.path}; it protects there: {NAMES}.",
    ),
]


@pytest.mark.parametrize(("name", "known", "text"), MESSAGES)
def test_what_is_missing_is_told_with_what_there_is(name: str, known: dict[str, Any], text: str) -> None:
    database, failure = missing(selector(database=name), KNOWN, **known)
    assert (failure.code, failure.message) == ("DatabaseNotFound", text)
    assert database == Database(vm_id=known["vm_id"], instance="MSSQLSERVER", name=name)


def test_a_database_of_a_group_is_on_no_vm() -> None:
    asked = DatabaseSelector.model_validate({"availabilityGroup": "ag1", "database": "x"})
    database, _ = missing(asked, KNOWN, vm_id=VM)
    assert database == Database(availability_group="ag1", name="x")


def test_the_parts_of_a_name_that_are_mixed_up_are_put_right() -> None:
    asked = selector(instance="sqlvm1", database="MSSQLSERVER/A")
    _, failure = missing(asked, KNOWN, vm_id=None, why="So.")
    assert failure.message.endswith(
        "If sqlvm1 is a VM, give it as vmId, and MSSQLSERVER/A as instance and database."
    )


TROUBLE = Trouble("UserErrorNoLogin", "The inquiry failed.")
OF_GROUP = Trouble("UserErrorGroup", "The group is basic.", is_group=True)
OF_INSTANCE = Trouble("UserErrorInstance", "The instance has no rights.")


def test_a_trouble_says_why_and_is_the_error_where_nothing_of_the_instance_is_known() -> None:
    _, failure = missing(selector(), KNOWN, vm_id=None, why="So.", trouble=TROUBLE)
    assert (failure.code, failure.message) == (
        "DatabaseNotFound",
        f"there is no database MSSQLSERVER/x; there are: {NAMES}. The inquiry failed.",
    )
    _, failure = missing(selector(instance="SQL2019"), KNOWN, vm_id=None, trouble=TROUBLE)
    assert failure.code == "UserErrorNoLogin"


def test_the_trouble_of_the_instance_itself_counts_before_that_of_the_vm() -> None:
    parents = {"MSSQLSERVER": OF_GROUP, "mssqlserver": OF_INSTANCE}
    _, failure = missing(selector(), [], vm_id=None, trouble=TROUBLE, parents=parents)
    assert failure.code == "UserErrorInstance"
    _, failure = missing(selector(instance="SQL2019"), [], vm_id=None, trouble=TROUBLE, parents=parents)
    assert failure.code == "UserErrorNoLogin"


def test_an_instance_that_is_protected_as_a_whole_is_the_reason() -> None:
    known = candidates(Listing([protected("a", instance="B")], [whole()]), vm_id=None)
    database, failure = missing(selector(), known, vm_id=None)
    assert failure.code == "ProtectedAsInstance"
    assert failure.message == f"{database} cannot be addressed."
    beside = candidates(Listing([protected("a")], [whole()]), vm_id=None)
    assert missing(selector(), beside, vm_id=None)[1].code == "DatabaseNotFound"
    assert protected_as_a_whole([]) is None
    odd = candidates(Listing([], [whole(), unusable("odd")]), vm_id=None)
    assert protected_as_a_whole(odd) is None


def test_what_is_wrong_with_an_instance_or_a_group_is_told_by_its_name() -> None:
    error = ErrorDetail(code="UserErrorNoRight", message="No right.")
    short = ErrorDetail(code="UserErrorNoRight")
    items = [
        protectable("A", item_type="SQLInstance", prebackup_validation=error),
        protectable("B", item_type="SQLAvailabilityGroupContainer", prebackup_validation=short),
        protectable("C", item_type="SQLInstance"),
        protectable("D", prebackup_validation=error),
    ]
    assert parent_troubles(items) == {
        "A": Trouble(
            "UserErrorNoRight", "The service does not back up the instance A: UserErrorNoRight: No right."
        ),
        "B": Trouble(
            "UserErrorNoRight",
            "The service does not back up the availability group B: UserErrorNoRight",
            is_group=True,
        ),
    }


def test_the_vms_that_a_vault_protects_are_named_where_none_is_the_one_that_is_asked_for() -> None:
    listing = Listing(
        [protected("a"), protected("b", virtual_machine_id=None)],
        [unusable("odd", virtual_machine_id=OTHER_VM), unusable("c", virtual_machine_id=None)],
    )
    for vm_id in (None, VM, OTHER_VM):
        assert machines_instead(listing, vm_id) == ""
    third = type(VM)(VM.subscription_id, VM.resource_group, "sqlvm3")
    assert machines_instead(listing, third) == (
        f"The vault protects databases on these VMs: {VM}, {OTHER_VM}."
    )
