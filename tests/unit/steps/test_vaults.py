"""The vault that a request names: what it protects, whether a guard holds its restores, and which vaults there are."""

from __future__ import annotations

import pytest

from shared.arm.errors import ArmStatusError
from shared.azure_backup.listings import Listing, Unusable
from shared.azure_backup.models import ResourceGuardProxy, Vault
from shared.engine.result import Failure
from shared.messages.requests import Operation
from shared.steps.payloads import Plan
from shared.steps.vaults import protected_items, recent_items, restores_guarded, vault_not_found
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.engine.test_retry import answered
from tests.unit.examples import SUBSCRIPTION, VAULT, protected
from tests.unit.steps.calling import collaborators, message_to

HERE = Vault(id=VAULT, name="vault1")
RESTORE = (
    "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"
    "/recoveryPoints/restore/action"
)


def test_a_vault_that_is_not_there_is_named_with_all_that_are() -> None:
    odd = Unusable(code="NotReadable", why="cannot be read", name="odd")
    azure = FakeAzureBackup(vaults=[HERE], unusable={"list_vaults": [odd]})
    failure = vault_not_found(collaborators(azure), VAULT)
    assert failure.code == "VaultNotFound"
    assert failure.message.endswith(f"subscription {SUBSCRIPTION} has: {VAULT.path}, odd.")


def listed(status: int, *vaults: Vault) -> Listing[object] | Failure:
    azure = FakeAzureBackup(vaults=vaults, protected_items=[protected("orders")])
    if status != 200:
        azure.calls.errors["list_protected_items"] = answered(status, "GET")
    return protected_items(collaborators(azure), VAULT)  # type: ignore[return-value]  # of any items


def test_what_a_vault_protects_is_listed() -> None:
    assert listed(200) == Listing([protected("orders")], [])


def test_a_vault_is_not_there_where_neither_its_items_nor_it_are_found() -> None:
    missing = listed(404)
    assert isinstance(missing, Failure)
    assert missing.code == "VaultNotFound"
    # A 404 of a vault that is there is no answer, and neither is any other error.
    for status, vaults in ((404, [HERE]), (503, [])):
        with pytest.raises(ArmStatusError):
            listed(status, *vaults)


@pytest.mark.parametrize(("used", "shared"), [(False, False), (True, True)])
def test_an_older_listing_serves_once_the_budget_is_half_used(used: bool, shared: bool) -> None:
    azure = FakeAzureBackup(protected_items=[protected("orders")])
    c = collaborators(azure)
    message = message_to("select_items", Plan(), Operation.BACKUP)
    recent_items(message, c, VAULT, enough=lambda _known: True)
    later = message.model_copy(update={"since": message.since.replace(minute=1)})
    c = collaborators(azure, now=later.since, reads=not used, items=c.items)
    recent_items(later, c, VAULT, enough=lambda known: len(known.usable) == 1)
    assert (len(azure.calls) == 1) is shared
    recent_items(later, c, VAULT, enough=lambda known: len(known.usable) == 2)
    assert len(azure.calls) == 2


def guarded(*operations: str) -> ResourceGuardProxy:
    return ResourceGuardProxy(resource_guard_id="/guards/g1", operations=operations)


def test_a_guard_of_restores_refuses_a_restore() -> None:
    failure = restores_guarded(collaborators(FakeAzureBackup(resource_guard=guarded("x", RESTORE))), VAULT)
    assert failure is not None
    assert failure.code == "ProtectedByResourceGuard"
    assert "/guards/g1" in failure.message
    for guard in (None, guarded("x")):
        assert restores_guarded(collaborators(FakeAzureBackup(resource_guard=guard)), VAULT) is None


@pytest.mark.parametrize(("status", "decides"), [(400, True), (403, True), (404, True), (503, False)])
def test_where_the_guard_cannot_be_read_the_service_decides(status: int, decides: bool) -> None:
    azure = FakeAzureBackup(resource_guard=guarded(RESTORE))
    azure.calls.errors["get_resource_guard"] = answered(status, "GET")
    if decides:
        assert restores_guarded(collaborators(azure), VAULT) is None
    else:
        with pytest.raises(ArmStatusError):
            restores_guarded(collaborators(azure), VAULT)
