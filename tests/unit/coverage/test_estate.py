"""Several vaults together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.arm.ids import VaultId, VirtualMachineId
from shared.azure_backup.listings import Listing, Unusable
from shared.coverage.estate import together, unregistered
from shared.coverage.states import VaultCoverage
from tests.unit.coverage.estate import FAILED_LAST, item, surveyed
from tests.unit.examples import SUBSCRIPTION, VM, protectable

OTHER = VaultId(SUBSCRIPTION, "rg-backup", "vault2")
STOPPED: dict[str, Any] = {"protection_state": "ProtectionStopped", "policy_name": None}


def in_other(coverage: VaultCoverage) -> VaultCoverage:
    databases = tuple(replace(one, vault_id=OTHER) for one in coverage.databases)
    return replace(coverage, vault_id=OTHER, databases=databases)


def test_what_another_vault_backs_up_by_now_is_told_once() -> None:
    old, new = surveyed(item(**STOPPED)), in_other(surveyed(item()))
    (found,) = together([old, new])
    assert found.vault_id == OTHER
    assert found.state == "covered"
    assert found.message == "Older backups of it are in vault1."


def test_what_another_vault_could_protect_is_no_gap_where_it_is_protected() -> None:
    (found,) = together([surveyed(protectable("orders")), in_other(surveyed(item(**FAILED_LAST)))])
    assert found.state == "failing"
    assert "Older backups" not in found.message


def test_what_is_stopped_everywhere_is_told_everywhere() -> None:
    assert len(together([surveyed(item(**STOPPED)), in_other(surveyed(item(**STOPPED)))])) == 2


def test_vaults_are_sorted_into_one_list() -> None:
    found = together([surveyed(item("a")), in_other(surveyed(item("b", **FAILED_LAST)))])
    assert [one.database.name for one in found] == ["b", "a"]


def machine(name: str) -> VirtualMachineId:
    return VirtualMachineId(SUBSCRIPTION, "RG-SQL", name)


def test_a_vm_that_no_vault_knows_is_a_gap() -> None:
    listed = Listing([machine("SQLVM1"), machine("lonely")], [])
    (found,) = unregistered(listed, [surveyed(item())], vaults_unread=False)
    assert (found.state, found.code, found.database.vm_id) == (
        "unprotected",
        "NotRegistered",
        machine("lonely"),
    )
    assert found.vault_id is None
    assert VM not in {one.database.vm_id for one in unregistered(listed, [surveyed()], vaults_unread=False)}


def test_a_vm_that_an_unread_vault_may_know_is_unknown() -> None:
    (found,) = unregistered(Listing([machine("lonely")], []), [], vaults_unread=True)
    assert (found.state, found.is_gap) == ("unknown", False)
    assert "that could be read" in found.message


def test_a_vm_whose_id_is_none_is_not_passed_over() -> None:
    odd = Unusable(code="NotAddressable", why="cannot be addressed: it is empty", name="odd")
    (found,) = unregistered(Listing([], [odd]), [], vaults_unread=False)
    assert (found.state, found.server_name) == ("unknown", "odd")


def test_a_vm_whose_registration_cannot_be_read_is_registered() -> None:
    odd = Unusable(code="NotReadable", why="cannot be read", name="sqlvm1", virtual_machine_id=VM)
    known = surveyed(containers=[], unusable_containers=[odd])
    assert not unregistered(Listing([VM], []), [known], vaults_unread=False)
