"""The databases of a vault's listings: each once, as it lives, and only those of the VM that is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.arm.ids import ContainerId, VirtualMachineId
from shared.azure_backup.listings import Listing, Unusable
from shared.azure_backup.models import Container, ProtectableItem, ProtectedItem
from shared.engine.result import Failure
from shared.steps.candidates import Candidate, candidates, is_protected, registered_container
from tests.unit.examples import CONTAINER, SUBSCRIPTION, VAULT, VM, protectable, protected
from tests.unit.steps.choices import DELETED, available

OTHER_VM = VirtualMachineId(SUBSCRIPTION, "rg-sql", "sqlvm2")
OTHER = ContainerId(VAULT, "Azure", "VMAppContainer;Compute;rg-sql;sqlvm2")
GROUP = ContainerId(VAULT, "Azure", "SQLAGWorkLoadContainer;vm;group;ag1")


def unusable(name: str = "orders", **details: Any) -> Unusable:
    fields: dict[str, Any] = {
        "code": "NotAddressable",
        "why": "cannot be addressed",
        "name": name,
        "parent": "MSSQLSERVER",
        "virtual_machine_id": VM,
    }
    return Unusable(**{**fields, **details})


def whole(**details: Any) -> Unusable:
    """The entry for every database of an instance that is protected as a whole."""
    return unusable("*", **{"code": "ProtectedAsInstance", "is_whole_instance": True, **details})


def of_group(name: str, **details: Any) -> ProtectedItem:
    """A protected database of an availability group."""
    fields = {"instance": "ag1", "parent_type": "AzureVmWorkloadSQLAvailabilityGroup", **details}
    return protected(name, **fields)


def in_group(item: ProtectableItem) -> ProtectableItem:
    path = f"{GROUP.path}/protectableItems/{item.wire_name}"
    return item.model_copy(update={"id": path, "instance": "ag1"})


def listed(
    protected_items: Sequence[ProtectedItem | Unusable] = (),
    offered: Sequence[ProtectableItem | Unusable] = (),
    *,
    vm_id: VirtualMachineId | None = VM,
    container: ContainerId | None = CONTAINER,
) -> list[Candidate]:
    return candidates(
        Listing(
            [item for item in protected_items if isinstance(item, ProtectedItem)],
            [item for item in protected_items if isinstance(item, Unusable)],
        ),
        Listing(
            [item for item in offered if isinstance(item, ProtectableItem)],
            [item for item in offered if isinstance(item, Unusable)],
        ),
        vm_id=vm_id,
        container=container,
    )


def shown(found: Sequence[Candidate]) -> list[tuple[str, str]]:
    """Each candidate: its place and name, and what is known of it."""
    return [
        (
            str(candidate.database),
            candidate.unusable.code
            if candidate.unusable is not None
            else ("protected" if candidate.protected is not None else "")
            + ("offered" if candidate.protectable is not None else ""),
        )
        for candidate in found
    ]


ORDERS = "MSSQLSERVER/orders"
#: what is listed as protected, what is offered, which candidates that gives
LISTINGS: dict[
    str,
    tuple[list[ProtectedItem | Unusable], list[ProtectableItem | Unusable], list[tuple[str, str]]],
] = {
    "protected and offered": ([protected("orders")], [protectable("orders")], [(ORDERS, "protected")]),
    "soft-deleted and offered": (
        [protected("orders", **DELETED)],
        [protectable("orders")],
        [(ORDERS, "protectedoffered")],
    ),
    "of names that differ in case, both": (
        [protected("orders"), protected("Orders")],
        [],
        [(ORDERS, "protected"), ("MSSQLSERVER/Orders", "protected")],
    ),
    "offered instances are no databases": ([], [protectable("X", item_type="SQLInstance")], []),
    "of another VM": (
        [protected("orders", virtual_machine_id=OTHER_VM)],
        [protectable("orders", id=f"{OTHER.path}/protectableItems/SQLDataBase;mssqlserver;orders")],
        [],
    ),
    "of a group": (
        [
            protected(
                "a",
                virtual_machine_id=OTHER_VM,
                instance="ag1",
                parent_type="AzureVmWorkloadSQLAvailabilityGroup",
            )
        ],
        [in_group(protectable("b"))],
        [("ag1/a", "protected"), ("ag1/b", "offered")],
    ),
    "not usable": ([unusable()], [protectable("orders")], [(ORDERS, "NotAddressable")]),
    "not usable twice, or beside one that is": (
        [protected("orders"), unusable(), unusable("billing")],
        [unusable("billing", code="NotReadable"), unusable("stock", code="NotReadable")],
        [
            (ORDERS, "protected"),
            ("MSSQLSERVER/billing", "NotAddressable"),
            ("MSSQLSERVER/stock", "NotReadable"),
        ],
    ),
    "not usable of another VM": (
        [unusable(virtual_machine_id=OTHER_VM), unusable(virtual_machine_id=None, container=OTHER)],
        [unusable(container=OTHER), unusable(is_database=False, container=CONTAINER)],
        [],
    ),
    "not usable of a group": (
        [unusable("a", virtual_machine_id=OTHER_VM, in_availability_group=True, parent="ag1")],
        [unusable("b", container=GROUP, in_availability_group=True, parent="ag1")],
        [("ag1/a", "NotAddressable"), ("ag1/b", "NotAddressable")],
    ),
    "not usable, on a VM that is not told": (
        [unusable("a", virtual_machine_id=None), unusable("b", virtual_machine_id=None, container=CONTAINER)],
        [unusable("c", container=None), unusable("d", container=CONTAINER)],
        [(f"MSSQLSERVER/{name}", "NotAddressable") for name in "abcd"],
    ),
    "an instance as a whole": ([whole()], [], [("MSSQLSERVER/*", "ProtectedAsInstance")]),
    "an instance as a whole, and one of its databases": (
        [whole(), protected("orders")],
        [protectable("billing"), protectable("stock", instance="SQL2019"), unusable("odd")],
        [
            (ORDERS, "protected"),
            ("MSSQLSERVER/billing", "ProtectedAsInstance"),
            ("SQL2019/stock", "offered"),
            ("MSSQLSERVER/odd", "NotAddressable"),
        ],
    ),
    "an instance as a whole, of another VM": (
        [whole(virtual_machine_id=OTHER_VM)],
        [protectable("orders")],
        [(ORDERS, "offered")],
    ),
}


@pytest.mark.parametrize(("items", "offered", "found"), LISTINGS.values(), ids=LISTINGS)
def test_each_database_is_there_once(
    items: list[ProtectedItem | Unusable],
    offered: list[ProtectableItem | Unusable],
    found: list[tuple[str, str]],
) -> None:
    assert shown(listed(items, offered)) == found


def test_without_a_vm_every_vm_counts_and_is_told() -> None:
    items: list[ProtectedItem | Unusable] = [
        protected("orders"),
        protected("orders", virtual_machine_id=OTHER_VM),
        unusable("odd", virtual_machine_id=OTHER_VM),
        whole(virtual_machine_id=OTHER_VM, parent="SQL2019"),
    ]
    found = listed(items, vm_id=None, container=None)
    assert [(candidate.database.vm_id, candidate.database.name) for candidate in found] == [
        (VM, "orders"),
        (OTHER_VM, "orders"),
        (OTHER_VM, "odd"),
        (OTHER_VM, "*"),
    ]
    # One that is asked for is spelled as the request spells it.
    spelled = VirtualMachineId(SUBSCRIPTION, "RG-SQL", "SQLVM1")
    for candidate in listed(
        [protected("orders"), whole(parent="A")], [unusable("odd", container=None)], vm_id=spelled
    ):
        assert candidate.database.vm_id is not None
        assert candidate.database.vm_id.name == "SQLVM1"


def test_a_candidate_says_what_it_is() -> None:
    (stored,) = listed([protected("MASTER", server_name="host1")])
    assert (stored.server_name, stored.is_system, stored.cannot) == ("host1", True, None)
    (offered,) = listed([], [protectable("orders", server_name="host2")])
    assert (offered.server_name, offered.is_system) == ("host2", False)
    (odd,) = listed([unusable()])
    assert odd.server_name == ""
    assert odd.cannot is not None
    assert (odd.cannot.code, odd.cannot.message) == (
        "NotAddressable",
        "MSSQLSERVER/orders cannot be addressed.",
    )


def test_a_database_deleted_and_protected_anew_counts_as_it_lives() -> None:
    for items in ((protected("orders", **DELETED), protected("orders")), (protected("orders"),)):
        (found,) = available(*items)
        assert found.protected is not None
        assert not found.protected.is_scheduled_for_deferred_delete
    (found,) = available(protected("orders"), protected("orders", **DELETED))
    assert found.protected == protected("orders")


@pytest.mark.parametrize(
    ("details", "goes_on"),
    [
        ({}, True),
        ({"protection_state": "IRPending"}, True),
        ({"protection_state": "ProtectionStopped"}, False),
        ({"protection_state": "BackupsSuspended"}, False),
        ({"is_scheduled_for_deferred_delete": True}, False),
    ],
)
def test_a_database_is_protected_while_its_backups_go_on(details: dict[str, Any], goes_on: bool) -> None:
    assert is_protected(protected("orders", **details)) is goes_on


#: an entry for a container, the VM that is asked for, whether the VM is registered so
CONTAINERS: list[tuple[Unusable, VirtualMachineId, bool]] = [
    (unusable("sqlvm1"), VM, True),
    (unusable("sqlvm1"), OTHER_VM, False),
    (unusable("sqlvm1", virtual_machine_id=None, container=CONTAINER), VM, True),
    (unusable("sqlvm1", virtual_machine_id=None, container=CONTAINER), OTHER_VM, False),
    # in another group of resources
    (
        unusable(virtual_machine_id=None, container=CONTAINER),
        VirtualMachineId(SUBSCRIPTION, "rg-other", "sqlvm1"),
        False,
    ),
    # an entry that tells no VM is nobody's
    (unusable("sqlvm1", virtual_machine_id=None), VM, False),
]


@pytest.mark.parametrize(("entry", "vm_id", "registered"), CONTAINERS)
def test_a_container_that_cannot_be_used_is_that_of_its_vm(
    entry: Unusable, vm_id: VirtualMachineId, registered: bool
) -> None:
    found = registered_container(Listing([], [unusable("x", virtual_machine_id=None), entry]), vm_id)
    assert isinstance(found, Failure) is registered
    if isinstance(found, Failure):
        assert found.code == "NotAddressable"
        assert "is registered as sqlvm1, which cannot be addressed." in found.message


def test_a_container_that_can_be_used_comes_first() -> None:
    own, other = (
        Container(id=container, name=container.name, virtual_machine_id=vm_id)
        for container, vm_id in ((CONTAINER, VM), (OTHER, OTHER_VM))
    )
    assert registered_container(Listing([other, own], [unusable("sqlvm1")]), VM) == own
    assert registered_container(Listing([other], []), VM) is None
