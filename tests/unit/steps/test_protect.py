"""From a protect request to its databases: the vault, the policy, the VM, what is on it, and what comes of each."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from shared.azure_backup import bodies
from shared.azure_backup.listings import Unusable
from shared.azure_backup.models import (
    Container,
    ErrorDetail,
    Inquiry,
    Policy,
    ProtectableContainer,
    ProtectedItem,
    Vault,
)
from shared.engine.message import StepMessage
from shared.engine.result import Call, Continue, Later, Result
from shared.messages.requests import Operation, ProtectData
from shared.settings import Settings
from shared.steps import protect
from shared.steps.payloads import ProtectPlan, ProtectTask
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import CONTAINER, NOW, SUBSCRIPTION, VAULT, VM, item_id, protectable, protected
from tests.unit.steps.calling import (
    certain_failures,
    collaborators,
    following,
    made,
    message_to,
    refused,
    text_of,
)

HOUR = timedelta(hours=1)
S = timedelta(seconds=1)
OTHER_VM = VM.path.replace("rg-sql", "rg-other")
GROUP = [{"availabilityGroup": "ag1", "database": "new"}]
CREATE_POLICY = {"full": {"time": "02:00", "retentionDays": 30}}


def plan(*databases: str, known: dict[str, Any] | None = None, **data: Any) -> ProtectPlan:
    """What the messages up to the databases carry; `known`: what earlier steps have found out."""
    fields: dict[str, Any] = {
        "vaultId": VAULT.path,
        "vmId": VM.path,
        "policyName": "Daily",
        "databases": [{"instance": "MSSQLSERVER", "database": name} for name in databases or ("orders",)],
        **data,
    }
    wanted = {name: value for name, value in fields.items() if value is not None}
    return ProtectPlan(data=ProtectData.model_validate(wanted), **(known or {}))


def to(step: str, payload: ProtectPlan, **changes: Any) -> StepMessage[ProtectPlan]:
    return message_to(step, payload, Operation.PROTECT, **changes)


def vault(**details: Any) -> Vault:
    return Vault(**{"id": VAULT, "name": "vault1", **details})


def policy(name: str = "Daily", **details: Any) -> Policy:
    fields = {"backup_management_type": "AzureWorkload", "workload_type": "SQLDataBase", **details}
    return Policy(id=f"{VAULT.path}/backupPolicies/{name}", name=name, **fields)


def container(**details: Any) -> Container:
    fields = {"id": CONTAINER, "name": CONTAINER.name, "virtual_machine_id": VM, "last_updated": NOW}
    return Container(**{**fields, **details})


UNUSABLE_VM = Unusable(code="NotAddressable", why="cannot be addressed", name="sqlvm1", virtual_machine_id=VM)

# -- ensure_vault


def ensured(azure: FakeAzureBackup, *, waited: timedelta = timedelta(), **data: Any) -> Result:
    message = to("ensure_vault", plan(**data), since=NOW - waited)
    return protect.ensure_vault(message, collaborators(azure, settings=Settings(operation_timeout=HOUR)))


@pytest.mark.parametrize("state", ["", "Succeeded"])
def test_a_vault_that_is_there_is_used(state: str) -> None:
    step, payload = following(ensured(FakeAzureBackup(vaults=[vault(provisioning_state=state)])))
    assert (step, payload) == ("select_policy", plan())


def test_a_vault_that_is_not_there_is_named_with_those_that_are() -> None:
    other = Vault(id=VAULT.path.replace("vault1", "vault2"), name="vault2")
    end = ensured(FakeAzureBackup(vaults=[other]))
    assert refused(end) == ("failed", "VaultNotFound")
    assert other.id.path in text_of(end)


def test_a_vault_is_created_as_the_request_says() -> None:
    azure = FakeAzureBackup()
    wanted = {"location": "westeurope", "redundancy": "LocallyRedundant", "tags": {"team": "db"}}
    call = ensured(azure, createVault=wanted)
    assert made(azure, call)[:2] == ("create_vault", {"vault": VAULT, **wanted})
    assert isinstance(call, Call)
    assert call.at_once is not None
    # The answer may be the vault itself, ready or not yet.
    assert following(call.at_once(vault()))[0] == "select_policy"
    assert call.at_once(vault(provisioning_state="Creating")) == Later(30 * S)


@pytest.mark.parametrize("state", ["Failed", "Canceled"])
def test_a_vault_that_could_not_be_made_is_not_waited_for(state: str) -> None:
    end = ensured(FakeAzureBackup(vaults=[vault(provisioning_state=state)]))
    assert refused(end) == ("failed", "VaultNotProvisioned")
    assert f"state {state}" in text_of(end)


def test_a_vault_that_is_being_made_is_waited_for_as_long_as_an_operation_may_take() -> None:
    azure = FakeAzureBackup(vaults=[vault(provisioning_state="Creating")])
    assert ensured(azure, waited=HOUR) == Later(30 * S)
    assert refused(ensured(azure, waited=HOUR + S)) == ("timedOut", "VaultNotProvisioned")


# -- select_policy


def selected(azure: FakeAzureBackup, **data: Any) -> Result:
    return protect.select_policy(to("select_policy", plan(**data)), collaborators(azure))


@pytest.mark.parametrize(
    ("data", "step"),
    [({}, "refresh_containers"), ({"vmId": None, "databases": GROUP}, "select_databases")],
    ids=["a VM", "none"],
)
def test_a_policy_is_selected_by_its_name(data: dict[str, Any], step: str) -> None:
    azure = FakeAzureBackup(policies=[policy("Weekly"), policy("daily")])
    onward, payload = following(selected(azure, **data))
    assert (onward, payload.policy_id, payload.policy_name) == (step, policy("daily").id, "daily")


def test_a_policy_that_is_not_there_is_named_with_those_that_can_protect() -> None:
    unreadable = policy("Odd", unreadable="no schedule")
    end = selected(FakeAzureBackup(policies=[policy("Weekly"), unreadable]))
    assert refused(end) == ("failed", "PolicyNotFound")
    assert text_of(end) == "vault vault1 has no SQL policy Daily; it has: Weekly."


def test_a_policy_that_snapshots_is_not_used() -> None:
    end = selected(FakeAzureBackup(policies=[policy(policy_type="SnapshotV2")]))
    assert refused(end) == ("failed", "PolicyNotSupported")


def test_of_policies_that_differ_in_case_one_has_to_be_named_exactly() -> None:
    azure = FakeAzureBackup(policies=[policy("DAILY"), policy("daily")])
    assert refused(selected(azure)) == ("failed", "AmbiguousPolicy")
    azure = FakeAzureBackup(policies=[policy("DAILY"), policy("Daily")])
    assert following(selected(azure))[1].policy_name == "Daily"


def test_a_policy_is_created_as_the_request_says() -> None:
    azure = FakeAzureBackup()
    call = selected(azure, createPolicy=CREATE_POLICY)
    name, arguments, _ = made(azure, call)
    wanted = plan(createPolicy=CREATE_POLICY).data.create_policy
    assert wanted is not None
    properties = bodies.policy(wanted, date(2026, 1, 5))
    assert (name, arguments) == (
        "create_policy",
        {"vault": VAULT, "name": "Daily", "properties": properties},
    )
    assert isinstance(call, Call)
    assert call.at_once is not None
    step, payload = following(call.at_once(policy()))
    assert (step, payload.policy_id) == ("refresh_containers", policy().id)


def test_a_name_that_no_new_policy_can_have_is_refused() -> None:
    end = selected(FakeAzureBackup(), createPolicy=CREATE_POLICY, policyName="a")
    assert refused(end) == ("rejected", "InvalidPolicyName")


# -- refresh_containers, register_container and inquire_container


def refreshed(azure: FakeAzureBackup, *databases: str, **data: Any) -> Result:
    return protect.refresh_containers(
        to("refresh_containers", plan(*databases, **data)), collaborators(azure)
    )


def registered(azure: FakeAzureBackup, *databases: str) -> Result:
    return protect.register_container(to("register_container", plan(*databases)), collaborators(azure))


#: of a VM that is registered: the databases, when it was registered, the step that follows
INQUIRIES: list[tuple[tuple[str, ...], timedelta | None, str]] = [
    # what is named may be known already
    (("orders",), None, "select_databases"),
    # a pattern may mean what was created since
    (("orders", "sales*"), 4 * HOUR + S, "inquire_container"),
    (("orders", "sales*"), None, "inquire_container"),
    (("sales*",), 4 * HOUR, "select_databases"),
]


@pytest.mark.parametrize(("databases", "age", "step"), INQUIRIES)
@pytest.mark.parametrize("look", [refreshed, registered])
def test_a_vm_that_is_registered_is_inquired_for_a_pattern_alone(
    look: Any, databases: tuple[str, ...], age: timedelta | None, step: str
) -> None:
    elsewhere = container(
        id=CONTAINER.path.replace("rg-sql", "rg-other"), name="other", virtual_machine_id=OTHER_VM
    )
    known = container(last_updated=NOW - age if age is not None else None)
    onward, payload = following(look(FakeAzureBackup(containers=[elsewhere, known]), *databases))
    assert (onward, payload.container_id) == (step, CONTAINER.path)


@pytest.mark.parametrize("look", [refreshed, registered])
def test_a_vm_that_cannot_be_used_ends_the_request(look: Any) -> None:
    deleted = FakeAzureBackup(containers=[container(health_status="Deleted")])
    assert refused(look(deleted)) == ("failed", "VirtualMachineDeleted")
    unusable = FakeAzureBackup(unusable={"list_registered_containers": [UNUSABLE_VM]})
    assert refused(look(unusable)) == ("failed", "NotAddressable")
    elsewhere = UNUSABLE_VM.model_copy(update={"virtual_machine_id": None})
    assert isinstance(refreshed(FakeAzureBackup(unusable={"list_registered_containers": [elsewhere]})), Call)


def test_the_service_looks_for_a_vm_that_is_not_registered() -> None:
    azure = FakeAzureBackup()
    assert made(azure, refreshed(azure))[:2] == ("refresh_containers", {"vault": VAULT})


def test_a_vm_is_registered_as_the_service_offers_it() -> None:
    offered = ProtectableContainer(name=CONTAINER.name, virtual_machine_id=VM)
    other = ProtectableContainer(name="VMAppContainer;Compute;rg-other;sqlvm1", virtual_machine_id=OTHER_VM)
    azure = FakeAzureBackup(protectable_containers=[other, offered], containers=[container()])
    call = registered(azure)
    assert made(azure, call)[:2] == ("register_container", {"vault": VAULT, "protectable": offered})
    assert isinstance(call, Call)
    assert call.payload == plan(known={"container_id": CONTAINER.path})


def test_a_vm_that_is_not_offered_is_named_with_those_that_are() -> None:
    other = ProtectableContainer(name="other", virtual_machine_id=OTHER_VM.replace("sqlvm1", "sqlvm2"))
    nameless = ProtectableContainer(name="classic")
    end = registered(FakeAzureBackup(protectable_containers=[other, nameless]))
    assert refused(end) == ("failed", "VirtualMachineNotFound")
    assert f"it offers: {other.virtual_machine_id}, classic. A VM" in text_of(end)
    namesake = ProtectableContainer(name="namesake", virtual_machine_id=OTHER_VM)
    end = registered(FakeAzureBackup(protectable_containers=[other, namesake, nameless]))
    assert f"it does offer of that name: {namesake.virtual_machine_id}. A VM" in text_of(end)


def test_a_vm_is_inquired_once() -> None:
    azure = FakeAzureBackup()
    asked = plan(known={"container_id": CONTAINER.path})
    call = protect.inquire_container(to("inquire_container", asked), collaborators(azure))
    assert made(azure, call)[:2] == ("inquire_container", {"container": CONTAINER})
    assert isinstance(call, Call)
    assert call.payload == plan(known={"container_id": CONTAINER.path, "inquired": True})


# -- select_databases

POLICY = {"policy_id": "policy-1", "policy_name": "Daily"}
ON_VM = {**POLICY, "container_id": CONTAINER.path}
INQUIRED = {**ON_VM, "inquired": True}


def chosen(azure: FakeAzureBackup, payload: ProtectPlan) -> Result:
    """What follows on the selection once it is fixed; or what came in its place."""
    message = to("select_databases", payload)
    result = protect.select_databases(message, collaborators(azure))
    if not isinstance(result, Continue) or result.to[0].step != "select_databases":
        return result
    fixed = result.to[0].payload
    assert isinstance(fixed, ProtectPlan)
    assert fixed.is_fixed
    # The vault is not asked again.
    return protect.select_databases(to("select_databases", fixed), collaborators(FakeAzureBackup()))


def tasks(result: Result) -> list[ProtectTask]:
    assert isinstance(result, Continue)
    assert {to.step for to in result.to} <= {"enable_protection"}
    return [to.payload for to in result.to]  # type: ignore[misc]  # as the assertion says


def failures(result: Result) -> dict[str, str]:
    """The error codes of the outcomes that are certain, by database."""
    return {name: error.code for name, error in certain_failures(result).items()}


def test_each_database_is_protected_as_it_is_found() -> None:
    stopped: dict[str, Any] = {"protection_state": "ProtectionStopped", "policy_name": None}
    azure = FakeAzureBackup(
        protected_items=[protected("billing", policy_name="Weekly"), protected("stock", **stopped)],
        protectable_items=[protectable("orders", server_name="host1")],
    )
    databases = ("orders", "billing", "stock")
    found = chosen(
        azure, plan(*databases, known=INQUIRED, onExisting="changePolicy", resume=True, firstBackup="now")
    )
    assert [(task.database.name, task.action, task.protection_state) for task in tasks(found)] == [
        ("orders", "enable", None),
        ("billing", "changePolicy", "Protected"),
        ("stock", "resume", "ProtectionStopped"),
    ]
    orders = tasks(found)[0]
    assert (orders.item_id, orders.server_name) == (item_id("orders").path, "host1")
    assert (orders.policy_id, orders.policy_name) == ("policy-1", "Daily")
    assert (orders.on_existing, orders.first_backup, orders.outcome_count) == ("changePolicy", "now", 3)


def test_only_the_databases_of_the_vm_and_of_groups_are_known() -> None:
    elsewhere = CONTAINER.path.replace("rg-sql", "rg-other")
    group = CONTAINER.path.replace("VMAppContainer;Compute;rg-sql;sqlvm1", "SQLAGWorkLoadContainer;x;y;ag1")
    names = "SQLDataBase;{};orders"
    offered = [
        protectable("orders", id=f"{elsewhere}/protectableItems/{names.format('mssqlserver')}"),
        protectable(
            "orders",
            instance="ag1",
            id=f"{group}/protectableItems/{names.format('ag1')}",
            wire_name=names.format("ag1"),
        ),
    ]
    databases = [
        {"instance": "MSSQLSERVER", "database": "orders"},
        {"availabilityGroup": "ag1", "database": "orders"},
    ]
    azure = FakeAzureBackup(protectable_items=offered)
    result = chosen(azure, plan(known=INQUIRED, databases=databases))
    assert [task.database.availability_group for task in tasks(result)] == ["ag1"]
    assert failures(result) == {"orders": "DatabaseNotFound"}


def test_what_is_missing_is_looked_for_on_the_vm_once() -> None:
    azure = FakeAzureBackup(protectable_items=[protectable("orders")])
    step, payload = following(
        protect.select_databases(to("select_databases", plan("new", known=ON_VM)), collaborators(azure))
    )
    assert (step, payload) == ("inquire_container", plan("new", known=ON_VM))
    assert failures(chosen(azure, plan("new", known=INQUIRED))) == {"new": "DatabaseNotFound"}
    # Without a VM there is nothing to inquire, and what is there is not inquired.
    without_vm = chosen(azure, plan(known=POLICY, vmId=None, databases=GROUP))
    assert failures(without_vm) == {"new": "DatabaseNotFound"}
    assert len(tasks(chosen(azure, plan("orders", known=ON_VM)))) == 1


def test_an_inquiry_that_failed_says_why_a_database_is_missing() -> None:
    inquiry = Inquiry(status="Failed", error=ErrorDetail(code="UserErrorNoRight", message="No login."))
    azure = FakeAzureBackup(containers=[container(inquiry=inquiry)])
    result = chosen(azure, plan("new", known=INQUIRED))
    assert failures(result) == {"new": "UserErrorNoRight"}
    told = certain_failures(result)["new"].message
    assert told.endswith("The inquiry of the VM ended with UserErrorNoRight: No login.")
    for known in (container(), container(inquiry=Inquiry(status="Success"))):
        fine = FakeAzureBackup(containers=[known])
        assert failures(chosen(fine, plan("new", known=INQUIRED))) == {"new": "DatabaseNotFound"}


def test_what_is_wrong_with_a_group_is_told_without_a_vm() -> None:
    error = ErrorDetail(code="UserErrorBasicGroup", message="It is basic.")
    kind = "SQLAvailabilityGroupContainer"
    group = protectable("ag1", item_type=kind, prebackup_validation=error)
    azure = FakeAzureBackup(protectable_items=[group])
    result = chosen(azure, plan(known=POLICY, vmId=None, databases=GROUP))
    assert failures(result) == {"new": "UserErrorBasicGroup"}


def test_an_instance_is_protected_as_it_grows() -> None:
    item = protectable("MSSQLSERVER", item_type="SQLInstance", wire_name="SQLInstance;mssqlserver")
    azure = FakeAzureBackup(protectable_items=[item, protectable("orders")])
    asked = plan("orders", known=INQUIRED, autoProtect=["MSSQLSERVER"])
    instance = tasks(chosen(azure, asked))[-1]
    assert (instance.action, instance.database.name, instance.item_id) == ("autoProtect", "*", item.id)


def test_an_instance_that_is_missing_is_looked_for_as_well() -> None:
    azure = FakeAzureBackup(protectable_items=[protectable("orders")])
    asked = plan("orders", known=ON_VM, autoProtect=["SQL2019"])
    result = protect.select_databases(to("select_databases", asked), collaborators(azure))
    assert following(result)[0] == "inquire_container"


def test_what_the_vault_protects_by_itself_is_no_business_of_another_vm() -> None:
    def on_other(name: str) -> ProtectedItem:
        return protected(
            name, id=item_id(name).path.replace("rg-sql", "rg-other"), virtual_machine_id=OTHER_VM
        )

    azure = FakeAzureBackup(protected_items=[on_other("orders")])
    assert failures(chosen(azure, plan(known=INQUIRED))) == {"orders": "DatabaseNotFound"}
    assert SUBSCRIPTION in OTHER_VM
