"""Whose turn a drill is: what a request means, what is too large or cannot be drilled, and how the first one begins."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from shared.azure_backup.models import Job, ProtectedItem
from shared.drills import drill_database_name
from shared.engine.message import StepMessage
from shared.engine.result import Continue, Result
from shared.messages.identity import drill_request_id
from shared.messages.requests import MOST_DRILLS, AlternateTarget, DrillData, Operation
from shared.schedules import read_drill_schedules
from shared.steps.drill_restores import next_drill
from shared.steps.drill_selection import select_drills
from shared.steps.payloads import DrillPlan, Planned, RestoreTask
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.engine.test_retry import answered
from tests.unit.examples import NOW, SUBSCRIPTION, VAULT, VM, item_id, job, protected
from tests.unit.steps.calling import certain_failures, following, message_to, refused, text_of
from tests.unit.steps.drills import DRILL_VM, TARGET, estate, given

DAY = timedelta(days=1)
GB = 1024.0


def plan(*databases: str, **data: Any) -> DrillPlan:
    fields: dict[str, Any] = {
        "vaultId": VAULT.path,
        "databases": [{"instance": "MSSQLSERVER", "database": name} for name in databases or ("*",)],
        "target": {"vmId": DRILL_VM.path, "instance": "MSSQLSERVER"},
        **data,
    }
    return DrillPlan(data=DrillData.model_validate(fields))


def to(payload: DrillPlan, **changes: Any) -> StepMessage[DrillPlan]:
    return message_to("select_drills", payload, Operation.DRILL, **changes)


def selected(azure: FakeAzureBackup, payload: DrillPlan, **settings: Any) -> Result:
    return select_drills(to(payload), given(azure, **settings))


def vault(*items: ProtectedItem, sizes: dict[str, float] | None = None, **changes: Any) -> FakeAzureBackup:
    """A vault that protects these, each with a full of yesterday of 1 GB, or of `sizes` in MB."""
    fulls = [
        job(
            f"full-{item.name}",
            status="Completed",
            raw_status="Completed",
            entity_name=f"{item.name} [sqlvm1]",
            start_time=NOW - DAY / 2,
        )
        for item in items
    ]
    known = {item.name: GB for item in items} if sizes is None else sizes
    detailed = [
        full.model_copy(update={"properties": {"Data Transferred (in MB)": str(known[full.database])}})
        for full in fulls
        if full.database in known
    ]
    return estate(
        protected_items=items, jobs=[*fulls, *changes.pop("jobs", ())], detailed_jobs=detailed, **changes
    )


def item(name: str, **details: Any) -> ProtectedItem:
    return protected(name, **{"last_backup_time": NOW, **details})


def fixed(result: Result) -> DrillPlan:
    step, payload = following(result)
    assert step == "select_drills"
    assert isinstance(payload, DrillPlan)
    assert payload.is_fixed
    return payload


def begun(payload: DrillPlan, **settings: Any) -> Continue:
    """What comes of a selection that was made: nothing is read for it any more."""
    azure = FakeAzureBackup()
    result = select_drills(to(payload, request={"epoch": 2}), given(azure, **settings))
    assert azure.calls == []
    assert isinstance(result, Continue)
    return result


def drilled(azure: FakeAzureBackup, payload: DrillPlan) -> list[str]:
    """The databases that are drilled, in their turns."""
    names: list[str] = []
    turns = [*begun(fixed(selected(azure, payload))).to]
    while turns:
        task = turns.pop().payload
        names.append(task.database.name)  # type: ignore[attr-defined]  # a RestoreTask
        ended = message_to("clean_up_drill", task, Operation.DRILL, request={"epoch": 2})
        onward = next_drill(ended)
        turns += [onward] if onward is not None else []
    return names


# -- whether a request is taken


def test_a_drill_is_selected_once_and_begins() -> None:
    asked = plan("orders", check="none", cleanUp=False, recoveryPoint={"latest": "full"})
    step, task = following(begun(fixed(selected(vault(item("orders")), asked))))
    assert step == "trigger_restore"
    assert isinstance(task, RestoreTask)
    assert (task.item_id, task.server_name, task.outcome_count) == (item_id("orders").path, "sqlvm1", 1)
    assert (task.overwrite, task.no_recovery, task.recovery_point) == (True, False, None)
    assert task.target == AlternateTarget.model_validate(
        {
            "kind": "alternate",
            "vmId": DRILL_VM.path,
            "instance": "MSSQLSERVER",
            "database": drill_database_name(task.database),
        }
    )
    assert task.drill is not None
    assert (task.drill.check, task.drill.clean_up, task.drill.epoch) == ("none", False, 2)
    assert (task.drill.choice.latest, task.drill.rest, task.drill.so_far) == ("full", None, None)


def test_files_go_where_the_setting_says() -> None:
    placed = TARGET.model_copy(update={"data_directory": "F:\\data", "log_directory": "G:\\log"})
    known = fixed(selected(vault(item("orders")), plan()))
    _, task = following(begun(known, drill_targets=(placed,)))
    assert (task.target.data_directory, task.target.log_directory) == ("F:\\data", "G:\\log")
    # A target that is no longer allowed is refused at the restore, where each drill has its outcome.
    _, task = following(begun(known, drill_targets=()))
    assert (task.target.vm_id, task.target.data_directory) == (DRILL_VM, None)


FAR = VM.path.replace(SUBSCRIPTION, "9" + SUBSCRIPTION[1:])
#: what is changed of the estate, of the request and of the settings, the error code
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, str]]] = {
    "no target": ({}, {}, {"drill_targets": ()}, ("rejected", "TargetNotAllowed")),
    "another subscription": (
        {},
        {"target": {"vmId": FAR, "instance": "A"}},
        {"drill_targets": (TARGET.model_validate({"vmId": FAR, "instance": "A"}),)},
        ("rejected", "TargetInAnotherSubscription"),
    ),
    "a target that is not registered": ({"containers": []}, {}, {}, ("rejected", "TargetNotRegistered")),
    "a target in use": (
        {"protected_items": [protected("wages", virtual_machine_id=DRILL_VM)]},
        {},
        {},
        ("rejected", "DrillTargetInUse"),
    ),
}


@pytest.mark.parametrize(("changes", "data", "settings", "code"), REFUSED.values(), ids=REFUSED)
def test_what_may_not_be_drilled_is_refused_as_a_whole(
    changes: dict[str, Any], data: dict[str, Any], settings: dict[str, Any], code: tuple[str, str]
) -> None:
    assert refused(selected(estate(**changes), plan(**data), **settings)) == code


def test_a_vault_that_is_not_there_ends_the_request() -> None:
    azure = estate(vaults=[])
    azure.calls.errors["list_protected_items"] = answered(404, "GET")
    assert refused(selected(azure, plan())) == ("failed", "VaultNotFound")


def test_what_is_too_late_or_not_wanted_is_not_drilled() -> None:
    setting = {
        "name": "Nightly",
        "schedule": "0 0 1 * * *",
        **plan().data.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
    }
    schedules = read_drill_schedules(json.dumps([setting]))
    azure = vault(item("orders"))
    for due, digest in ((NOW, schedules[0].digest), (NOW - DAY, schedules[0].digest), (NOW, "another")):
        planned = plan().model_copy(update={"planned": Planned(due=due, digest=digest)})
        result = select_drills(
            to(planned, request={"schedule": "Nightly"}), given(azure, drill_schedules=schedules)
        )
        if digest == "another":
            assert result == Continue()
        elif due == NOW:
            assert fixed(result)
        else:
            assert refused(result) == ("skipped", "TooLate")


# -- which databases

#: a database in a state in which it is not drilled, the reason where a pattern means it, the code where it is named
NOT_DRILLED: dict[str, tuple[ProtectedItem, str, str]] = {
    "a system database": (item("master"), "systemDatabase", "SystemDatabase"),
    "soft-deleted": (
        item("orders", is_scheduled_for_deferred_delete=True),
        "softDeleted",
        "ItemSoftDeleted",
    ),
    "never backed up": (
        item("orders", last_backup_time=None, protection_state="IRPending"),
        "neverBackedUp",
        "RecoveryPointNotFound",
    ),
}


@pytest.mark.parametrize(("state", "reason", "code"), NOT_DRILLED.values(), ids=NOT_DRILLED)
def test_what_cannot_be_drilled_is_skipped_or_fails_where_it_is_named(
    state: ProtectedItem, reason: str, code: str
) -> None:
    azure = vault(state, item("billing"))
    named = begun(fixed(selected(azure, plan(state.name, "billing"))))
    assert {name: error.code for name, error in certain_failures(named).items()} == {state.name: code}
    meant = begun(fixed(selected(azure, plan())))
    assert meant.accepted is not None
    assert meant.accepted.data.skipped == {reason: 1}  # type: ignore[union-attr]  # of an acceptance
    assert [to.payload.about for to in meant.to] == [to.payload.about for to in named.to]


@pytest.mark.parametrize(
    "state",
    [
        item("orders", protection_state="IRPending"),
        item("orders", last_backup_time=None),
        item("orders", protection_state="ProtectionStopped"),
    ],
)
def test_what_has_backups_is_drilled(state: ProtectedItem) -> None:
    assert drilled(vault(state), plan()) == ["orders"]


def test_what_is_not_protected_is_not_there() -> None:
    result = begun(fixed(selected(vault(item("orders")), plan("nope", "orders", exclude=[]))))
    error = certain_failures(result)["nope"]
    assert error.code == "DatabaseNotFound"
    assert error.message.endswith("Only what is protected can be drilled.")


#: the size of the last full in MB, whether it is drilled, what the error says
SIZES: list[tuple[float | None, str | None]] = [
    (100 * GB, None),
    (100 * GB + 1, "it has 100.0 GB, and instance MSSQLSERVER"),
    (2345.6 * GB, "it has 2,345.6 GB, and instance MSSQLSERVER"),
    (None, "its size is not known"),
]


@pytest.mark.parametrize(("size", "says"), SIZES)
def test_a_database_is_drilled_where_its_size_is_known_and_allowed(
    size: float | None, says: str | None
) -> None:
    azure = vault(item("orders"), sizes={} if size is None else {"orders": size})
    result = begun(fixed(selected(azure, plan())))
    errors = certain_failures(result)
    assert (errors == {}) is (says is None)
    assert len(result.to) == (says is None)
    if says is not None:
        assert errors["orders"].code == "DrillTooLarge"
        assert says in errors["orders"].message
        assert "at most 100 GB (maxSizeGB" in errors["orders"].message


def test_those_whose_drill_is_longest_ago_have_their_turn() -> None:
    def restore(name: str, days: int) -> Job:
        key = f"{VM.key};mssqlserver;{name}"
        request_id = drill_request_id(key, TARGET.key, name)
        return job(f"r-{name}", operation="Restore", activity_id=request_id, start_time=NOW - days * DAY)

    items = [item(name) for name in ("a", "b", "c")]
    azure = vault(*items, jobs=[restore("a", 3), restore("b", 9), restore("c", 1)])
    assert drilled(azure, plan(count=1)) == ["b"]
    for oldest, days in (("a", (9, 1)), ("b", (1, 9))):
        two = vault(*items[:2], jobs=[restore("a", days[0]), restore("b", days[1])])
        assert drilled(two, plan(count=1)) == [oldest]
    result = begun(fixed(selected(azure, plan(count=1))))
    assert result.accepted is not None
    assert result.accepted.data.skipped == {"notItsTurn": 2}  # type: ignore[union-attr]  # of an acceptance
    assert sorted(drilled(azure, plan())) == ["a", "b", "c"]
    # Of a single one, no job has to tell.
    alone = vault(items[0])
    drilled(alone, plan())
    assert [call["operation"] for call in alone.calls.of("list_jobs")] == ["Backup"]


def test_one_that_is_too_large_takes_nobodys_turn() -> None:
    azure = vault(item("huge"), item("orders"), sizes={"huge": 1000 * GB, "orders": GB})
    result = begun(fixed(selected(azure, plan(count=1))))
    assert [to.payload.about.name for to in result.to if to.payload.about] == ["orders"]
    assert len(certain_failures(result)) <= 1


def test_more_than_a_hundred_are_drilled_only_where_they_are_counted() -> None:
    items = [item(f"db{number}") for number in range(MOST_DRILLS + 1)]
    end = selected(vault(*items), plan())
    assert refused(end) == ("rejected", "DrillsNotCounted")
    assert f"means {MOST_DRILLS + 1} databases" in text_of(end)
    assert len(drilled(vault(*items[:-1]), plan())) == MOST_DRILLS
    assert len(drilled(vault(*items), plan(count=2))) == 2


def test_the_looks_for_sizes_are_bounded() -> None:
    items = [item(f"db{number}") for number in range(MOST_DRILLS + 3)]
    azure = vault(*items, sizes={})
    result = begun(fixed(selected(azure, plan(count=1))))
    assert len(certain_failures(result)) == MOST_DRILLS + 1
    assert result.accepted is not None
    assert result.accepted.data.skipped == {"notItsTurn": 2}  # type: ignore[union-attr]  # of an acceptance
    assert result.to == ()
