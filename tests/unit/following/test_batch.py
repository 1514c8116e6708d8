"""The tracker's batch: who is worked on, how many reads that takes, and what the bus is handed of each."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from shared.arm.budget import JOB_READS
from shared.arm.errors import ArmError, AuthenticationError
from shared.arm.ids import VaultId
from shared.azure_backup.models import Job, JobError, OperationResult, OperationStatus
from shared.azure_backup.operations import AzureBackup
from shared.bus import BusError, BusUnavailableError, MessageTooLargeError, OutgoingMessage
from shared.clock import ServiceTime
from shared.engine.claim import claim
from shared.engine.effect import Effect
from shared.engine.message import (
    MOST_DEATHS,
    DecidedEffect,
    Delivery,
    Ending,
    FollowedJob,
    FollowedOperation,
    Following,
    StepMessage,
)
from shared.engine.result import Continue, To
from shared.engine.runtime import Runtime
from shared.engine.table import Row, Table
from shared.following.batch import handle_batch
from shared.following.lookup import FEW
from shared.messages.error_codes import ErrorCode
from shared.messages.events import Status
from shared.messages.reserved import DEATHS, DELIVERED
from shared.workflows import TABLE
from tests.unit.app import OUTCOMES, App, RefusingBus
from tests.unit.engine.test_retry import answered
from tests.unit.examples import (
    MINUTE,
    NOW,
    SUBSCRIPTION,
    VAULT,
    S,
    backup_message,
    body_of,
    job,
    protected,
    request,
)
from tests.unit.following.apps import tracking_app
from tests.unit.following.test_track import refresh
from tests.unit.test_tracing import INCOMING, Recorded, recorded

__all__ = ["recorded"]

URL = f"https://management.azure.com{VAULT.path}/backupOperations/1"
RUNNING = OperationStatus(status="InProgress", finished=False, succeeded=False)
PLENTY = 10**6
PLAN = refresh().payload


class Azure:
    """A vault's jobs, and what is asked of it; every operation runs."""

    def __init__(self, app: App, *jobs: Job, left: int = PLENTY, own: int | None = None) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.budget = self
        self.asked: list[str] = []
        self.actions: list[str] = []
        #: how long each single read takes
        self.takes = timedelta()
        self.error: Exception | None = None
        self._clock = app.clock
        self._left = left
        self._own = left if own is None else own

    def left(self, _subscription_id: str, action: str) -> int:
        assert isinstance(action, str)
        self.actions.append(action)
        return self._left

    def own(self, _subscription_id: str, _action: str) -> int:
        return self._own

    def _asked(self, name: str) -> None:
        self.asked.append(name)
        self._clock.advance(self.takes)

    def get_job(self, _vault: object, job_id: str) -> Job | None:
        self._asked("job")
        return self.jobs.get(job_id)

    def get_operation_status(self, _url: str, **_: object) -> OperationStatus:
        self._asked("operation")
        return RUNNING

    def get_operation_result(self, _url: str, **_: object) -> OperationResult:
        self._asked("result")
        return OperationResult(finished=False)

    def list_jobs(
        self,
        _vault: object,
        *,
        start: datetime,
        status: str | None = None,
        counted: Callable[[int], None] = lambda _pages: None,
        kept: Callable[[Job], bool] = lambda _job: True,
    ) -> list[Job]:
        self._asked("running jobs" if status else "jobs")
        if self.error is not None:
            raise self.error
        found = [job for job in self.jobs.values() if status in (None, job.raw_status)]
        counted(max(1, -(-len(found) // 200)))
        return [job for job in found if job.start_time is None or job.start_time >= start]


def tracked(
    number: int = 0, followed: Any = None, *, began: ServiceTime = NOW, vault: VaultId = VAULT, **changes: Any
) -> Any:
    """A message to the tracker, for the backup of one database."""
    followed = followed or FollowedOperation(async_operation_url=URL)
    message = backup_message(f"db{number}", request=request(vault_id=vault))
    followed = claim(message, followed, at=began, deadline=changes.pop("deadline", began + 60 * MINUTE))
    return followed.model_copy(update=changes)


def of_job(number: int, **changes: Any) -> StepMessage[Following]:
    return cast("StepMessage[Following]", tracked(number, FollowedJob(job_id=f"job-{number}"), **changes))


def job_of(number: int, status: str = "InProgress", **details: Any) -> Job:
    """The job of a backup, as a list shows it."""
    message = tracked(number)
    return job(
        f"job-{number}",
        activity_id=message.payload.client_request_id,
        entity_name=f"db{number} [sqlvm1]",
        status=status,
        raw_status=status,
        **details,
    )


def delivered(app: App, *messages: StepMessage[Any], **details: Any) -> list[Delivery]:
    return [
        app.delivery("track", body_of(message), message_id=f"m{number}", **details)
        for number, message in enumerate(messages)
    ]


#: Of a backup that succeeded, nothing is looked up beside its job.
BACKUP = replace(TABLE.rows["trigger_backup"], look_up=lambda _message, _job, end, _c: end)
ROWS = Table(rows={**TABLE.rows, "trigger_backup": BACKUP}, first=TABLE.first)


def with_azure(app: App, azure: Azure, **changes: Any) -> Runtime:
    return replace(app.runtime, backup=cast("AzureBackup", azure), table=ROWS, **changes)


def handled(app: App, azure: Azure, *messages: StepMessage[Any], **changes: Any) -> list[str]:
    """What is asked of Azure for a batch."""
    runtime = with_azure(app, azure, **changes)
    azure.asked.clear()
    handle_batch(delivered(app, *messages), runtime)
    return azure.asked


def waits(app: App) -> list[timedelta]:
    """How long each message in the tracker's queue waits, in the order of its databases."""
    held = {
        json.loads(message.body)["payload"]["payload"]["database"]["name"]: message
        for message in app.held("track")
    }
    return [
        (message.scheduled_for or app.clock.now()) - app.clock.now() for _, message in sorted(held.items())
    ]


def statuses(app: App) -> list[str]:
    return [event["data"]["status"] for event in app.bodies(OUTCOMES) if "status" in event["data"]]


# -- who is worked on


def with_deaths(app: App, *deaths: int, **details: Any) -> list[Delivery]:
    return [
        app.delivery(
            "track",
            body_of(of_job(number)),
            message_id=f"m{number}",
            application_properties={DEATHS: count},
            **details,
        )
        for number, count in enumerate(deaths)
    ]


def test_of_those_that_have_died_before_one_is_worked_on_and_the_others_have_batches_of_their_own(
    app: App,
) -> None:
    azure = Azure(app, *(job_of(number) for number in range(5)))
    runtime = with_azure(app, azure)
    handle_batch(with_deaths(app, 0, 1, MOST_DEATHS - 1, 2, MOST_DEATHS), runtime)
    assert azure.asked == ["job", "job"]
    assert waits(app) == [30 * S, 30 * S, S, 2 * S, timedelta()]
    copies = {message.application_properties.get(DEATHS) for message in app.held("track")}
    assert copies == {None, MOST_DEATHS - 1, 2}
    (parked,) = app.bodies("parked-messages")
    assert parked["payload"]["of"]["jobId"] == "job-4"


def test_what_is_delivered_again_is_sent_on_with_one_more_death_and_not_worked_on(app: App) -> None:
    azure = Azure(app)
    runtime = with_azure(app, azure)
    handle_batch(with_deaths(app, 0, MOST_DEATHS - 1, delivery_count=2), runtime)
    assert azure.asked == []
    assert [message.application_properties[DEATHS] for message in app.held("track")] == [1, MOST_DEATHS]
    assert not app.held("parked-messages")


class Cramped:
    """A bus that takes no two copies at once, and of these messages none."""

    def __init__(self, app: App, *without_room: str) -> None:
        self._bus = app.runtime.bus
        self._without_room = without_room

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        copies = [
            message
            for message in messages
            if message.entity == "track" and DEATHS in message.application_properties
        ]
        names = {message.application_properties["copyOf"] for message in copies}
        if len(copies) > 1 or names & {*self._without_room}:
            raise MessageTooLargeError("too large")
        self._bus.send(messages)

    def peek(self, queue: str) -> Iterable[bytes]:
        return self._bus.peek(queue)


def test_a_copy_without_room_harms_no_other(app: App) -> None:
    runtime = with_azure(app, Azure(app), bus=Cramped(app, "m1"))
    handle_batch(with_deaths(app, 0, 0, 0, delivery_count=2), runtime)
    assert [
        body["payload"]["of"]["jobId"]
        for body in app.bodies("track")
        if body["payload"]["of"]["kind"] == "job"
    ] == [
        "job-0",
        "job-2",
    ]
    assert [body["payload"]["of"]["jobId"] for body in app.bodies("parked-messages")] == ["job-1"]


def test_those_that_have_died_are_sent_on_each_by_itself_where_there_is_no_room_together(app: App) -> None:
    handle_batch(with_deaths(app, 1, 2, 3), with_azure(app, Azure(app), bus=Cramped(app)))
    deaths = [message.application_properties.get(DEATHS) for message in app.held("track")]
    assert {2, 3} <= {*deaths}


def test_where_what_has_died_cannot_be_parked_it_comes_back(app: App) -> None:
    runtime = replace(app.runtime, bus=RefusingBus(app, BusError("no right"), "parked-messages"))
    handle_batch(with_deaths(app, MOST_DEATHS), runtime)
    (copy,) = app.held("track")
    assert copy.scheduled_for == NOW + MINUTE
    assert copy.application_properties[DELIVERED] is True


def test_a_bus_that_takes_nothing_has_killed_nobody(app: App) -> None:
    away = RefusingBus(app, BusUnavailableError("busy"), "track", "job-outcomes", "parked-messages")
    azure = Azure(app, *(job_of(number) for number in range(3)))
    runtime = with_azure(app, azure, bus=away)
    with pytest.raises(BusUnavailableError):
        handle_batch(delivered(app, *(of_job(number) for number in range(3))), runtime)
    assert app.clock.now() == NOW + 3 * MINUTE
    assert all(runtime.given_back.take("track", f"m{number}") for number in range(3))


def test_what_was_sent_has_not_died_either_where_the_bus_then_takes_nothing(app: App) -> None:
    azure = Azure(app, job_of(0, "Completed"), job_of(1))
    runtime = with_azure(app, azure, bus=RefusingBus(app, BusUnavailableError("busy"), "track"))
    with pytest.raises(BusUnavailableError):
        handle_batch(delivered(app, of_job(0), of_job(1)), runtime)
    assert statuses(app) == ["succeeded"]
    assert all(runtime.given_back.take("track", f"m{number}") for number in range(2))


# -- how jobs are looked up


def test_a_few_are_looked_up_singly_and_many_are_listed(app: App) -> None:
    def asked(operations: int, jobs: int) -> set[str]:
        azure = Azure(app, *(job_of(number) for number in range(jobs)))
        messages = [of_job(number) for number in range(jobs)]
        with tracking_app() as fresh:
            return {
                *handled(fresh, azure, *messages, *(tracked(jobs + number) for number in range(operations)))
            }

    assert asked(FEW, 0) == {"operation"}
    assert asked(FEW - 1, 1) == {"operation", "job"}
    assert asked(FEW, 1) == {"jobs"}
    assert asked(0, 2) == {"running jobs"} or asked(0, 2) == {"jobs"}
    assert asked(FEW + 1, 0) == {"jobs"}


def test_a_listing_that_was_made_for_many_answers_a_few(app: App) -> None:
    azure = Azure(app, *(job_of(number) for number in range(6)))
    assert handled(app, azure, *(tracked(number) for number in range(6))) == ["jobs"]
    assert handled(app, azure, tracked(0)) == []
    app.clock.advance(30 * S)
    assert handled(app, azure, tracked(0)) == ["operation"]


def test_what_has_no_job_or_no_vault_is_looked_up_singly(app: App) -> None:
    azure = Azure(app)
    of_vaults = [tracked(number) for number in range(6)]
    for number, message in enumerate(of_vaults):
        payload = message.payload.model_copy(update={"origin": "refresh_containers"})
        payload = payload.model_copy(
            update={"followed": FollowedOperation(location_url=URL), "payload": PLAN}
        )
        of_vaults[number] = message.model_copy(update={"payload": payload, "sender": "refresh_containers"})
    assert handled(app, azure, *of_vaults) == ["result"] * 6


def test_what_has_been_decided_is_sent_on_and_not_looked_up(app: App) -> None:
    azure = Azure(app)
    again = DecidedEffect(effect=Effect(n=2), since=NOW)
    decided = [tracked(number, Ending(status=Status.FAILED)) for number in range(5)]
    assert handled(app, azure, *decided, tracked(5, again)) == []
    assert statuses(app) == ["failed"] * 5
    (next_effect,) = app.bodies("trigger-backup")
    assert (next_effect["effect"]["n"], next_effect["payload"]["database"]["name"]) == (2, "db5")
    assert not app.held("parked-messages")


def test_locks_do_not_wait_for_single_reads_without_end(app: App) -> None:
    azure = Azure(app)
    azure.takes = 30 * S
    assert len(handled(app, azure, *(tracked(number) for number in range(4)))) == 3
    # Two minutes would pass: the fourth comes again at once.
    assert sorted(waits(app))[0] <= timedelta()
    assert len(app.held("track")) == 4


def test_single_reads_of_jobs_share_the_hour_of_their_subscription(app: App) -> None:
    other_vault = VaultId(SUBSCRIPTION, "rg-backup", "vault2")
    elsewhere = VaultId("00000000-0000-0000-0000-000000000002", "rg-backup", "vault1")
    azure = Azure(app, job_of(0), job_of(1), left=50)
    handled(app, azure, of_job(0))
    assert waits(app) == [52 * S]
    azure = Azure(app, job_of(2), job_of(3), left=50)
    handled(app, azure, of_job(2), of_job(3, vault=other_vault))
    assert waits(app) == [52 * S, 174 * S, 174 * S]
    azure = Azure(app, job_of(4), job_of(5), left=50)
    handled(app, azure, of_job(4), of_job(5, vault=elsewhere), tracked(6))
    assert waits(app)[3:5] == [52 * S, 52 * S]


@pytest.mark.parametrize(
    ("ended", "asked"), [(3, ["job"] * 3), (6, ["job"] * 6), (7, ["jobs", *["job"] * 7])]
)
def test_ended_jobs_are_read_singly_as_long_as_a_whole_list_takes_more(
    app: App, ended: int, asked: list[str]
) -> None:
    """Of 1,200 jobs 150 run: those fill one page of six."""
    jobs = {
        f"job-{number}": job_of(number, "Completed" if number >= 150 else "InProgress")
        for number in range(1200)
    }
    azure = Azure(app, *jobs.values())
    messages = [of_job(number) for number in range(10)]
    assert handled(app, azure, *messages) == ["jobs"]
    app.clock.advance(30 * S)
    azure.jobs = jobs | {f"job-{number}": job_of(number, "Completed") for number in range(ended)}
    assert handled(app, azure, *messages) == ["running jobs", *asked]


@pytest.mark.parametrize(
    "error", [answered(503, "GET"), AuthenticationError("no identity")], ids=["azure", "token"]
)
def test_where_jobs_cannot_be_listed_all_come_again(app: App, error: Exception) -> None:
    azure = Azure(app, *(job_of(number) for number in range(6)))
    azure.error = error
    asked = handled(app, azure, *(of_job(number) for number in range(6)))
    assert len(app.held("track")) == 6
    if isinstance(error, ArmError):
        assert {json.loads(message.body)["attempt"] for message in app.held("track")} == {1}
        assert asked.count("job") == 0
    else:
        # Each has its own look, and would report it.
        assert asked.count("job") == 6


def test_a_vault_that_nobody_asks_for_any_more_is_forgotten(app: App) -> None:
    azure = Azure(app, *(job_of(number) for number in range(6)))
    handled(app, azure, *(of_job(number) for number in range(6)))
    items = weakref.ref(
        app.runtime.items.get(
            VAULT.key,
            asked=NOW,
            now=lambda: ServiceTime(app.clock.now()),
            load=lambda: {protected("orders").name},
        )
    )
    assert app.runtime.listings.pages(SUBSCRIPTION) == 1
    app.clock.advance(30 * MINUTE)
    handled(app, azure, tracked(7, Ending(status=Status.FAILED)))
    assert app.runtime.listings.pages(SUBSCRIPTION) == 0
    assert items() is None


# -- what a listing tells


def listed(app: App, azure: Azure, *messages: StepMessage[Any]) -> list[str]:
    """What is asked beside the listing, for these and as many others as make it worth one."""
    azure.jobs |= {job.id: job for job in (job_of(number) for number in range(90, 96))}
    asked = handled(app, azure, *messages, *(tracked(number) for number in range(90, 96)))
    assert asked[0] == "jobs"
    return asked[1:]


@pytest.mark.parametrize(
    ("status", "left", "read"),
    [
        ("Completed", PLENTY, True),
        ("Completed", 0, False),
        ("Failed", PLENTY, True),
        ("Failed", 0, True),
        ("InProgress", PLENTY, False),
    ],
)
def test_details_of_what_ended_well_are_read_where_there_are_reads_to_spare(
    app: App, status: str, left: int, read: bool
) -> None:
    azure = Azure(app, job_of(0, status), left=left, own=PLENTY)
    assert listed(app, azure, tracked(0)) == (["job"] if read else [])


def test_reads_to_spare_are_what_the_listings_to_come_do_not_take(app: App) -> None:
    # 30 s a tick: 130 listings of one page in the 65 minutes for which a read counts.
    for left, read in ((130, False), (131, True)):
        with tracking_app() as fresh:
            azure = Azure(fresh, job_of(0, "Completed"), left=left, own=PLENTY)
            assert listed(fresh, azure, tracked(0)) == (["job"] if read else [])


def test_details_are_not_read_where_the_locks_might_end(app: App) -> None:
    ended = [job_of(number, "Completed") for number in range(4)]
    azure = Azure(app, *ended)
    azure.takes = 20 * S
    # The listing takes twenty seconds, and so does each read: three at most fit in a minute.
    assert listed(app, azure, *(tracked(number) for number in range(4))) == ["job"] * 2
    assert statuses(app).count("succeeded") == 4


def test_an_operation_whose_job_is_not_listed_is_asked_after_two_ticks(app: App) -> None:
    for began, read in ((NOW - MINUTE + S, False), (NOW - MINUTE, True)):
        with tracking_app() as fresh:
            azure = Azure(fresh)
            assert listed(fresh, azure, tracked(0, began=began)) == (["operation"] if read else [])
            assert len(fresh.held("track")) == 7


def test_an_operation_whose_job_is_not_listed_waits_where_there_are_few_reads_but_not_beyond_its_deadline(
    app: App,
) -> None:
    azure = Azure(app, left=0, own=PLENTY)
    waiting = tracked(0, began=NOW - 10 * MINUTE, deadline=NOW + S)
    late = tracked(1, began=NOW - 10 * MINUTE, deadline=NOW)
    assert listed(app, azure, waiting, late) == ["operation"]
    (decided,) = [body for body in app.bodies("track") if body["payload"]["of"]["kind"] == "end"]
    assert decided["payload"]["payload"]["database"]["name"] == "db1"
    # The reads that count are those of operations.
    assert any(action.endswith("operations/read") for action in azure.actions)
    assert JOB_READS in azure.actions


def test_a_tick_that_has_grown_is_counted_from_the_listing(app: App) -> None:
    app.clock.advance(10 * S)
    azure = Azure(app, job_of(0), left=80)
    # One page, eighty reads: a listing every 49 seconds would use them up, and they are spent half as fast again.
    listed(app, azure, of_job(0), tracked(1))
    assert waits(app)[:2] == [33 * S, 33 * S]
    # One that has not grown is the same for all vaults.
    with tracking_app(NOW + 10 * S) as fresh:
        listed(fresh, Azure(fresh, job_of(0)), of_job(0), tracked(1))
        assert waits(fresh)[:2] == [20 * S, 20 * S]


def test_a_job_that_a_whole_listing_does_not_show_is_waited_for_a_little(app: App) -> None:
    azure = Azure(app)
    assert listed(app, azure, of_job(0)) == []
    assert waits(app)[0] == 30 * S
    with tracking_app() as fresh:
        assert listed(fresh, Azure(fresh), of_job(0, began=NOW - MINUTE)) == ["job"]


def test_ticks_of_single_looks_are_the_same_for_all_unless_they_have_grown(app: App) -> None:
    app.clock.advance(10 * S)
    handled(app, Azure(app, job_of(0)), of_job(0))
    assert waits(app) == [20 * S]


# -- what is measured and traced


def test_what_is_followed_and_how_old_it_is_is_measured(app: App, recorded: Recorded) -> None:
    azure = Azure(app, job_of(0), job_of(1))
    handled(app, azure, of_job(0, began=NOW - MINUTE), of_job(1, began=NOW + MINUTE))
    assert recorded.sum_of("sqlvmbackup.jobs.followed") == 2
    assert recorded.sum_of("sqlvmbackup.job.age") == 60.0
    handle_batch([], with_azure(app, azure))
    assert recorded.metrics()["sqlvmbackup.jobs.followed"] == [{}]
    spans = [span for span in recorded.spans if span.name == "process track"]
    assert [(span.attributes or {})["sqlvmbackup.result"] for span in spans] == ["Later", "Later"]


def test_each_poll_is_a_span_that_ends_with_its_batch(app: App, recorded: Recorded) -> None:
    azure = Azure(app, job_of(0))
    azure.error = KeyboardInterrupt()  # type: ignore[assignment]  # as where the host is stopped
    runtime = with_azure(app, azure)
    with pytest.raises(KeyboardInterrupt):
        handle_batch(delivered(app, *(of_job(number) for number in range(3))), runtime)
    spans = [span for span in recorded.spans if span.name == "process track"]
    assert [span.status.status_code.name for span in spans] == ["ERROR"] * 3
    assert INCOMING


# -- what this version cannot handle


def test_a_poll_that_breaks_is_tried_again_and_then_answered(app: App) -> None:
    for attempt in (4, 5):
        azure = Azure(app)
        del azure.jobs
        handled(app, azure, of_job(attempt, attempt=attempt))
    (again,) = app.held("track")[:1]
    assert json.loads(again.body)["attempt"] == 5
    assert again.scheduled_for == NOW + 30 * S
    (parked,) = app.held("parked-messages")
    assert "AttributeError while a job was followed" in str(parked.application_properties["description"])


class Odd(Table):
    """A table with a defect, which what is given up does not meet."""

    def origin(self, message: StepMessage[Any]) -> Row:
        if not message.effect.may_have_started:
            raise RuntimeError("broken")
        return super().origin(message)


def test_a_defect_while_a_message_is_read_is_answered(app: App) -> None:
    runtime = replace(app.runtime, table=Odd(rows=TABLE.rows, first=TABLE.first))
    handle_batch(delivered(app, tracked(0, Ending(status=Status.FAILED))), runtime)
    assert statuses(app) == ["failed"]
    (parked,) = app.held("parked-messages")
    assert "RuntimeError while a job was followed" in str(parked.application_properties["description"])


def test_where_that_answer_is_refused_the_message_comes_back(app: App) -> None:
    bus = RefusingBus(app, BusError("no right"), "parked-messages")
    runtime = replace(app.runtime, table=Odd(rows=TABLE.rows, first=TABLE.first), bus=bus)
    handle_batch(delivered(app, tracked(0, Ending(status=Status.FAILED))), runtime)
    (copy,) = app.held("track")
    assert copy.scheduled_for == NOW + MINUTE
    assert copy.application_properties[DELIVERED] is True


class Unanswerable(Table):
    """A table with a defect, which what is given up meets as well."""

    def origin(self, message: StepMessage[Any]) -> Row:
        if message.database is not None and message.database.name == "db0":
            raise RuntimeError("broken")
        return super().origin(message)


@pytest.mark.parametrize("deaths", [0, MOST_DEATHS])
def test_a_message_that_cannot_even_be_answered_waits_and_harms_no_other(app: App, deaths: int) -> None:
    azure = Azure(app, job_of(0), job_of(1))
    runtime = replace(with_azure(app, azure), table=Unanswerable(rows=ROWS.rows, first=ROWS.first))
    handle_batch(with_deaths(app, deaths, 0), runtime)
    assert waits(app) == [5 * MINUTE, 30 * S]
    (copy,) = [message for message in app.held("track") if "waited" in message.application_properties]
    assert copy.application_properties[DELIVERED] is True
    assert copy.application_properties.get(DEATHS, 0) == deaths
    assert not app.held("parked-messages")


def test_what_leads_to_no_message_is_answered_and_harms_no_other(app: App) -> None:
    astray = replace(
        BACKUP, after_job=lambda message, _job, _end: Continue((To("trigger_restore", message.payload),))
    )
    table = Table(rows={**TABLE.rows, "trigger_backup": astray}, first=TABLE.first)
    runtime = replace(with_azure(app, Azure(app, job_of(0, "Completed"), job_of(1))), table=table)
    handle_batch(delivered(app, of_job(0), of_job(1)), runtime)
    assert [body["payload"]["of"]["jobId"] for body in app.bodies("parked-messages")] == ["job-0"]
    assert [wait for wait in waits(app) if wait] == [30 * S]


def test_a_message_that_cannot_be_read_is_answered_and_harms_no_other(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure = Azure(app, job_of(0), job_of(1))
    runtime = with_azure(app, azure)
    good, bad = delivered(app, of_job(0), of_job(1))
    broken = {**json.loads(bad.body), "payload": {"origin": "trigger_backup"}}
    handle_batch([replace(bad, body=json.dumps(broken).encode()), good], runtime)
    assert len(app.held("parked-messages")) == 1
    assert waits(app) == [30 * S]
    refused = replace(runtime, bus=RefusingBus(app, BusError("no right"), "parked-messages"))
    handle_batch([replace(bad, body=json.dumps(broken).encode(), message_id="m9")], refused)
    copies = [message for message in app.held("track") if "waited" in message.application_properties]
    assert [DELIVERED in message.application_properties for message in copies] == [False]


# -- what the bus is handed


def test_what_cannot_be_sent_does_not_hold_up_the_others(app: App) -> None:
    azure = Azure(app, job_of(0, "Completed"), job_of(1))
    bus = RefusingBus(app, BusError("no right"), "job-outcomes")
    handled(app, azure, of_job(0), of_job(1), bus=bus)
    # Of the first the outcome was refused: it comes back, and may have been worked on.
    copies = [message for message in app.held("track") if "waited" in message.application_properties]
    assert [json.loads(message.body)["payload"]["of"]["jobId"] for message in copies] == ["job-0"]
    assert [message.scheduled_for for message in copies] == [NOW + MINUTE]
    assert copies[0].application_properties[DELIVERED] is True
    assert len(app.held("track")) == 2


def test_where_the_bus_is_away_for_one_all_the_others_come_again(app: App) -> None:
    azure = Azure(app, job_of(0), job_of(1, "Completed"), job_of(2))
    bus = RefusingBus(app, BusUnavailableError("busy"), "job-outcomes")
    handled(app, azure, of_job(0), of_job(1), of_job(2), bus=bus)
    copies = [message for message in app.held("track") if "waited" in message.application_properties]
    assert [json.loads(message.body)["payload"]["of"]["jobId"] for message in copies] == ["job-1", "job-2"]
    assert {message.scheduled_for for message in copies} == {NOW + 30 * S}
    assert all(message.application_properties[DELIVERED] is True for message in copies)


def test_an_outcome_is_told_once_though_it_is_sent_twice(app: App) -> None:
    failed = job_of(0, "Failed", error_details=[JobError(errorTitle="Odd", errorString="It broke.")])
    azure = Azure(app, failed)
    runtime = with_azure(app, azure)
    for _ in range(2):
        handle_batch(delivered(app, of_job(0)), runtime)
    assert statuses(app) == ["failed"]
    assert app.bodies(OUTCOMES)[0]["data"]["error"]["code"] == "Odd"
    assert ErrorCode.FAILED_INTERNAL not in app.bodies(OUTCOMES)[0]["data"]["error"]["code"]
    assert isinstance(runtime, Runtime)
