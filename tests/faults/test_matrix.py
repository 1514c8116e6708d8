# ruff: noqa: N802 - the tests bear the numbers of their faults
"""The fault matrix, through the real functions, broker, host and Azure over HTTP, on a stepped clock.

Each test bears the number of its fault; `tests/faults/matrix.py` says what is expected.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest

from local.host import FunctionDefinition, Host, HostSettings
from shared.arm.transport import RawAnswer
from shared.bus import OutgoingMessage
from shared.messages.steps import VERSION, is_marked
from shared.workflow.delivery import Delivery, decode
from shared.workflow.planning import plan_backups
from shared.workflow.table import STEPS
from tests.e2e.harness import POLICY, JsonObject, message_to, the_functions, virtual_machine
from tests.faults import corpus
from tests.faults.estate import (
    FaultyEstate,
    Plan,
    bare_estate,
    fault,
    open_faulty,
    protected_estate,
)

MINUTE = timedelta(minutes=1)


class Estates:
    """Opens estates that are closed at the end of a test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(
        self, scenario: JsonObject, plan: Plan | None = None, *, sockets: bool = True, **options: Any
    ) -> FaultyEstate:
        return self._stack.enter_context(open_faulty(scenario, plan, sockets=sockets, **options))


@pytest.fixture
def estate() -> Iterator[Estates]:
    with ExitStack() as stack:
        yield Estates(stack)


def run(azure: FaultyEstate, *requests: JsonObject) -> list[JsonObject]:
    """Send requests, let everything come to its end, check the invariants; the outcomes' data."""
    azure.submit(*requests)
    azure.quiesce()
    azure.check()
    return [outcome["data"] for request in requests for outcome in azure.outcomes_of(request)]


def one(outcomes: list[JsonObject]) -> JsonObject:
    (outcome,) = outcomes
    return outcome


def make_it_echo(azure: FaultyEstate) -> None:
    """A job of this app shows that the vault echoes request ids."""
    assert one(run(azure, azure.backup("billing")))["status"] == "succeeded"


def times(azure: FaultyEstate, route: str) -> list[datetime]:
    """When a route was asked."""
    return [
        datetime.fromisoformat(entry["time"]).replace(tzinfo=UTC)
        for entry in azure.simulator.access_entries
        if entry["route"] == route
    ]


def gaps(moments: list[datetime]) -> list[float]:
    return [(later - earlier).total_seconds() for earlier, later in pairwise(moments)]


TWO = ("orders", "billing")


# -- crashes


def test_F01_crash_before_arm_call(estate: Estates) -> None:
    azure = estate(protected_estate(*TWO))
    make_it_echo(azure)
    azure.meter.plan.at["POST backup"] = "before"
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    assert azure.crashes == 1
    assert azure.mutations["Backup"] == 2  # the one that made it echo, and this one


def test_F01_crash_before_arm_call_in_a_vault_not_known_to_echo(estate: Estates) -> None:
    azure = estate(protected_estate(), Plan(at={"POST backup": "before"}))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "unknown"
    assert outcome["error"]["code"] == "outcome_unknown"
    assert azure.mutations["Backup"] == 0


@pytest.mark.parametrize(
    "effect", ["PUT VMAppContainer;Compute;rg-sql;sqlvm1", "PUT sqldatabase;mssqlserver;orders"]
)
def test_F02_crash_after_arm_202_before_enqueue(estate: Estates, effect: str) -> None:
    azure = estate(bare_estate(), Plan(at={effect: "after"}))
    outcome = one(run(azure, azure.protect("orders")))
    assert azure.crashes == 1
    assert outcome["status"] == "succeeded"
    assert azure.outcome(None)["protectionState"] == "IRPending"


def test_F03_crash_after_backup_post_202_before_enqueue(estate: Estates) -> None:
    azure = estate(protected_estate(), Plan(at={"POST backup": "after"}))
    outcome = one(run(azure, azure.backup("orders")))
    assert azure.crashes == 1
    assert outcome["status"] == "succeeded"
    assert [outcome["job"]["id"]] == azure.job_ids("Backup")
    assert is_marked(outcome["job"]["activityId"])


def test_F03_crash_after_restore_post_202_before_enqueue(estate: Estates) -> None:
    azure = estate(protected_estate(), Plan(at={"POST restore": "after"}))
    outcome = one(run(azure, azure.restore("orders")))
    assert azure.crashes == 1
    assert outcome["status"] == "succeeded"
    assert [outcome["job"]["id"]] == azure.job_ids("Restore")


@pytest.mark.parametrize("entity", ["select-items", "trigger-backup", "track"])
def test_F04_crash_after_enqueue_before_complete(estate: Estates, entity: str) -> None:
    azure = estate(protected_estate(), Plan(at={f"send {entity}": "after"}))
    outcome = one(run(azure, azure.backup("orders")))
    assert azure.crashes == 1
    assert outcome["status"] == "succeeded"
    assert azure.mutations["Backup"] == 1


def test_F05_crash_after_publish_before_complete(estate: Estates) -> None:
    baseline = estate(protected_estate())
    run(baseline, baseline.backup("orders"))
    last = max(number for number, name in enumerate(baseline.meter.effects) if name == "send job-outcomes")
    azure = estate(protected_estate(), Plan(crashes={last: "after"}))
    outcome = one(run(azure, azure.backup("orders")))
    assert azure.crashes == 1
    assert outcome["status"] == "succeeded"
    published = Counter(message.message_id for message in azure.bus.sent if message.entity == "job-outcomes")
    assert max(published.values()) == 2


# -- delivery


def test_F06_duplicate_delivery_after_a_lost_lock(estate: Estates) -> None:
    untouched = estate(protected_estate())
    run(untouched, untouched.backup("orders"))
    # The third call is the POST: its answer takes longer than the lock lasts.
    azure = estate(protected_estate(), Plan(slow={1: timedelta(seconds=301)}))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    assert azure.mutations["Backup"] == 1
    polls = Counter(entry["route"] for entry in azure.simulator.access_entries)
    allowed = Counter(entry["route"] for entry in untouched.simulator.access_entries)
    assert polls["GetJob"] <= allowed["GetJob"] + 1
    assert polls["OperationStatus"] <= allowed["OperationStatus"] + 1


def test_F06_no_post_is_sent_late(estate: Estates) -> None:
    # What is read before the restore takes more than half of the lock.
    azure = estate(protected_estate(), Plan(slow={2: timedelta(seconds=160)}))
    outcome = one(run(azure, azure.restore("orders")))
    assert outcome["status"] == "succeeded"
    assert azure.mutations["Restore"] == 1
    deliveries = [message for message in azure.bus.sent if message.entity == "trigger-restore"]
    assert len(deliveries) == 2, "it came back instead of sending late"


def test_F06_two_deliveries_at_the_same_time(estate: Estates) -> None:
    azure = estate(protected_estate())
    both = threading.Barrier(2, timeout=20)
    azure.submit(request := azure.backup("orders"))

    def meet(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if method == "POST" and not both.broken:
            # The second delivery runs while the first waits for its answer.
            second = threading.Thread(target=deliver_again, daemon=True)
            azure.clock.advance(timedelta(seconds=301))
            second.start()
            with suppress(threading.BrokenBarrierError):
                both.wait()
            both.abort()
            second.join(20)
        return answer

    def deliver_again() -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait()
        azure.host.run_until_idle()

    azure.meter.plan.mangle = meet
    azure.quiesce()
    azure.check()
    assert azure.outcome(request)["status"] == "succeeded"
    assert azure.mutations["Backup"] == 1


def test_F07_out_of_order(estate: Estates) -> None:
    untouched = estate(protected_estate(durations={"backup": 600}))
    run(untouched, untouched.backup("orders"))
    # Two polls are handled, and delivered again after those that follow them.
    azure = estate(protected_estate(durations={"backup": 600}), Plan(uncompleted={4: "later", 5: "later"}))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    asked, allowed = len(times(azure, "GetJob")), len(times(untouched, "GetJob"))
    assert asked <= allowed + 2, "a stale poll was the beginning of a second chain"


# -- throttling and failures of the service


@pytest.mark.parametrize(
    ("value", "least"),
    [
        ("45", 45),
        (format_datetime(datetime(2026, 1, 5, 8, 2, tzinfo=UTC), usegmt=True), 115),
        ("-5", 0.5),
        ("soon", 0.5),
        ("", 0.5),
        ("1e3", 0.5),
    ],
)
def test_F08_http_429_with_retry_after(estate: Estates, value: str, least: float) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "throttle", nth=1, retryAfter=value)]))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    (waited,) = gaps(times(azure, "Backup"))
    assert least <= waited <= least + 70


def test_F08_many_429_do_not_use_up_the_attempts(estate: Estates) -> None:
    faults = [fault("Backup", "throttle", nth=list(range(1, 30)), retryAfter=30)]
    azure = estate(protected_estate(faults=faults))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    assert min(gaps(times(azure, "Backup"))) >= 30


@pytest.mark.parametrize("value", [10**5, 10**9, "9" * 400])
def test_F08_http_429_with_a_retry_after_beyond_the_deadline(estate: Estates, value: Any) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "throttle", nth=1, retryAfter=value)]))
    began = azure.clock.now()
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert azure.clock.now() - began < MINUTE
    assert azure.mutations["Backup"] == 0


def test_F09_http_429_without_header(estate: Estates) -> None:
    faults = [fault("Backup", "throttle", nth=[1, 2, 3, 4, 5], retryAfter=None)]
    azure = estate(protected_estate(faults=faults))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    waits = gaps(times(azure, "Backup"))
    assert waits[4] > 2 * waits[0]
    assert max(waits) <= 62


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_F10_http_5xx_burst_on_reads(estate: Estates, status: int) -> None:
    faults = [
        fault(route, "status", nth=[1, 2, 3], status=status)
        for route in ("ListProtectedItems", "OperationStatus", "GetJob")
    ]
    azure = estate(protected_estate(faults=faults))
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"


def test_F10_http_5xx_burst_on_put(estate: Estates) -> None:
    faults = [
        fault("Register", "status", nth=[1, 2], status=503, code="ServerTimeout"),
        fault("ConfigureBackup", "statusAfterEffect", nth=1, status=500),
    ]
    azure = estate(bare_estate(faults=faults))
    assert one(run(azure, azure.protect("orders")))["status"] == "succeeded"


def test_F10_http_5xx_on_post_is_settled(estate: Estates) -> None:
    azure = estate(protected_estate(*TWO, faults=[fault("Backup", "status", nth=2, status=503)]))
    make_it_echo(azure)
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    first, second = times(azure, "Backup")[1:]
    assert second - first >= 2 * MINUTE
    assert azure.mutations["Backup"] == 2


@pytest.mark.parametrize("kind", ["dropAfterEffect", "delayAfterEffect", "statusAfterEffect", "htmlBody"])
@pytest.mark.parametrize("route", ["Backup", "Restore"])
def test_F11_timeout_after_server_accepted(estate: Estates, route: str, kind: str) -> None:
    details = {"seconds": 60} if kind.startswith("delay") else {}
    # A real time-out takes half a minute of real time: without the socket it is as good as one.
    scenario = protected_estate(faults=[fault(route, kind, nth=1, **details)])
    azure = estate(scenario, sockets=not details)
    request = azure.backup("orders") if route == "Backup" else azure.restore("orders")
    outcome = one(run(azure, request))
    assert outcome["status"] == "succeeded"
    assert [outcome["job"]["id"]] == azure.job_ids(route)


def test_F11_a_backup_that_did_not_start_is_sent_again_after_two_minutes(estate: Estates) -> None:
    azure = estate(protected_estate(*TWO, faults=[fault("Backup", "dropBeforeEffect", nth=2)]))
    make_it_echo(azure)
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"
    first, second = times(azure, "Backup")[1:]
    assert second - first >= 2 * MINUTE


def test_F11_a_restore_is_never_sent_again(estate: Estates) -> None:
    azure = estate(protected_estate(*TWO, faults=[fault("Restore", "dropBeforeEffect", nth=1)]))
    make_it_echo(azure)
    outcome = one(run(azure, azure.restore("orders")))
    assert outcome["status"] == "unknown"
    assert len(times(azure, "Restore")) == 1


def test_F11_a_backup_in_a_vault_that_does_not_echo(estate: Estates) -> None:
    lost = protected_estate(faults=[fault("Backup", "dropAfterEffect", nth=1)], echoActivityId=False)
    azure = estate(lost)
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded", "the only job that can be it is taken for it"
    assert azure.mutations["Backup"] == 1


def test_F11_a_backup_that_is_lost_three_times_is_given_up(estate: Estates) -> None:
    azure = estate(protected_estate(*TWO, faults=[fault("Backup", "dropBeforeEffect", nth=[2, 3, 4, 5, 6])]))
    make_it_echo(azure)
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert "attempt 3 of at most 3" in outcome["error"]["message"]
    assert len(times(azure, "Backup")) == 1 + 3


@pytest.mark.parametrize("route", ["ListProtectedItems", "OperationStatus", "GetJob", "Backup", "ListJobs"])
def test_F12_connection_reset_mid_body(estate: Estates, route: str) -> None:
    faults = [fault(route, "dropMidBody", nth=[1, 2, 3]), fault(route, "malformedBody", nth=4)]
    azure = estate(protected_estate(faults=faults))
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"
    assert azure.mutations["Backup"] == 1


BROKEN = ["malformedBody", "htmlBody", "wrongTypeBody", "emptyBody"]


@pytest.mark.parametrize("kind", BROKEN)
def test_F13_an_answer_that_cannot_be_one_of_the_service(estate: Estates, kind: str) -> None:
    azure = estate(protected_estate(faults=[fault("ListProtectedItems", kind)]))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert outcome["error"]["code"] == "ArmProtocol"
    assert len(outcome["error"]["message"]) < 1000
    assert len(times(azure, "ListProtectedItems")) == 5
    passing = estate(protected_estate(faults=[fault("ListProtectedItems", kind, nth=[1, 2, 3, 4])]))
    assert one(run(passing, passing.backup("orders")))["status"] == "succeeded"


@pytest.mark.parametrize("kind", BROKEN)
def test_F13_a_job_that_cannot_be_read_any_more_is_unknown(estate: Estates, kind: str) -> None:
    azure = estate(protected_estate(faults=[fault("GetJob", kind)]))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "unknown"
    assert azure.mutations["Backup"] == 1


@pytest.mark.parametrize("route", ["ListProtectedItems", "Backup", "OperationStatus", "GetJob"])
def test_F14_token_expired_mid_poll(estate: Estates, route: str) -> None:
    azure = estate(protected_estate(faults=[fault(route, "status", nth=[1, 3, 4], status=401)]))
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"
    assert azure.mutations["Backup"] == 1


REFUSAL = {"status": 403, "code": "AuthorizationFailed"}
NO_BACKUP = (
    "The client does not have authorization to perform action 'Microsoft.RecoveryServices/x/backup/action'."
)


def test_F15_forbidden_403_that_passes(estate: Estates) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "status", nth=[1, 2, 3], **REFUSAL)]))
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"


def test_F15_forbidden_403_that_lasts(estate: Estates) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "status", message=NO_BACKUP, **REFUSAL)]))
    began = azure.clock.now()
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert outcome["error"]["code"] == "not_authorised"
    assert "x/backup/action" in outcome["error"]["message"]
    assert 10 * MINUTE <= azure.clock.now() - began <= 12 * MINUTE


def test_F15_a_role_that_is_removed_while_a_job_runs(estate: Estates) -> None:
    later = list(range(3, 200))
    azure = estate(
        protected_estate(faults=[fault("GetJob", "status", nth=later, **REFUSAL)], durations={"backup": 7200})
    )
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "unknown", "the job goes on, whether or not this app may look at it"
    assert outcome["error"]["code"] == "not_authorised"


def test_F15_the_other_tracking_header_is_tried(estate: Estates) -> None:
    azure = estate(protected_estate(faults=[fault("OperationStatus", "status", **REFUSAL)]))
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"
    assert len(times(azure, "OperationStatus")) == 1
    azure = estate(bare_estate(faults=[fault("OperationResult", "status", **REFUSAL)]))
    assert one(run(azure, azure.protect("orders")))["status"] == "succeeded"
    assert times(azure, "OperationStatus")


# -- URLs that lead elsewhere


@contextmanager
def stranger() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody else's server on this machine: its address, and what it was sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    with connection:
                        heard.append(connection.recv(4096))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            done.set()
            thread.join(5)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "evil.example",
        "management.azure.com",
        "user@127.0.0.1",
        "127.0.0.1.evil.example",
        "\u0456localhost",
    ],
    ids=str,
)
@pytest.mark.parametrize("route", ["Backup", "Register"])
def test_F16_location_foreign_host(estate: Estates, route: str, host: str | None) -> None:
    with stranger() as (address, heard):
        lead = [fault(route, "foreignPollUrl", host=address if host is None else host)]
        azure = estate(protected_estate(faults=lead) if route == "Backup" else bare_estate(faults=lead))
        outcome = one(run(azure, azure.backup("orders") if route == "Backup" else azure.protect("orders")))
    assert outcome["status"] == ("unknown" if route == "Backup" else "failed")
    assert outcome["error"]["code"] == "ArmUrlRefused"
    assert not heard, "the stranger was spoken to"
    assert "t=" not in json.dumps(outcome) and "?" not in outcome["error"]["message"]


@pytest.mark.parametrize("route", ["ListProtectedItems", "Backup"])
def test_F16_redirect_to_a_foreign_host(estate: Estates, route: str) -> None:
    with stranger() as (address, heard):
        azure = estate(protected_estate(faults=[fault(route, "redirect", host=address)]))
        outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert not heard, "the stranger was spoken to"


@pytest.mark.parametrize(
    "change",
    [
        ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-0000000000ff"),
        ("/providers/", "/../../../subscriptions/x/"),
        ("/providers/", "/%2e%2e/"),
        ("/providers/", "/..%2f..%2f/"),
        ("/subscriptions/", "//evil.example/subscriptions/"),
        ("http://127.0.0.1", "https://127.0.0.1"),
    ],
    ids=lambda change: change[1],
)
def test_F17_location_other_subscription_or_vault(estate: Estates, change: tuple[str, str]) -> None:
    def mislead(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if method != "POST":
            return answer
        names = ("location", "azure-asyncoperation")
        led = {name: answer.headers[name].replace(*change, 1) for name in names if name in answer.headers}
        return replace(answer, headers={**answer.headers, **led})

    azure = estate(protected_estate(), Plan(mangle=mislead))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "unknown"
    assert outcome["error"]["code"] == "ArmUrlRefused"
    assert not times(azure, "OperationStatus") and not times(azure, "OperationResult")


def test_F18_both_headers_missing_on_202(estate: Estates) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "missingHeaders")]))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    assert [outcome["job"]["id"]] == azure.job_ids("Backup")
    azure = estate(bare_estate(faults=[fault("Register", "missingHeaders")]))
    outcome = one(run(azure, azure.protect("orders")))
    assert outcome["status"] == "failed"
    assert "named no URL" in outcome["error"]["message"]


@pytest.mark.parametrize("left_out", ["Location", "Azure-AsyncOperation"])
def test_F18_either_header_alone_works(estate: Estates, left_out: str) -> None:
    faults = [fault(route, "missingHeaders", headers=[left_out]) for route in ("Backup", "Restore")]
    azure = estate(protected_estate(faults=faults))
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"
    assert one(run(azure, azure.restore("orders")))["status"] == "succeeded"


# -- operations and jobs that end in every way, or do not


@pytest.mark.parametrize("kind", ["operationNeverEnds", "jobNeverEnds"])
def test_F19_operation_never_ends(estate: Estates, kind: str) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", kind)]))
    began = azure.clock.now()
    timeout = {"jobTimeout": "PT6H"}
    outcome = one(run(azure, azure.backup("orders", **timeout)))
    assert outcome["status"] == "timedOut"
    assert outcome["error"]["recommendations"], "it says what to do"
    limit = timedelta(hours=2 if kind == "operationNeverEnds" else 6)
    assert limit <= azure.clock.now() - began <= limit + 2 * MINUTE
    if kind == "jobNeverEnds":
        assert [outcome["job"]["id"]] == azure.job_ids("Backup")
    assert azure.mutations["Backup"] == 1


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("nth", [1, [1, 2], None], ids=["once", "twice", "always"])
def test_F20_operation_result_404_410(estate: Estates, status: int, nth: Any) -> None:
    details = {} if nth is None else {"nth": nth}
    faults = [
        fault(route, "status", status=status, **details) for route in ("OperationStatus", "OperationResult")
    ]
    azure = estate(protected_estate(faults=faults))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    assert [outcome["job"]["id"]] == azure.job_ids("Backup")
    azure = estate(bare_estate(faults=faults))
    assert one(run(azure, azure.protect("orders")))["status"] == "succeeded"


def test_F20_operation_result_204(estate: Estates) -> None:
    azure = estate(bare_estate(faults=[fault("OperationResult", "statusAfterEffect", status=204, nth=4)]))
    assert one(run(azure, azure.protect("orders")))["status"] == "succeeded"


def test_F21_job_completed_with_warnings(estate: Estates) -> None:
    warning = {"code": "UserErrorSlow", "errorCode": 5, "message": "It took its time."}
    azure = estate(protected_estate(faults=[fault("Backup", "jobWarning", **warning)]))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeededWithWarnings"
    assert "It took its time." in outcome["warnings"][0]
    assert "error" not in outcome


@pytest.mark.parametrize("spelling", [b"Cancelled", b"Canceled"])
def test_F22_job_cancelled(estate: Estates, spelling: bytes) -> None:
    def spell(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        return replace(answer, body=answer.body.replace(b'"Cancelled"', b'"' + spelling + b'"'))

    azure = estate(protected_estate(faults=[fault("Backup", "jobCancelled")]), Plan(mangle=spell))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "cancelled"


@pytest.mark.parametrize("route", ["OperationStatus", "GetJob"])
def test_F23_unknown_status_value(estate: Estates, route: str) -> None:
    azure = estate(
        protected_estate(faults=[fault(route, "unknownStatus", nth=[1, 2])], durations={"backup": 300})
    )
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"
    azure = estate(protected_estate(faults=[fault(route, "unknownStatus")]))
    outcome = one(run(azure, azure.backup("orders", jobTimeout="PT2H")))
    assert outcome["status"] == "timedOut"


@pytest.mark.parametrize(
    "code",
    [
        "UserErrorSQLLSNValidationFailure",
        "UserErrorBackupFailedAsTransactionLogIsFull",
        "UserErrorParentFullBackupMissing",
        "VMNotInRunningStateUserError",
        "UserErrorNobodyHasHeardOf",
    ],
)
def test_F24_job_failed_with_user_error(estate: Estates, code: str) -> None:
    failure = {"code": code, "errorCode": 7, "message": "It cannot be done.", "recommendations": ["Do this."]}
    azure = estate(protected_estate(faults=[fault("Backup", "jobFailure", **failure)]))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert outcome["error"]["code"] == code
    assert "It cannot be done." in outcome["error"]["message"]
    assert outcome["error"]["recommendations"]
    assert azure.mutations["Backup"] == 1


CONFLICT = {
    "code": "OperationCancelledBecauseConflictingOperationRunningUserError",
    "errorCode": 510008,
    "message": "Operation cancelled as a conflicting operation was already running on the same database.",
}


def test_F25_conflict_another_operation_in_progress(estate: Estates) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "jobFailure", nth=1, **CONFLICT)]))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"
    assert outcome["job"]["id"] == azure.job_ids("Backup")[1]


def test_F25_a_conflict_that_is_real(estate: Estates) -> None:
    azure = estate(protected_estate(durations={"backup": 3600, "restore": 600}))
    first, second = azure.backup("orders"), azure.backup("orders", backup_type="CopyOnlyFull")
    outcomes = run(azure, first, second, azure.restore("orders"))
    assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * 3


@pytest.mark.parametrize(
    "conflict",
    [fault("Backup", "jobFailure", **CONFLICT), fault("Backup", "status", status=409, code="Conflict")],
)
def test_F25_a_conflict_that_lasts_is_given_up_after_three(estate: Estates, conflict: JsonObject) -> None:
    azure = estate(protected_estate(faults=[conflict]))
    azure.submit(azure.backup("orders"))
    azure.quiesce()
    assert azure.outcome()["status"] == "failed"
    assert "attempt 3 of at most 3" in azure.outcome()["error"]["message"]
    assert len(times(azure, "Backup")) == 3


def test_F25_a_request_may_rather_be_skipped(estate: Estates) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "jobFailure", **CONFLICT)]))
    outcome = one(run(azure, azure.backup("orders", ifRunning="skip")))
    assert outcome["status"] == "skipped"


def test_F26_the_tenth_full_of_a_day(estate: Estates) -> None:
    azure = estate(protected_estate())
    for _ in range(9):
        assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"
    asked = len(times(azure, "Backup"))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert outcome["error"]["code"] == "quota_exhausted"
    assert "tomorrow" in outcome["error"]["recommendations"][0]
    assert len(times(azure, "Backup")) == asked + 1


def test_F27_container_already_registered(estate: Estates) -> None:
    azure = estate(bare_estate(*TWO))
    assert one(run(azure, azure.protect("orders")))["status"] == "succeeded"
    assert one(run(azure, azure.protect("billing")))["status"] == "succeeded"
    assert azure.mutations["Register"] == 1


def test_F27_container_registered_to_another_vault(estate: Estates) -> None:
    vaults = [{"name": "vault1"}, {"name": "secretvault"}]
    machines = [virtual_machine("sqlvm1", "orders", registeredTo="secretvault")]
    azure = estate({"vaults": vaults, "virtualMachines": machines})
    outcome = one(run(azure, azure.protect("orders")))
    assert outcome["status"] == "failed"
    assert "another vault" in outcome["error"]["message"]
    assert "secretvault" not in json.dumps(outcome)


def test_F28_db_already_protected(estate: Estates) -> None:
    vaults = [{"name": "vault1", "policies": [POLICY, "Other"]}]
    azure = estate(protected_estate(vaults=vaults))
    outcome = one(run(azure, azure.protect("orders")))
    assert outcome["status"] == "succeeded"
    assert outcome["protectionState"] == "Protected"
    outcome = one(run(azure, azure.protect("orders", policyName="Other")))
    assert outcome["error"]["code"] == "ProtectedByAnotherPolicy"
    assert azure.mutations["ConfigureBackup"] == 0


def test_F29_db_not_found_after_inquire(estate: Estates) -> None:
    azure = estate(bare_estate(*TWO))
    outcome = one(run(azure, azure.protect("payroll")))
    assert outcome["error"]["code"] == "DatabaseNotFound"
    assert "MSSQLSERVER/billing, MSSQLSERVER/orders" in outcome["error"]["message"]


def test_F29_two_vms_of_one_name(estate: Estates) -> None:
    machines = [
        virtual_machine("sqlvm1", "orders", resourceGroup="rg-a"),
        virtual_machine("sqlvm1", "orders", resourceGroup="rg-b"),
    ]
    azure = estate({"virtualMachines": machines})
    outcome = one(run(azure, azure.protect("orders", vmId=azure.vm_id("sqlvm1", "rg-b"))))
    assert outcome["status"] == "succeeded"
    (entry,) = [item for item in azure.simulator.ledger_entries if item["route"] == "ConfigureBackup"]
    assert "rg-b;sqlvm1" in entry["item"].lower()


def test_F30_extension_not_reachable(estate: Estates) -> None:
    failure = {"code": "WorkloadExtensionNotReachable", "message": "The extension cannot be reached."}
    azure = estate(bare_estate(faults=[fault("Inquire", "operationFailure", **failure)]))
    outcome = one(run(azure, azure.protect("orders")))
    assert outcome["status"] == "failed"
    assert outcome["error"]["code"] == "WorkloadExtensionNotReachable"
    assert "re-register" in outcome["error"]["recommendations"][0]


def test_F31_restore_target_exists(estate: Estates) -> None:
    azure = estate(protected_estate(*TWO))
    outcome = one(run(azure, azure.restore("orders", "billing")))
    assert outcome["status"] == "rejected"
    assert outcome["error"]["code"] == "TargetDatabaseExists"
    assert azure.mutations["Restore"] == 0


# -- messages


def test_F32_message_too_big(estate: Estates) -> None:
    essay = {"code": "UserErrorX", "errorCode": 7, "message": "All of it. " * 60_000}
    azure = estate(protected_estate(faults=[fault("Backup", "jobWarning", **essay)]))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeededWithWarnings"

    def talkative(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if "/backupJobs/" not in path:
            return answer
        body = json.loads(answer.body)
        body["properties"].setdefault("extendedInfo", {})["propertyBag"] = {
            f"{number} {'key' * 1000}": "value" * 2000 for number in range(200)
        }
        return replace(answer, body=json.dumps(body).encode())

    azure = estate(protected_estate(), Plan(mangle=talkative))
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded"


BAD = [
    b"",
    b"\xff\xfe",
    b"not JSON",
    b"[]",
    b"[" * 200_000,
    b'{"specversion": "1.0"}',
    b'{"specversion": "1.0", "type": "sqlvmbackup.backup.requested.v9", "source": "a", "id": "b", "data": {}}',
    b'{"specversion": "1.0", "type": "sqlvmbackup.backup.requested.v1", "source": "a", "id": "\\udc00"}',
    b'{"specversion": "1.0", "type": "sqlvmbackup.backup.requested.v1", "source": "a", "id": "b", "data": {"x": 1}}',
]


@pytest.mark.parametrize("queue", ["events", "backup-requests", "restore-requests"])
def test_F33_a_message_that_is_no_request(estate: Estates, queue: str) -> None:
    azure = estate(protected_estate())
    azure.broker.send(queue, [message_to(queue, body, f"bad-{number}") for number, body in enumerate(BAD)])
    outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "succeeded", "the others are unharmed"
    assert azure.host.failures == 0
    rejected = [event["data"] for event in azure.outcomes() if event["data"]["status"] == "rejected"]
    assert len(rejected) == len(BAD)
    assert sorted(item["body"] for item in azure.parked()) == sorted(BAD)


def test_F33_requests_at_the_brokers_limit(estate: Estates) -> None:
    azure = estate(protected_estate())
    request = azure.backup(
        "orders", exclude=[{"instance": "x" * 120, "database": f"{n:0>120}"} for n in range(900)]
    )
    assert len(json.dumps(request)) > 240_000
    outcome = one(run(azure, request))
    assert outcome["status"] in ("succeeded", "failed")


def test_F33_what_is_too_large_to_be_parked_is_answered_and_kept(estate: Estates) -> None:
    azure = estate(protected_estate())
    body = b"x" * (256 * 1024 - 200)
    azure.broker.send("backup-requests", [OutgoingMessage(entity="", body=body, message_id="huge")])
    azure.quiesce()
    told = [event["type"] for event in azure.events()]
    assert told == ["sqlvmbackup.request.rejected.v1"]
    (kept,) = azure.broker.peek("dead-letters/$deadletterqueue")
    assert kept.body == body


@contextmanager
def defective(step: str) -> Iterator[None]:
    """A step that fails on a defect of its own."""

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    sound = STEPS[step].run
    object.__setattr__(STEPS[step], "run", fail)
    try:
        yield
    finally:
        object.__setattr__(STEPS[step], "run", sound)


@pytest.mark.parametrize("step", ["select_items", "trigger_backup", "track"])
def test_F34_poison_message(estate: Estates, step: str) -> None:
    azure = estate(protected_estate())
    with defective(step):
        outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == ("failed" if step == "select_items" else "unknown")
    assert outcome["error"]["code"] == "failed_internal"
    assert len(azure.parked()) == 1
    assert azure.mutations["Backup"] == (1 if step == "track" else 0)
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"


# -- the bus


def test_F35_broker_down_on_publish_or_enqueue(estate: Estates) -> None:
    untouched = estate(protected_estate())
    run(untouched, untouched.backup("orders"))
    for number in range(untouched.meter.sends):
        azure = estate(protected_estate(), Plan(unavailable={number}))
        outcome = one(run(azure, azure.backup("orders")))
        assert outcome["status"] == "succeeded", number
        assert azure.mutations["Backup"] == 1, number


@pytest.mark.parametrize("databases", [("orders",), ("orders", "billing", "sales", "stock", "people")])
def test_F35_outcomes_wait_for_the_role_on_their_topic(estate: Estates, databases: tuple[str, ...]) -> None:
    plan = Plan(refused={"job-outcomes": 40 * len(databases)})
    azure = estate(protected_estate(*databases), plan)
    requests = [azure.backup(name) for name in databases]
    # Refused far more often than a message is delivered before it is a dead letter.
    azure.submit(*requests)
    azure.quiesce()
    azure.check()
    assert not plan.refused["job-outcomes"]
    assert [one(azure.outcomes_of(request))["data"]["status"] for request in requests] == (
        ["succeeded"] * len(databases)
    )
    assert azure.mutations["Backup"] == len(databases)


def test_F35_an_answer_waits_for_the_role_on_its_topic(estate: Estates) -> None:
    azure = estate(protected_estate(), Plan(refused={"job-outcomes": 40}))
    request = azure.backup("orders")
    del request["data"]["vaultId"]
    assert one(run(azure, request))["status"] == "rejected"


def test_F35_a_request_waits_for_the_role_on_its_first_queue(estate: Estates) -> None:
    azure = estate(protected_estate(), Plan(refused={"select-items": 40, "dead-letters": 40}))
    assert one(run(azure, azure.backup("orders")))["status"] == "succeeded"


@pytest.mark.parametrize("entity", ["job-outcomes", "track", "trigger-backup"])
def test_F35_an_entity_or_the_right_to_send_to_it_comes_late(estate: Estates, entity: str) -> None:
    azure = estate(protected_estate(), Plan(refused={entity: 40}))
    outcome = one(run(azure, azure.backup("orders")))
    assert (outcome["status"], azure.mutations["Backup"]) == ("succeeded", 1)
    assert azure.parked() == []


def test_F35_an_entity_that_never_comes_is_no_endless_loop(estate: Estates) -> None:
    azure = estate(protected_estate(), Plan(refused={"trigger-backup": 1_000_000}))
    outcome = one(run(azure, azure.backup("orders")))
    assert (outcome["status"], outcome["error"]["code"]) == ("failed", "failed_internal")
    assert azure.mutations["Backup"] == 0
    assert len(azure.parked()) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_F36_sender_link_stale_and_cross_thread_use() -> None:
    pytest.importorskip("proton", reason="python-qpid-proton is a development dependency")
    from local.broker import Broker
    from local.broker.amqp import AmqpDoor
    from shared.bus.service_bus import ServiceBusBus

    def message(number: int) -> OutgoingMessage:
        return OutgoingMessage(entity="track", body=b"{}", message_id=f"poll-{number}")

    with Broker(None) as broker, AmqpDoor(broker) as door:
        bus = ServiceBusBus.from_connection_string(door.connection_string)
        try:
            bus.send([message(0)])
            door.detach_links()
            bus.send([message(1)])
            door.drop_connections()
            bus.send([message(2)])
            errors: list[BaseException] = []

            def send(first: int) -> None:
                try:
                    for number in range(first, first + 5):
                        bus.send([message(number)])
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=send, args=(10 * index,)) for index in range(1, 9)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        finally:
            bus.close()
        assert not errors
        sent = Counter(item.message_id for item in broker.peek("track", 0, 500))
        assert len(sent) == 3 + 8 * 5
        assert set(sent.values()) == {1}


# -- clocks, timers, deployment


@pytest.mark.parametrize("minutes", [-10, 10])
def test_F37_clock_skew(estate: Estates, minutes: int) -> None:
    faults = [fault("Backup", "throttle", nth=1, retryAfter=30)]
    durations = []
    for skew in (minutes * MINUTE, timedelta()):
        each = estate(protected_estate(faults=faults), skew=skew)
        began = each.clock.now()
        outcome = one(run(each, each.backup("orders")))
        assert outcome["status"] == "succeeded"
        each.check_retry_after()
        durations.append((each.clock.now() - began).total_seconds())
    assert durations[0] == pytest.approx(durations[1], abs=90)


def test_F37_deadlines_are_the_services(estate: Estates) -> None:
    azure = estate(protected_estate(faults=[fault("Backup", "jobNeverEnds")]), skew=10 * MINUTE)
    began = azure.clock.now()
    assert one(run(azure, azure.backup("orders", jobTimeout="PT3H")))["status"] == "timedOut"
    assert azure.clock.now() - began == pytest.approx(timedelta(hours=3), abs=3 * MINUTE)


SCHEDULE = {
    "name": "Nightly",
    "schedule": "0 0 12 * * *",
    "backupType": "CopyOnlyFull",
    "databases": [{"instance": "*", "database": "*"}],
}


def test_F38_timer_double_fire_and_stall(estate: Estates) -> None:
    vault = estate(protected_estate()).vault_id
    settings = {"BACKUP_SCHEDULES": json.dumps([{**SCHEDULE, "vaultId": vault}])}
    azure = estate(protected_estate(), settings=settings)
    for _ in range(3):
        plan_backups(azure.runtime)
    azure.clock.advance(timedelta(hours=1))
    plan_backups(azure.runtime)
    azure.quiesce()
    assert azure.mutations["Backup"] == 1
    assert azure.outcome()["schedule"] == "Nightly"
    assert azure.outcome()["requestId"] == "Nightly/2026-01-05T12:00:00Z"
    plan_backups(azure.runtime)
    azure.clock.advance(timedelta(hours=30))
    azure.quiesce()
    late = azure.outcomes()[-1]["data"]
    assert late["status"] == "skipped"
    assert late["error"]["code"] == "TooLate"
    assert late["error"]["recommendations"], "it says what to do"


def test_F39_scale_in_during_step(estate: Estates) -> None:
    azure = estate(protected_estate())
    reached, go_on = threading.Event(), threading.Event()

    def pause(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if method == "POST":
            reached.set()
            assert go_on.wait(20)
        return answer

    azure.meter.plan.mangle = pause
    azure.submit(azure.backup("orders"))
    host = Host(
        the_functions(), azure.receiver, settings=HostSettings(), clock=azure.clock, timers=False, threads=2
    )
    host.start()
    assert reached.wait(20)
    # Told to stop while the answer is awaited: what runs may finish, nothing else begins.
    stopped = threading.Thread(target=host.stop, args=(timedelta(seconds=20),))
    stopped.start()
    go_on.set()
    stopped.join(30)
    assert not host.running
    azure.quiesce()
    azure.check()
    assert azure.outcome()["status"] == "succeeded"
    assert azure.mutations["Backup"] == 1


@pytest.mark.parametrize("step", ["trigger_backup", "track", "select_items"])
def test_F41_lost_chain(estate: Estates, step: str) -> None:
    azure = estate(protected_estate())
    queue = STEPS[step].queue
    azure.submit(request := azure.backup("orders"))
    for _ in range(200):
        before = azure.broker.counts("dead-letters")
        for message in azure.broker.receive(queue):
            azure.broker.dead_letter(queue, message.lock_token, "Lost", "by hand")
            break
        if azure.broker.counts("dead-letters") != before:
            break
        # One function at a time, so that the message is found in its queue.
        step_once(azure)
    azure.quiesce()
    azure.check()
    outcome = azure.outcome(request)
    assert outcome["error"]["code"] == "failed_internal"
    (parked,) = azure.parked()
    assert parked["originalQueue"] == queue
    # Sent again under a new epoch it goes on where it was, and does nothing twice.
    properties = {"epoch": 1}
    replayed = OutgoingMessage(
        entity=queue, body=parked["body"], message_id="again", application_properties=properties
    )
    azure.broker.send(queue, [replayed])
    azure.quiesce()
    (again,) = azure.outcomes_of(request, epoch=1)
    assert again["data"]["status"] == "succeeded"
    assert azure.mutations["Backup"] == 1


def step_once(azure: FaultyEstate) -> None:
    """Let one function handle one message."""
    for function in the_functions():
        assert isinstance(function, FunctionDefinition)
        if function.entity is not None and azure.broker.counts(function.entity).active:
            Host([function], azure.receiver, clock=azure.clock, timers=False).run_until_idle()
            return
    due = azure.broker.next_due()
    if due is not None:
        azure.clock.advance_to(due)


# -- many


def test_F42_thundering_herd(estate: Estates) -> None:
    names = [f"db{number:03}" for number in range(300)]
    limits = {
        "reads": {"bucket": 250, "perSecond": 25},
        "writes": {"bucket": 200, "perSecond": 10},
        "backupReads": {"bucket": 250, "perSecond": 0.83},
    }
    scenario = protected_estate(*names, throttling=limits, durations={"backup": 600})
    for machine in scenario["virtualMachines"]:
        for database in machine["instances"][0]["databases"]:
            database["historyDays"] = 0
    azure = estate(scenario, sockets=False)
    outcomes = run(azure, azure.backup("*"), azure.backup("db000", "db001", backup_type="CopyOnlyFull"))
    assert Counter(outcome["status"] for outcome in outcomes) == {"succeeded": 302}
    refused = [entry for entry in azure.simulator.access_entries if entry["status"] == 429]
    assert len(refused) <= 5, "the pace is that of the limits"
    ended = max(datetime.fromisoformat(outcome["endTime"]) for outcome in outcomes)
    began = min(datetime.fromisoformat(outcome["startTime"]) for outcome in outcomes)
    assert ended - began < timedelta(hours=1)


@pytest.mark.parametrize("kind", ["foreignNextLink", "nextLinkLoop"])
def test_F43_pagination_next_link(estate: Estates, kind: str) -> None:
    with stranger() as (address, heard):
        details = {"host": address} if kind == "foreignNextLink" else {}
        azure = estate(protected_estate(faults=[fault("ListProtectedItems", kind, **details)]))
        outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert outcome["error"]["code"] == ("ArmUrlRefused" if details else "ArmProtocol")
    assert not heard, "the stranger was spoken to"
    assert len(times(azure, "ListProtectedItems")) <= 10


def test_F43_a_list_without_end(estate: Estates) -> None:
    pages = iter(range(100_000))

    def more(method: str, path: str, answer: RawAnswer) -> RawAnswer:
        if not path.endswith("/backupProtectedItems"):
            return answer
        body = json.loads(answer.body)
        body["nextLink"] = f"http://127.0.0.1:9{path}?api-version=2024-04-01&page={next(pages)}"
        return replace(answer, body=json.dumps(body).encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.arm.client._MOST_PAGES", 300)
        azure = estate(protected_estate(), Plan(mangle=more), sockets=False)
        outcome = one(run(azure, azure.backup("orders")))
    assert outcome["status"] == "failed"
    assert "pages" in outcome["error"]["message"]


def test_F44_storm_of_duplicates(estate: Estates) -> None:
    azure = estate(protected_estate())
    request = azure.backup("orders")
    azure.submit(request)
    for number in range(1000):
        azure.send(request)
        if number % 100 == 0:
            azure.host.run_until_idle()
    events = [
        OutgoingMessage(entity="events", body=json.dumps(request).encode(), message_id=f"e{n}")
        for n in range(9)
    ]
    azure.broker.send("events", events)
    azure.quiesce()
    azure.check()
    azure.send(request)
    azure.quiesce()
    assert azure.outcome(request)["status"] == "succeeded"
    assert azure.mutations["Backup"] == 1
    assert len([message for message in azure.bus.sent if message.entity == "trigger-backup"]) == 1


CORPUS = {
    f"{path.stem}: {name}": entry
    for path in sorted(corpus.DIRECTORY.glob("*.json"))
    for name, entry in json.loads(path.read_text(encoding="utf-8")).items()
}


@pytest.mark.parametrize("entry", CORPUS.values(), ids=CORPUS)
def test_F40_deploy_while_jobs_in_flight(estate: Estates, entry: JsonObject) -> None:
    azure = estate(protected_estate(), sockets=False)
    definition = corpus.QUEUES[entry["queue"]]
    body = json.dumps(entry["body"]).encode()
    delivery = Delivery(queue=entry["queue"], body=body, taken=azure.clock.now())
    message = decode(definition, delivery, azure.runtime)
    assert message is not None
    # What was written by the old version is told from the rest just as before: no duplicate, nothing twice.
    assert message.message_id == entry["messageId"]
    assert message.client_request_id == entry["clientRequestId"]
    # Nothing that was written is lost.
    again = json.loads(message.model_dump_json(by_alias=True, exclude_none=True))
    assert lost(entry["body"], again) == []
    azure.broker.send(entry["queue"], [message_to(entry["queue"], body, entry["messageId"])])
    azure.quiesce()
    request = {"source": message.request.source, "id": message.request.id}
    assert azure.outcomes_of(request), "whoever waits is answered by the new version"


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """The fields of `before` that `after` does not have, or has otherwise."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [found for key in before for found in lost(before[key], after.get(key), f"{path}/{key}")]
    return [] if before == after else [path]


def test_F40_the_present_version_has_its_corpus() -> None:
    assert (corpus.DIRECTORY / f"version-{VERSION}.json").exists(), "run: python -m tests.faults.corpus"
    assert {entry["queue"] for entry in CORPUS.values()} == set(corpus.QUEUES)
