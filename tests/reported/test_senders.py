"""What a sender writes names no queue, no source, no epoch and no outcome: each queue's right goes as far as its own.

A requester has the right to send to one request queue, and may put anything there: any body, application
properties, content type, message id and time to live.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.embedded import open_broker
from cli.main import main
from cli.request_lines import read_request_lines
from local.broker import IncomingMessage
from local.estate import JsonObject
from shared.bus import OutgoingMessage
from shared.bus.topology import PARKED_MESSAGES
from shared.engine.message import Delivery
from shared.messages.identity import fingerprint
from shared.messages.reserved import is_reserved
from tests.faults import corpus
from tests.faults.estate import FaultyEstate, Plan, open_faulty, protected_estate

REQUEST_QUEUES: Final = ("protect-requests", "backup-requests", "restore-requests", "events")
VICTIM: Final = "/victim"


@contextmanager
def an_estate(settings: dict[str, str] | None = None) -> Iterator[FaultyEstate]:
    with open_faulty(protected_estate("orders", "billing"), settings=settings) as estate:
        yield estate


def put(
    estate: FaultyEstate,
    queue: str,
    body: Any,
    *,
    expires: bool = False,
    message_id: str = "a-sender's",
    **more: Any,
) -> None:
    """A message as any sender may make it; one that `expires` has done so before a function can take it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    life = timedelta(milliseconds=1) if expires else None
    estate.broker.send(queue, [IncomingMessage(body=raw, message_id=message_id, time_to_live=life, **more)])
    if expires:
        estate.clock.advance(timedelta(seconds=1))


def step_body(step: str, request: JsonObject, **changes: Any) -> JsonObject:
    """A message between steps as the app writes it, on behalf of a request."""
    version = max(corpus.DIRECTORY.glob("version-*.json"))
    body: JsonObject = json.loads(version.read_text(encoding="utf-8"))[step]["body"]
    named = {"operation": request["type"].split(".")[1], "source": request["source"], "id": request["id"]}
    return {**body, "request": {**body["request"], **named}, **changes}


def over_the_original(estate: FaultyEstate) -> JsonObject:
    """The step message of a restore over its original, as it would be if every setting allowed it."""
    request = estate.restore("orders") | {"source": "/mallory"}
    body = step_body("trigger_restore", request)
    body["payload"] |= {"target": {"kind": "original"}, "overwrite": True}
    return body


FORGED: Final = {"DeadLetterSource": "trigger-restore", "originalQueue": "trigger-restore", "epoch": 3}


@pytest.mark.parametrize("expires", [True, False], ids=["expires", "is rejected"])
@pytest.mark.parametrize("queue", REQUEST_QUEUES)
def test_who_may_send_requests_gets_no_restore_by_a_replay(queue: str, expires: bool) -> None:
    with an_estate() as estate:
        put(estate, queue, over_the_original(estate), expires=expires, application_properties=FORGED)
        estate.quiesce()
        assert {parked["originalQueue"] for parked in estate.parked()} == {queue}
        estate.replay()
        estate.quiesce()
        assert not estate.mutations
        assert {outcome["type"] for outcome in estate.outcomes()} == {"sqlvmbackup.request.rejected.v1"}


@pytest.mark.parametrize("operation", ["restore", "backup"])
def test_a_restore_is_held_to_the_settings_where_it_is_made(operation: str) -> None:
    """Whatever a message to the step says: who writes it may have found a way that nobody thought of."""
    with an_estate() as estate:
        body = over_the_original(estate)
        body["request"]["operation"] = operation
        if operation == "backup":
            harmless = step_body("trigger_restore", estate.restore("x"))["payload"]["target"]
            body["payload"] |= {"overwrite": False, "target": harmless}
        put(estate, "trigger-restore", body)
        estate.quiesce()
        assert not estate.mutations
        (outcome,) = estate.outcomes()
        assert outcome["data"]["status"] == "rejected"


def test_a_replay_is_held_to_the_settings_as_well() -> None:
    with an_estate() as estate:
        put(estate, "trigger-restore", over_the_original(estate), expires=True)
        estate.quiesce()
        assert [parked["originalQueue"] for parked in estate.parked()] == ["trigger-restore"]
        estate.replay()
        estate.quiesce()
        assert not estate.mutations
        assert estate.outcomes()[-1]["data"]["status"] == "rejected"


@pytest.mark.parametrize("step", ["trigger_backup", "trigger_backup, job", "select_items"])
@pytest.mark.parametrize("queue", REQUEST_QUEUES)
def test_an_outcome_cannot_be_forged_by_a_body_like_a_step_s(queue: str, step: str) -> None:
    with an_estate() as estate:
        request = estate.backup("orders") | {"source": VICTIM}
        put(estate, queue, step_body(step, request), expires=True)
        estate.quiesce()
        assert not estate.outcomes_of(request)
        estate.submit(request)
        estate.quiesce()
        assert [outcome["data"]["status"] for outcome in estate.outcomes_of(request)] == ["succeeded"]


@pytest.mark.parametrize("expires", [True, False], ids=["expires", "is rejected"])
@pytest.mark.parametrize("operation", ["protect", "backup", "restore"])
@pytest.mark.parametrize("queue", REQUEST_QUEUES)
def test_no_outcome_takes_the_place_of_anothers(queue: str, operation: str, expires: bool) -> None:
    with an_estate() as estate:
        victim = getattr(estate, operation)("orders") | {"source": VICTIM}
        forged = {**victim, "data": {**victim["data"], "colour": "blue"}}
        put(estate, queue, forged, expires=expires)
        estate.quiesce()
        elsewhere = queue not in (f"{operation}-requests", "events") or (queue, operation) == (
            "events",
            "restore",
        )
        if elsewhere:
            # Such requests do not come by this queue: what it names is nobody's request.
            (told,) = estate.outcomes()
            assert told["type"] == "sqlvmbackup.request.rejected.v1"
            assert told["data"]["requestId"] == victim["id"]
        before = {outcome["id"] for outcome in estate.outcomes()}
        estate.submit(victim)
        estate.quiesce()
        own = [event for event in estate.events() if event["id"] not in before]
        assert [event["type"].split(".")[2] for event in own if "accepted" in event["type"]] == ["accepted"]
        assert own[-1]["data"]["status"] == "succeeded"
        assert own[-1]["data"]["database"] == "orders"


def test_one_source_and_id_of_two_operations_are_two_requests() -> None:
    with an_estate() as estate:
        requests = [
            make("orders") | {"source": VICTIM, "id": "2026-01-05"}
            for make in (estate.protect, estate.backup, estate.restore)
        ]
        for request in requests:
            estate.submit(request)
            estate.quiesce()
        said = {(event["type"].split(".")[1], event["type"].split(".")[2]) for event in estate.events()}
        assert {(operation, "accepted") for operation in ("protect", "backup", "restore")} <= said
        assert {(operation, "succeeded") for operation in ("protect", "backup", "restore")} <= said
        assert len({event["id"] for event in estate.events()}) == len(estate.events())


def test_the_first_backup_of_a_protect_is_another_than_a_backup_of_its_source_and_id() -> None:
    bare = {"virtualMachines": protected_estate("orders")["virtualMachines"]}
    bare["virtualMachines"][0]["instances"][0]["databases"] = [{"name": "orders"}]
    with open_faulty({**protected_estate(), **bare}) as estate:
        key = {"source": VICTIM, "id": "2026-01-05"}
        estate.submit(estate.protect("orders", firstBackup="now") | key)
        estate.quiesce()
        estate.submit(estate.backup("orders") | key)
        estate.quiesce()
        assert estate.mutations["Backup"] == 2
        calls = [
            entry["clientRequestId"]
            for entry in estate.simulator.ledger_entries
            if entry["route"] == "Backup"
        ]
        assert len(set(calls)) == 2


def test_lines_of_a_file_are_told_apart_by_their_operation_too() -> None:
    with an_estate() as estate:
        same = {"source": VICTIM, "id": "2026-01-05"}
        lines = [json.dumps(make("orders") | same).encode() for make in (estate.backup, estate.restore)]
        assert [line.operation for line in read_request_lines(lines)] == ["backup", "restore"]
        outcomes = estate.run(*(json.loads(line) for line in lines))
        assert {outcome["data"]["operation"] for outcome in outcomes} == {"backup", "restore"}


@pytest.mark.parametrize("epoch", [1, 100_000, 999_999_999, "7", "9" * 9])
def test_no_requester_sets_an_epoch(epoch: int | str) -> None:
    with an_estate() as estate:
        request = estate.backup("orders")
        put(estate, "backup-requests", request, application_properties={"epoch": epoch})
        estate.quiesce()
        (outcome,) = estate.outcomes()
        assert (outcome["data"]["status"], outcome["data"]["epoch"]) == ("succeeded", 0)


@pytest.mark.parametrize("epoch", [0, -1, 10**6, 10**12, True, "2", "x"])
def test_an_epoch_without_bounds_is_refused_where_it_comes_in(epoch: object) -> None:
    with an_estate() as estate:
        properties: Any = {"originalQueue": "backup-requests", "epoch": epoch}
        put(estate, "replays", estate.backup("orders"), application_properties=properties)
        estate.quiesce()
        (outcome,) = estate.outcomes()
        assert outcome["type"] == "sqlvmbackup.request.rejected.v1"
        assert "epoch" in outcome["data"]["error"]["message"]
        assert not estate.mutations
        assert len(estate.parked()) == 1


def test_a_step_message_of_an_epoch_without_bounds_is_parked() -> None:
    with an_estate() as estate:
        body = step_body("trigger_backup", estate.backup("orders"))
        body["request"]["epoch"] = 999_999_999
        put(estate, "trigger-backup", body)
        estate.quiesce()
        assert not estate.mutations
        assert len(estate.parked()) == len(estate.outcomes()) == 1


@pytest.mark.parametrize(
    "source",
    ["sql-vm-backup-functions/schedules", "sql-vm-backup-functions/x", "SQL-VM-Backup-Functions/schedules"],
)
@pytest.mark.parametrize("queue", ["backup-requests", "events"])
def test_the_app_s_own_sources_are_refused(queue: str, source: str) -> None:
    with an_estate() as estate:
        put(estate, queue, estate.backup("orders") | {"source": source, "id": "Nightly/2026-01-05T12:00:00Z"})
        estate.quiesce()
        (outcome,) = estate.outcomes()
        assert outcome["type"] == "sqlvmbackup.request.rejected.v1"
        assert "source" in outcome["data"]["error"]["message"]
        assert not estate.mutations


def test_nobody_takes_the_place_of_a_planned_backup() -> None:
    from shared.intake.planning import plan_backups

    entry = {
        "name": "Nightly",
        "schedule": "0 0 12 * * *",
        "backupType": "Full",
        "databases": [{"instance": "MSSQLSERVER", "database": "orders"}],
        "vaultId": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-backup/providers"
        "/Microsoft.RecoveryServices/vaults/vault1",
    }
    with an_estate({"BACKUP_SCHEDULES": json.dumps([entry])}) as estate:
        plan_backups(estate.runtime)
        assert len(estate.broker.peek("select-items")) == 1
        for queue in REQUEST_QUEUES:
            for properties in ({}, {"schedule": "Nightly", "due": "2026-01-05T12:00:00Z"}):
                forged = estate.backup("billing") | {
                    "source": "sql-vm-backup-functions/schedules",
                    "id": "Nightly/2026-01-05T12:00:00Z",
                }
                put(
                    estate,
                    queue,
                    forged,
                    message_id=f"{queue}-{len(properties)}",
                    application_properties=properties,
                )
        estate.quiesce()
        (outcome,) = [event["data"] for event in estate.outcomes() if event["data"].get("schedule")]
        assert (outcome["status"], outcome["database"]) == ("succeeded", "orders")
        assert estate.mutations["Backup"] == 1


@pytest.mark.parametrize("deaths", [1, 4, 5, 6, 2**31 - 1])
@pytest.mark.parametrize("queue", ["backup-requests", "events"])
@pytest.mark.parametrize("put_back", [0, 2], ids=["at once", "put back twice"])
def test_an_expired_request_is_answered_however_often_it_says_that_it_died(
    queue: str, deaths: int, put_back: int
) -> None:
    with open_faulty(protected_estate("orders"), Plan(refused={"job-outcomes": put_back})) as estate:
        request = estate.backup("orders")
        put(estate, queue, request, expires=True, application_properties={"deaths": deaths})
        estate.quiesce()
        (outcome,) = estate.outcomes_of(request)
        assert outcome["data"]["error"]["code"] == "MessageExpired"
        assert estate.replay() == 1
        estate.quiesce()
        assert estate.outcomes()[-1]["data"]["status"] == "succeeded"


def test_a_request_by_events_and_by_its_own_queue_is_one() -> None:
    with an_estate() as estate:
        request = estate.backup("orders")
        for number, queue in enumerate(("events", "backup-requests", "events")):
            put(estate, queue, request, message_id=f"m{number}")
            estate.quiesce()
        assert estate.mutations["Backup"] == 1
        assert len(estate.outcomes()) == 1


def test_who_may_send_backup_requests_does_not_stop_those_that_come_by_events() -> None:
    """No message id of a request queue is one that the app would give."""
    with an_estate() as estate:
        request = estate.backup("orders") | {"source": VICTIM}
        (line,) = read_request_lines([json.dumps(request).encode()])
        put(estate, "backup-requests", b"garbage", message_id=line.message().message_id)
        put(estate, "events", request, message_id="chosen by the victim")
        estate.quiesce()
        assert [outcome["data"]["status"] for outcome in estate.outcomes_of(request)] == ["succeeded"]


def test_two_restores_of_one_key_are_one() -> None:
    """The key is operation, source and id, whichever database a second one names."""
    with an_estate() as estate:
        key = {"source": VICTIM, "id": "one"}
        for number, database in enumerate(("orders", "billing")):
            put(
                estate,
                "restore-requests",
                estate.restore(database, f"copy{number}") | key,
                message_id=f"m{number}",
            )
        estate.quiesce()
        assert estate.mutations["Restore"] == 1
        assert len(estate.outcomes()) == 1


# -- the command, for operators


@contextmanager
def parked(state: Path, *messages: OutgoingMessage) -> Iterator[None]:
    """A state folder whose broker holds these parked messages."""
    with open_broker(state) as broker:
        broker.send(PARKED_MESSAGES, messages)
    yield


def a_parked(body: bytes, **properties: Any) -> OutgoingMessage:
    given = {
        "originalQueue": "backup-requests",
        "epoch": 0,
        "reason": "InvalidRequest",
        "description": "d",
        **properties,
    }
    return OutgoingMessage(
        entity=PARKED_MESSAGES,
        body=body,
        message_id=fingerprint(body, properties),
        application_properties={name: value for name, value in given.items() if value is not None},
    )


BAD_ENTRIES: Final = {
    "no gzip": a_parked(b"{}", bodyEncoding="gzip"),
    "no queue": a_parked(b"{}", originalQueue=None),
    "a queue that is none": a_parked(b"{}", originalQueue="job-outcomes"),
    "its own queue": a_parked(b"{}", originalQueue="parked-messages"),
    "no epoch": a_parked(b"{}", epoch="many"),
    "an epoch without bounds": a_parked(b"{}", epoch=10**9),
}


@pytest.mark.parametrize("bad", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_one_bad_entry_harms_no_other(
    bad: OutgoingMessage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = a_parked(b'{"good": 1}', bodyEncoding=None)
    with parked(tmp_path, bad, good, replace(good, message_id="third", body=b'{"third": 1}')):
        where = ("--state", str(tmp_path))
        assert main(["replay", "list", *where]) == 1
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["description"].startswith("cannot be sent again: ") for row in rows] == [
            True,
            False,
            False,
        ]
        assert main(["replay", "show", "--all", *where]) == 1
        assert [json.loads(line)["body"] for line in capsys.readouterr().out.splitlines()] == [
            "{}",
            '{"good": 1}',
            '{"third": 1}',
        ]
        assert main(["replay", "send", "--all", *where]) == 1
        said = capsys.readouterr().err
        assert "1 is not sent again" in said
        assert "`replay show`" in said
        assert "2 of 3 sent again." in said
        with open_broker(tmp_path) as broker:
            assert [message.body for message in broker.peek("replays")] == [b'{"good": 1}', b'{"third": 1}']
            assert [message.body for message in broker.peek(PARKED_MESSAGES)] == [b"{}"]


def test_a_requester_cannot_spoil_what_is_parked(tmp_path: Path) -> None:
    with an_estate() as estate:
        spoiled = {"bodyEncoding": "gzip", "originalQueue": "x", "epoch": "y", "reason": "z", "mine": "kept"}
        put(estate, "events", b"garbage", application_properties=spoiled)
        estate.quiesce()
        (entry,) = estate.parked()
        assert (entry["originalQueue"], entry["epoch"], entry["reason"]) == ("events", 0, "InvalidRequest")
        assert "bodyEncoding" not in entry
        assert entry["mine"] == "kept"
        assert estate.replay() == 1


def test_equal_message_ids_of_different_queues_are_each_sent_again() -> None:
    with an_estate() as estate:
        for queue in REQUEST_QUEUES:
            put(estate, queue, b"garbage", message_id="fixed")
        put(estate, "events", b"more garbage", message_id="fixed too")
        estate.quiesce()
        assert estate.replay() == 5
        assert len(estate.broker.peek("replays")) == 5


@pytest.mark.parametrize("again", [False, True])
def test_what_is_older_than_the_vault_s_jobs_is_sent_again_on_request_only(
    again: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with an_estate() as estate:
        # Its work began in January of a year that has passed, whenever it was parked.
        body = json.dumps(step_body("trigger_backup", estate.backup("orders"))).encode()
    young = a_parked(b"{}")
    with parked(tmp_path, a_parked(body, originalQueue="trigger-backup"), young):
        arguments = ["replay", "send", "--all", "--state", str(tmp_path), *(["--again"] if again else [])]
        assert main(arguments) == (0 if again else 1)
        assert ("--again" in capsys.readouterr().err) is not again
        with open_broker(tmp_path) as broker:
            assert len(broker.peek("replays")) == (2 if again else 1)


HOSTILE: Final = "a\x1b[2J\x9b31m\u202egpj.exe\n2  restore-requests  \u2028 ok"


def test_what_is_parked_is_shown_without_being_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = a_parked(json.dumps(HOSTILE, ensure_ascii=False).encode(), reason=HOSTILE, description=HOSTILE)
    with parked(tmp_path, entry):
        for action in (["list"], ["list", "--no-json"], ["show", "1"], ["show", "1", "--no-json"]):
            main(["replay", *action, "--state", str(tmp_path)])
            out = capsys.readouterr().out
            assert all(character.isprintable() or character == "\n" for character in out), action
            if "--no-json" not in action:
                assert json.loads(out)["description"][: len(HOSTILE)] == HOSTILE
            elif action[0] == "list":
                assert not any(line.strip().startswith("2") for line in out.splitlines())


# -- whatever anybody sends

NAMES: Final = (
    *(
        "epoch",
        "reason",
        "description",
        "originalQueue",
        "originalMessageId",
        "bodyEncoding",
        "schedule",
        "due",
    ),
    *("scheduleDigest", "waited", "DeadLetterSource", "DeadLetterReason", "DeadLetterErrorDescription"),
    *("deadLetterSource", "EPOCH"),
)
VALUES: Final = (
    st.sampled_from(
        [1, 2, 10**9, "trigger-restore", "restore-requests", "track", "gzip", "TTLExpiredException"]
    )
    | st.integers(-5, 10**12)
    | st.text(max_size=8)
    | st.booleans()
)
RECIPES: Final = (
    *("theirs", "theirs spoiled", "a step's", "the app's", "an event", "any JSON", "any bytes", "a good one"),
)


@dataclass(frozen=True)
class Sent:
    """A message of somebody who may send to one queue."""

    recipe: str
    number: int
    properties: dict[str, Any]
    expires: bool
    content_type: str | None
    message_id: str


SENT: Final = st.builds(
    Sent,
    recipe=st.sampled_from(RECIPES),
    number=st.integers(0, 10**6),
    properties=st.dictionaries(st.sampled_from((*NAMES, "x-opt-deadletter-source", "x")), VALUES, max_size=4),
    expires=st.booleans(),
    content_type=st.sampled_from(["application/json", "application/cloudevents+json", "text/plain", None]),
    message_id=st.sampled_from(["as the command's", "a", "b", ""]),
)


def operation_of(request: JsonObject) -> str:
    return str(request["type"].split(".")[1])


def victims(estate: FaultyEstate) -> list[JsonObject]:
    """A request of each operation under one source and id."""
    key = {"source": VICTIM, "id": "2026-01-05"}
    return [
        estate.protect("orders") | key,
        estate.backup("orders") | key,
        estate.restore("billing", "copy") | key,
    ]


def takes(queue: str, request: JsonObject) -> bool:
    operation = operation_of(request)
    return queue == f"{operation}-requests" or (queue == "events" and operation != "restore")


def body_of(sent: Sent, estate: FaultyEstate, queue: str) -> Any:
    """What the sender writes; nothing that the queue's right covers, but requests on a VM that is not there."""
    foreign = [victim for victim in victims(estate) if not takes(queue, victim)]
    victim = foreign[sent.number % len(foreign)]
    steps = sorted(json.loads(max(corpus.DIRECTORY.glob("version-*.json")).read_text(encoding="utf-8")))
    match sent.recipe:
        case "theirs":
            return victim
        case "theirs spoiled":
            name = sorted(victim["data"])[sent.number % len(victim["data"])]
            return {**victim, "data": {**victim["data"], name: sent.number}}
        case "a step's":
            body = step_body(steps[sent.number % len(steps)], victim)
            body["request"]["epoch"] = sent.number % 4
            return body
        case "the app's":
            due = {"source": "sql-vm-backup-functions/schedules", "id": "Nightly/2026-01-05T12:00:00Z"}
            return {**victims(estate)[sent.number % 3], **due}
        case "an event":
            data = {
                "requestId": victim["id"],
                "requestSource": VICTIM,
                "outcomeKey": "request",
                "outcomeCount": 1,
            }
            return {**victim, "type": f"sqlvmbackup.{operation_of(victim)}.succeeded.v1", "data": data}
        case "any JSON":
            return [sent.number, {"request": victim}]
        case "a good one":
            own = next(request for request in victims(estate) if takes(queue, request))
            place = {"vaultId": estate.vault_id.replace("vault1", "vault2")}
            return {**own, "id": "mine", "data": {**own["data"], **place}}
    return sent.number.to_bytes(4, "big")


def attack(estate: FaultyEstate, queue: str, messages: Sequence[Sent]) -> None:
    for sent in messages:
        body = body_of(sent, estate, queue)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        message_id: str | None = sent.message_id or None
        if sent.message_id == "as the command's":
            (line,) = read_request_lines([json.dumps(victims(estate)[sent.number % 3]).encode()])
            message_id = line.message().message_id
        message = IncomingMessage(
            body=raw,
            message_id=message_id,
            content_type=sent.content_type,
            application_properties=sent.properties,
            time_to_live=timedelta(microseconds=1) if sent.expires else None,
        )
        estate.broker.send(queue, [message])


def heard(
    queue: str, messages: Sequence[Sent] = (), *, first: bool = False, again: bool = False
) -> JsonObject:
    """What the others hear of their requests, and what is done, when somebody sends this to a queue."""
    with an_estate() as estate:
        others = [victim for victim in victims(estate) if not takes(queue, victim)]
        if first:
            attack(estate, queue, messages)
        for victim in others:
            put(estate, f"{operation_of(victim)}-requests", victim, message_id="the victim's own")
        if not first:
            estate.host.run_until_idle()
            attack(estate, queue, messages)
        estate.quiesce()
        if again:
            estate.replay()
            estate.quiesce()
        assert estate.host.failures == 0
        assert {entry["originalQueue"] for entry in estate.parked()} <= {queue}
        assert {entry["epoch"] for entry in estate.parked()} <= {0, 1}
        told: dict[str, list[JsonObject]] = {operation_of(victim): [] for victim in others}
        for event in estate.events():
            if event["data"].get("requestSource") == VICTIM and operation_of(event) in told:
                told[operation_of(event)].append(without_job(event))
        return {**told, "done": sorted(estate.mutations.items())}


def without_job(event: JsonObject) -> JsonObject:
    """An event but for what names its job, which the simulator draws."""
    data = {name: value for name, value in event["data"].items() if name != "job"}
    named = {"id": ""} if event["type"].split(".")[2] == "started" else {}
    return {**event, **named, "data": data}


undisturbed = cache(heard)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    queue=st.sampled_from(REQUEST_QUEUES),
    messages=st.lists(SENT, min_size=1, max_size=4),
    first=st.booleans(),
    again=st.booleans(),
)
def test_a_sender_of_one_queue_touches_nobody_elses_request(
    queue: str, messages: list[Sent], first: bool, again: bool
) -> None:
    """No effect, no outcome, no delay: who asks for another operation hears what it would have, to the second.

    `again`: an operator sends everything that was parked once more.
    """
    assert heard(queue, messages, first=first, again=again) == undisturbed(queue)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    queue=st.sampled_from(REQUEST_QUEUES),
    messages=st.lists(SENT, min_size=1, max_size=3),
    again=st.booleans(),
)
def test_a_sender_of_one_queue_touches_no_other_request_of_that_queue(
    queue: str, messages: list[Sent], again: bool
) -> None:
    """In the same queue another source and id is enough."""
    with an_estate() as estate:
        mine = next(victim for victim in victims(estate) if takes(queue, victim)) | {"id": "another"}
        attack(estate, queue, messages)
        put(estate, queue, mine, message_id="the victim's own")
        estate.quiesce()
        if again:
            estate.replay()
            estate.quiesce()
        outcomes = [event for event in estate.outcomes() if event["data"].get("requestId") == "another"]
        assert [event["data"]["status"] for event in outcomes] == ["succeeded"]


@pytest.mark.parametrize("name", NAMES)
def test_reserved_names_are_reserved_in_any_case(name: str) -> None:
    assert is_reserved(name)
    assert is_reserved(name.upper())


@pytest.mark.parametrize("queue", REQUEST_QUEUES)
def test_no_function_sees_a_reserved_property_of_a_request(queue: str) -> None:
    properties = {**dict.fromkeys(NAMES, "x"), "mine": 1}
    with an_estate() as estate:
        taken = Delivery(queue=queue, body=b"", taken=estate.clock.now(), application_properties=properties)
        assert taken.application_properties == {"mine": 1}
