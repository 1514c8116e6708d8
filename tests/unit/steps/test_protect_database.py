"""One database is protected: by which call, what is found to be done already, and what follows its job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.azure_backup.models import ProtectedItem, ProtectionIntent
from shared.engine.effect import Effect
from shared.engine.expected_job import MOST_PUTS
from shared.engine.message import StepMessage
from shared.engine.result import End
from shared.messages.events import ErrorInfo, OutcomeDetails, Status
from shared.messages.identity import Database
from shared.messages.requests import BackupType, Operation
from shared.settings import Settings
from shared.steps.payloads import BackupTask, ProtectTask
from shared.steps.protect_database import after_protection, attempts, enable_protection, happened
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import CONTAINER, NOW, VM, item_id, job, protected
from tests.unit.steps.calling import collaborators, following, made, message_to, refused

HOUR = timedelta(hours=1)
ORDERS = Database(vm_id=VM, instance="MSSQLSERVER", name="orders")
STOPPED: dict[str, Any] = {"protection_state": "ProtectionStopped", "policy_name": None}


def task(**changes: Any) -> ProtectTask:
    fields: dict[str, Any] = {
        "database": ORDERS,
        "item_id": item_id("orders").path,
        "server_name": "sqlvm1",
        "policy_id": "policy-1",
        "policy_name": "Daily",
        "action": "enable",
        "outcome_count": 3,
    }
    return ProtectTask(**{**fields, **changes})


def message(
    *, effect: Effect | None = None, waited: timedelta = timedelta(), **changes: Any
) -> StepMessage[ProtectTask]:
    return message_to(
        "enable_protection",
        task(**changes),
        Operation.PROTECT,
        effect=effect or Effect(),
        since=NOW - waited,
    )


def vault(*items: ProtectedItem) -> FakeAzureBackup:
    return FakeAzureBackup(protected_items=items)


def already(policy: str, state: str | None) -> End:
    return End(Status.SUCCEEDED, details=OutcomeDetails(policy_name=policy, protection_state=state))


@pytest.mark.parametrize("action", ["enable", "changePolicy", "resume"])
def test_a_database_is_protected_by_one_call(action: str) -> None:
    azure = vault(protected("orders"))
    call = enable_protection(message(action=action), collaborators(azure))
    assert made(azure, call)[:2] == (
        "enable_protection",
        {"item": item_id("orders"), "policy_id": "policy-1"},
    )
    # The selection has just looked.
    assert azure.calls.names == ["enable_protection"]


def test_a_soft_deleted_database_is_undeleted_first() -> None:
    azure = vault()
    call = enable_protection(message(action="undelete"), collaborators(azure))
    assert made(azure, call)[:2] == ("undelete", {"item": item_id("orders")})


def test_what_is_protected_as_asked_needs_no_call() -> None:
    asked = message(action="already", protection_state="IRPending", policy_name="Weekly")
    assert enable_protection(asked, collaborators(vault())) == already("Weekly", "IRPending")


def test_an_instance_has_its_intent() -> None:
    azure = FakeAzureBackup(protection_intents=[ProtectionIntent(name="one", policy_name="Daily")])
    instance: dict[str, Any] = {
        "action": "autoProtect",
        "database": ORDERS.model_copy(update={"name": "*"}),
        "item_id": f"{CONTAINER.path}/protectableItems/SQLInstance;mssqlserver",
    }
    done = already("Daily", "AutoProtected")
    assert enable_protection(message(**instance), collaborators(azure)) == done
    assert happened(message(**instance), collaborators(azure)) == done
    assert happened(message(**instance), collaborators(FakeAzureBackup())) is None


#: the item that is found, what the request says of another policy, what comes of it: None for a call
FOUND: list[tuple[ProtectedItem | None, str, End | tuple[str, str] | None]] = [
    (None, "fail", None),
    (protected("orders", **STOPPED), "fail", None),
    (protected("orders", is_scheduled_for_deferred_delete=True), "fail", None),
    (protected("orders", protection_state="IRPending"), "fail", already("Daily", "IRPending")),
    # another request has protected it meanwhile
    (protected("orders", policy_name="Weekly"), "fail", ("failed", "ProtectedByAnotherPolicy")),
    (protected("orders", policy_name="Weekly"), "keep", already("Weekly", "Protected")),
    (protected("orders", policy_name="Weekly"), "changePolicy", None),
]


@pytest.mark.parametrize(("item", "on_existing", "comes"), FOUND)
def test_what_was_protected_while_it_waited_is_seen(
    item: ProtectedItem | None, on_existing: str, comes: End | tuple[str, str] | None
) -> None:
    azure = vault(*([item] if item is not None else []))
    waiting = message(effect=Effect(waiting=True), on_existing=on_existing)
    told_to_look = message(look_at_item=True, on_existing=on_existing)
    for result in (
        enable_protection(waiting, collaborators(azure)),
        enable_protection(told_to_look, collaborators(azure)),
    ):
        if comes is None:
            assert made(azure, result)[0] == "enable_protection"
        elif isinstance(comes, End):
            assert result == comes
        else:
            assert refused(result) == comes
    # The same shows whether a call whose answer was lost took effect.
    shown = happened(message(on_existing=on_existing), collaborators(azure))
    assert (refused(shown) if isinstance(comes, tuple) else shown) == comes


def test_an_undelete_never_shows_in_the_item() -> None:
    asked = message(action="undelete")
    assert happened(asked, collaborators(vault(protected("orders")))) is None


def first_backup(result: Any) -> BackupTask:
    step, payload = following(result)
    assert step == "trigger_backup"
    assert isinstance(payload, BackupTask)
    return payload


def test_the_first_backup_follows_where_it_is_asked_for() -> None:
    azure = vault(protected("orders"))
    for result in (
        happened(message(first_backup="now"), collaborators(azure)),
        after_protection(message(first_backup="now"), job(), End(Status.SUCCEEDED)),
    ):
        assert first_backup(result) == BackupTask(
            database=ORDERS,
            item_id=item_id("orders").path,
            server_name="sqlvm1",
            policy_name="Daily",
            backup_type=BackupType.FULL,
            outcome_count=3,
        )
    # Only of what was not protected before.
    changed = message(first_backup="now", action="changePolicy")
    assert isinstance(after_protection(changed, job(), End(Status.SUCCEEDED)), End)
    # Another policy, which the request calls an error, starts none.
    other = collaborators(vault(protected("orders", policy_name="Weekly")))
    assert refused(happened(message(first_backup="now"), other)) == ("failed", "ProtectedByAnotherPolicy")


def test_the_outcome_tells_the_policy_and_the_state() -> None:
    warned = End(Status.SUCCEEDED_WITH_WARNINGS, details=OutcomeDetails(warnings=("Slow.",)))
    end = after_protection(message(), job(), warned)
    assert isinstance(end, End)
    assert end.details == OutcomeDetails(
        warnings=("Slow.",), policy_name="Daily", protection_state="IRPending"
    )
    # A database that was protected has its backups.
    changed = message(action="changePolicy", protection_state="Protected")
    end = after_protection(changed, job(), End(Status.SUCCEEDED))
    assert isinstance(end, End)
    assert end.details.protection_state == "Protected"


def test_a_job_that_failed_is_told_with_the_policy() -> None:
    failed = End(Status.FAILED, ErrorInfo(code="Odd", message="No."))
    for action in ("enable", "undelete"):
        end = after_protection(message(action=action, first_backup="now"), job(), failed)
        assert isinstance(end, End)
        assert (end.status, end.error, end.details.policy_name) == (failed.status, failed.error, "Daily")
        assert end.details.protection_state is None


def test_an_undeleted_database_is_resumed() -> None:
    step, payload = following(after_protection(message(action="undelete"), job(), End(Status.SUCCEEDED)))
    assert (step, payload) == ("enable_protection", task(action="resume"))


def test_only_time_bounds_how_often_protection_is_enabled() -> None:
    c = collaborators(vault(), settings=Settings(operation_timeout=HOUR))
    late = timedelta(hours=1)
    assert attempts(message(waited=HOUR - timedelta(seconds=1)), c) == MOST_PUTS
    assert attempts(message(waited=late, effect=Effect(n=4)), c) == 4
    assert attempts(message(waited=late, effect=Effect(n=4, waiting=True)), c) == 3
