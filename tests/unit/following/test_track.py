"""The tracker where Azure's answers leave it little to go by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from shared.arm.errors import ArmPacedError
from shared.azure_backup.models import Job, OperationStatus
from shared.azure_backup.operations import AzureBackup
from shared.clock import MachineTime, ServiceTime
from shared.engine.claim import claim
from shared.engine.message import FollowedOperation, Following, StepMessage
from shared.engine.result import Collaborators, Continue, End
from shared.following.batch import handle_batch
from shared.following.poll import Poll
from shared.messages.events import Status
from shared.messages.requests import Operation, ProtectData
from shared.settings import Settings
from shared.steps.payloads import ProtectPlan
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, open_app
from tests.unit.examples import MINUTE, NOW, VAULT, VM, backup_message, request

URL = f"https://management.azure.com{VAULT.path}/operations/1"


class Azure:
    """Answers every poll of an operation alike, lists no job, and has no reads left."""

    def __init__(self, status: OperationStatus | ArmPacedError) -> None:
        self._status = status
        self.budget = self

    def left(self, _subscription_id: str, _action: str) -> int:
        return 0

    def own(self, _subscription_id: str, _action: str) -> int:
        return 0

    def list_jobs(
        self, _vault: object, *, counted: Callable[[int], None] = lambda _pages: None, **_: object
    ) -> list[Job]:
        counted(1)
        return []

    def get_operation_status(self, _url: str, **_: object) -> OperationStatus:
        if isinstance(self._status, ArmPacedError):
            raise self._status
        return self._status


def refresh() -> StepMessage[ProtectPlan]:
    data = ProtectData.model_validate(
        {
            "vaultId": VAULT.path,
            "vmId": VM.path,
            "policyName": "Daily",
            "databases": [{"instance": "MSSQLSERVER", "database": "orders"}],
        }
    )
    return StepMessage[ProtectPlan](
        step="refresh_containers",
        sender="select_policy",
        at=NOW,
        since=NOW,
        request=request(operation=Operation.PROTECT),
        payload=ProtectPlan(data=data),
    )


def followed(
    message: StepMessage[Any], *, url: str | None = URL, deadline: ServiceTime = NOW + 120 * MINUTE
) -> StepMessage[Following]:
    return claim(message, FollowedOperation(async_operation_url=url), at=NOW, deadline=deadline)


@pytest.mark.parametrize("succeeded", [True, False])
def test_a_job_of_an_operation_that_has_none_is_not_followed(succeeded: bool) -> None:
    status = OperationStatus(
        status="-", finished=True, succeeded=succeeded, job_id="job-1", error_code="Broken"
    )
    azure = cast("AzureBackup", Azure(status))
    c = Collaborators(azure=azure, settings=Settings(), now=lambda: NOW, machine_now=lambda: MachineTime(NOW))
    result = Poll(followed(refresh()), TABLE.rows["refresh_containers"], c).result()
    if succeeded:
        assert isinstance(result, Continue)
        assert [to.step for to in result.to] == ["register_container"]
    else:
        assert isinstance(result, End)
        assert result.status is Status.FAILED


@pytest.mark.parametrize("minutes", [119, 120, 121])
def test_a_job_of_a_step_of_the_next_version_waits_for_it_to_its_deadline(
    minutes: int, caplog: pytest.LogCaptureFixture
) -> None:
    with open_app(start=NOW + minutes * MINUTE) as app:
        app.runtime.service_clock.answered(ServiceTime(app.clock.now()))
        tracked = followed(backup_message())
        ahead = tracked.model_copy(
            update={"payload": tracked.payload.model_copy(update={"origin": "archive"})}
        )
        body = json.loads(ahead.model_dump_json(by_alias=True))
        handle_batch([app.delivery("track", body)], app.runtime)
        assert {getattr(record, "action", None) for record in caplog.records} == {"read"}
        if minutes < 120:
            assert app.bodies("track") == [body]
            assert not app.held(OUTCOMES)
        else:
            assert [event["data"]["status"] for event in app.bodies(OUTCOMES)] == ["unknown"]
            assert "step archive" in app.bodies(OUTCOMES)[0]["data"]["error"]["message"]
            assert app.bodies("parked-messages") == [body]


@pytest.mark.parametrize(("minutes", "ended"), [(119, 0), (121, 6)], ids=["before", "after"])
def test_what_is_over_its_deadline_ends_though_there_are_no_reads_left(minutes: int, ended: int) -> None:
    paced = ArmPacedError(retry_after=5 * MINUTE, operation="poll", method="GET", path="/")
    with open_app(start=NOW + minutes * MINUTE) as app:
        runtime = replace(app.runtime, backup=cast("AzureBackup", Azure(paced)))
        runtime.service_clock.answered(ServiceTime(app.clock.now()))
        messages = [followed(backup_message(f"db{number}")) for number in range(6)]
        handle_batch(
            [app.delivery("track", json.loads(m.model_dump_json(by_alias=True))) for m in messages], runtime
        )
        decided = [poll for poll in app.bodies("track") if poll["payload"]["of"]["kind"] == "end"]
        assert len(decided) == ended
        handle_batch([app.delivery("track", poll) for poll in decided], runtime)
        statuses = [event["data"]["status"] for event in app.bodies(OUTCOMES)]
        assert statuses == ["timedOut"] * ended
        assert len(app.held("track")) == 6
