"""An instance whose databases, those to come included, are to be protected by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from shared.azure_backup.models import ErrorDetail, ProtectionIntent
from shared.engine.message import StepMessage
from shared.engine.result import Call, End
from shared.messages.error_codes import ErrorCode
from shared.messages.events import Status
from shared.messages.identity import Database
from shared.messages.requests import Operation, ProtectData
from shared.steps.auto_protection import add_instances, auto_protect, auto_protected
from shared.steps.payloads import ProtectTask
from shared.steps.protect_selection import ProtectChoice
from shared.steps.selection import Selection
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import CONTAINER, VAULT, VM, backup_message, protectable, request
from tests.unit.steps.calling import REQUEST_ID, collaborators, made

INSTANCE = Database(vm_id=VM, instance="MSSQLSERVER", name="*")


def intents(*policies: str | None) -> FakeAzureBackup:
    """An instance with an intent for each of these policies."""
    return FakeAzureBackup(
        protection_intents=[
            ProtectionIntent(name=f"intent-{number}", policy_name=policy)
            for number, policy in enumerate(policies)
        ]
    )


def message(**changes: Any) -> StepMessage[ProtectTask]:
    fields: dict[str, Any] = {
        "database": INSTANCE,
        "item_id": f"{CONTAINER.path}/protectableItems/SQLInstance;mssqlserver",
        "policy_id": "policy-1",
        "policy_name": "Daily",
        "action": "autoProtect",
        "outcome_count": 1,
    }
    asked = backup_message(step="enable_protection", request=request(operation=Operation.PROTECT))
    return asked.model_copy(update={"payload": ProtectTask(**{**fields, **changes})})  # type: ignore[return-value]  # its payload is another


def done(policy: str) -> Any:
    def is_it(end: object) -> bool:
        return (
            isinstance(end, End)
            and (end.status, end.details.policy_name) == (Status.SUCCEEDED, policy)
            and end.details.protection_state == "AutoProtected"
        )

    return is_it


def test_an_intent_is_made_under_the_id_of_its_request_and_done_at_once() -> None:
    azure = intents()
    call = auto_protect(message(), collaborators(azure))
    assert isinstance(call, Call)
    assert made(azure, call)[:2] == (
        "put_protection_intent",
        {"vault": VAULT, "name": REQUEST_ID, "item_id": message().payload.item_id, "policy_id": "policy-1"},
    )
    assert azure.calls.of("list_protection_intents") == [
        {"vault": VAULT, "item_name": "MSSQLSERVER", "item_type": "SQLInstance", "container": CONTAINER}
    ]
    assert call.at_once is not None
    assert done("Daily")(call.at_once(None))


def test_the_policy_of_an_intent_is_changed_where_that_is_asked_for() -> None:
    azure = intents("Weekly", "Other")
    call = auto_protect(message(on_existing="changePolicy"), collaborators(azure))
    _, put, _ = made(azure, call)
    assert (put["name"], put["policy_id"]) == ("intent-0", "policy-1")


@pytest.mark.parametrize(
    ("there", "on_existing", "policy"),
    [("daily", "fail", "daily"), ("Weekly", "keep", "Weekly"), (None, "keep", "Daily")],
)
def test_what_is_there_as_asked_is_done(there: str | None, on_existing: str, policy: str) -> None:
    for look in (auto_protect, auto_protected):
        assert done(policy)(look(message(on_existing=on_existing), collaborators(intents(there))))
    assert auto_protected(message(), collaborators(intents())) is None


@pytest.mark.parametrize(
    ("there", "named"), [("Weekly", "by policy Weekly, not by Daily"), (None, "by policy , not")]
)
def test_another_policy_is_named(there: str | None, named: str) -> None:
    for look in (auto_protect, auto_protected):
        end = look(message(), collaborators(intents(there)))
        assert isinstance(end, End)
        assert end.error is not None
        assert end.error.code == ErrorCode.PROTECTED_BY_ANOTHER_POLICY
        assert named in end.error.message


def added(*patterns: str, **instance: Any) -> Selection[ProtectChoice]:
    data = ProtectData.model_validate(
        {
            "vaultId": VAULT.path,
            "vmId": VM.path,
            "policyName": "Daily",
            "databases": [{"instance": "MSSQLSERVER", "database": "orders"}],
            "autoProtect": [*patterns],
        }
    )
    offered = [
        protectable("orders"),
        protectable("MSSQLSERVER", item_type="SQLInstance", wire_name="SQLInstance;mssqlserver", **instance),
    ]
    chosen: Selection[ProtectChoice] = Selection()
    add_instances(data, offered, chosen, policy_name="Daily")
    return chosen


def test_an_instance_that_is_named_twice_is_protected_once() -> None:
    (choice,) = added("MSSQLSERVER", "MSSQL*").tasks
    assert (choice.candidate.database, choice.action, choice.policy_name) == (
        INSTANCE,
        "autoProtect",
        "Daily",
    )


def test_an_instance_that_is_not_there_fails_by_itself() -> None:
    chosen = added("SQL2019", "MSSQLSERVER")
    ((database, failure),) = chosen.failures
    assert (database.instance, database.name, failure.code) == ("SQL2019", "*", ErrorCode.INSTANCE_NOT_FOUND)
    assert "there are: MSSQLSERVER" in failure.message
    assert len(chosen.tasks) == 1


def test_an_instance_that_the_service_does_not_back_up_says_why() -> None:
    trouble = ErrorDetail(code="UserErrorNoSysadmin", message="No right.")
    chosen = added("MSSQLSERVER", prebackup_validation=trouble)
    assert not chosen.tasks
    ((database, failure),) = chosen.failures
    assert (database, failure.code) == (INSTANCE, "UserErrorNoSysadmin")
    assert failure.message.endswith("No right.")
