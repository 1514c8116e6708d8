"""The whole app end to end: simulator over real HTTP, broker, host and functions, on one stepped clock.

`estate` is the fixture; `Estate.run` sends requests and steps the clock from one due moment to the next until
every outcome is there, so that hours of the service pass in milliseconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from cli.awaited_requests import AwaitedRequests
from cli.request_lines import read_request_lines
from local.estate import Estate as SteppedEstate
from local.estate import JsonObject, NeverEndedError, ask_by_hand
from local.simulator import Scenario
from shared.bus import OutgoingMessage

SOURCE = "/tests"
POLICY = "HourlyLogBackup"
INSTANCE = "MSSQLSERVER"
#: Fewer polls: what is tested here does not hang on how often.
FEW_POLLS = {"TRACK_INTERVAL": "PT30S"}


class Estate(SteppedEstate):
    """One simulated Azure with the app beside it, and the requests that tests make."""

    def __init__(self, scenario: Scenario, settings: Mapping[str, str] | None = None, **details: Any) -> None:
        super().__init__(scenario, {**FEW_POLLS, **(settings or {})}, **details)
        self._ids = count(1)

    # -- requests

    def request(self, operation: str, data: Mapping[str, Any], **attributes: Any) -> JsonObject:
        """A request as a CloudEvent; attributes override its envelope."""
        return {
            "specversion": "1.0",
            "type": f"sqlvmbackup.{operation}.requested.v1",
            "source": SOURCE,
            "id": f"{operation}-{next(self._ids)}",
            "data": {"vaultId": self.vault_id, **data},
            **attributes,
        }

    def protect(self, *databases: str, vm: str = "sqlvm1", **data: Any) -> JsonObject:
        """Protect databases of the default instance; all where none is named."""
        fields = {"vmId": self.vm_id(vm), "policyName": POLICY, "databases": selectors(databases)}
        return self.request("protect", {**fields, **data})

    def backup(self, *databases: str, backup_type: str = "Full", **data: Any) -> JsonObject:
        """Back up databases of the default instance; all where none is named."""
        return self.request("backup", {"databases": selectors(databases), "backupType": backup_type, **data})

    def restore(self, database: str, to: str | None = None, *, vm: str = "sqlvm1", **data: Any) -> JsonObject:
        """Restore a database of the default instance to another name; its newest moment."""
        target = {"kind": "alternate", "vmId": self.vm_id(vm), "instance": INSTANCE}
        if to is not None:
            target["database"] = to
        fields = {
            "vmId": self.vm_id(vm),
            "instance": INSTANCE,
            "database": database,
            "recoveryPoint": {"latest": "any"},
            "target": target,
        }
        return self.request("restore", {**fields, **data})

    def coverage(self, **data: Any) -> JsonObject:
        """How the databases of the first vault stand."""
        request = self.request("coverage", {"vaultIds": [self.vault_id], **data})
        del request["data"]["vaultId"]
        return request

    # -- what somebody does in the portal

    def by_hand(self, method: str, path: str, body: JsonObject | None = None) -> None:
        """Call a path of the first vault as somebody does in the portal."""
        answer = ask_by_hand(self.simulator, method, self.vault_id + path, body)
        assert answer.status < 300, answer.body

    def back_up_by_hand(self, database: str, instance: str = INSTANCE) -> None:
        """Take a full backup of a protected database of the first VM in the portal."""
        full = {"objectType": "AzureWorkloadBackupRequest", "backupType": "Full"}
        self.by_hand("POST", f"{item_path(database, instance)}/backup", {"properties": full})

    # -- running

    def send(self, *requests: JsonObject | bytes) -> AwaitedRequests:
        """Put requests (or any bytes) on the queues of their types, as `sqlvmbackup run` does."""
        lines = read_request_lines(
            request if isinstance(request, bytes) else json.dumps(request).encode() for request in requests
        )
        for line in lines:
            message = line.message()
            self.broker.send(message.entity, [message])
        return AwaitedRequests(lines)

    def run(self, *requests: JsonObject | bytes, within: timedelta = timedelta(days=30)) -> list[JsonObject]:
        """Send requests, step the clock until all their outcomes are there, and give those."""
        return self.finish(self.send(*requests), within=within)

    def finish(self, awaited: AwaitedRequests, *, within: timedelta = timedelta(days=30)) -> list[JsonObject]:
        """Step the clock until all outcomes are there, and give those."""
        until = self.clock.now() + within
        seen = 0

        def complete() -> bool:
            nonlocal seen
            events = self.events()
            for event in events[seen:]:
                awaited.observe(event)
            seen = len(events)
            return awaited.complete

        self.step_until(complete, until=until)
        return list(awaited.final_outcomes())

    def step_until(self, done: Callable[[], bool], *, until: datetime | None = None) -> None:
        """Step until `done`; NeverEndedError where it does not come to that."""
        if not self.step(done, until=until):
            when = "nothing is left to do" if self.broker.next_due() is None else f"it is past {until}"
            raise NeverEndedError(f"{when}, and it is not done; parked: {self.parked()}")


def item_path(database: str, instance: str = INSTANCE) -> str:
    """The path of a protected database of the first VM, below its vault."""
    container = "/backupFabrics/Azure/protectionContainers/VMAppContainer;Compute;rg-sql;sqlvm1"
    return f"{container}/protectedItems/SQLDataBase;{instance.lower()};{database}"


def selectors(databases: Sequence[str]) -> list[JsonObject]:
    """Databases of the default instance; all where none is named."""
    return [{"instance": INSTANCE, "database": name} for name in (databases or ("*",))]


def virtual_machine(name: str, *databases: str | JsonObject, **details: Any) -> JsonObject:
    """A VM of a scenario with one instance and these databases."""
    listed = [{"name": item} if isinstance(item, str) else item for item in databases]
    return {"name": name, "instances": [{"name": INSTANCE, "databases": listed}], **details}


def statuses(outcomes: Sequence[JsonObject]) -> Counter[str]:
    """How many outcomes there are, by status."""
    return Counter(outcome["data"]["status"] for outcome in outcomes)


def by_database(outcomes: Sequence[JsonObject]) -> dict[str, JsonObject]:
    """The data of outcomes, by the names of their databases."""
    return {outcome["data"]["database"]: outcome["data"] for outcome in outcomes}


def error_of(outcome: JsonObject) -> tuple[str, str, str]:
    """The status, the code and the message of an outcome that did not succeed."""
    data = outcome["data"]
    return data["status"], data["error"]["code"], data["error"]["message"]


@contextmanager
def open_estate(
    scenario: Mapping[str, Any] | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Estate]:
    """An estate that is closed at the end; `scenario` as in a scenario file, `settings` as app settings."""
    with Estate(Scenario.model_validate(dict(scenario or {})), settings) as opened:
        yield opened


OpenEstate = Callable[..., Estate]


@pytest.fixture
def estate() -> Iterator[OpenEstate]:
    """Opens estates: `estate(scenario, settings)`."""
    with ExitStack() as stack:
        yield lambda scenario=None, settings=None: stack.enter_context(open_estate(scenario, settings))


def message_to(entity: str, body: bytes, message_id: str, **details: Any) -> OutgoingMessage:
    """A message as any sender would make it."""
    return OutgoingMessage(entity=entity, body=body, message_id=message_id, **details)


__all__ = [
    "INSTANCE",
    "POLICY",
    "SOURCE",
    "Estate",
    "NeverEndedError",
    "OpenEstate",
    "by_database",
    "error_of",
    "estate",
    "item_path",
    "message_to",
    "open_estate",
    "selectors",
    "statuses",
    "virtual_machine",
]
