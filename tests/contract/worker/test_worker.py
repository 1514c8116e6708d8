"""The app in the platform's own worker for Python 3.13 and later, `azure-functions-runtime`, unmodified.

The worker indexes the app and calls its functions; the values of their triggers are encoded as the Functions host and
the Service Bus extension encode them (`local.host.trigger_values`). Only the two edges are not the platform's: the
classes of its protocol, which the host brings along, and the host.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from docs.generate import function_app, triggers
from functions import blueprints, packages
from local.broker import Broker
from local.broker.model import IncomingMessage
from local.host import trigger_values
from tests.faults.estate import FaultyEstate, Plan, bare_estate, open_faulty
from tests.unit.docs.markdown import ROOT

pytestmark = pytest.mark.skipif(sys.version_info < (3, 13), reason="the package is for Python 3.13 and later")


class Protocol:
    """The protocol's classes: each keeps what it is made with."""

    BindingInfo = type(
        "BindingInfo", (SimpleNamespace,), {"inout": "INOUT", "out": "OUT", "undefined": "UNDEFINED"}
    )
    StatusResult = type("StatusResult", (SimpleNamespace,), {"Success": "success", "Failure": "failure"})

    def __getattr__(self, name: str) -> type[SimpleNamespace]:
        return type(name, (SimpleNamespace,), {})


@dataclass(frozen=True)
class Loaded:
    """A function as the worker hands it to the host."""

    id: str
    name: str
    binding: dict[str, Any]

    @property
    def queue(self) -> str | None:
        return self.binding.get("queueName")

    @property
    def many(self) -> bool:
        return str(self.binding.get("cardinality", "one")).lower() == "many"

    @property
    def binary(self) -> bool:
        return str(self.binding.get("dataType", "")).lower() == "binary"


def initialised() -> Any:
    """The worker's answer to the host's first request: it indexes the app."""
    from azure_functions_runtime import worker_init_request

    asked = SimpleNamespace(capabilities={}, function_app_directory=str(ROOT))
    request = SimpleNamespace(
        request=SimpleNamespace(worker_init_request=asked),
        properties={"host": "127.0.0.1", "protos": Protocol()},
    )
    return asyncio.run(worker_init_request(request))


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: the app has not been imported, and its settings are not there."""
    monkeypatch.delitem(sys.modules, "function_app", raising=False)
    monkeypatch.setenv("WORKFLOWS", "")


@pytest.fixture
def worker(fresh: None) -> Iterator[list[Loaded]]:
    """The functions that the worker found."""
    from azure_functions_runtime import (
        functions_metadata_request,
        start_threadpool_executor,
        stop_threadpool_executor,
    )

    answer = initialised()
    assert answer.result.status == "success", answer.result
    assert "IncludeEmptyEntriesInMessagePayload" not in answer.capabilities
    assert answer.capabilities["TypedDataCollection"]
    start_threadpool_executor()
    found = asyncio.run(functions_metadata_request(None)).function_metadata_results
    yield [Loaded(item.function_id, item.name, json.loads(*item.raw_bindings)) for item in found]
    stop_threadpool_executor()


class WorkerHost:
    """Hands messages of the broker to the worker, one after the other, and settles them as the platform does."""

    def __init__(self, functions: list[Loaded], broker: Broker) -> None:
        self._functions = [function for function in functions if function.queue is not None]
        self._broker = broker
        self.failures: list[str] = []

    def run_until_idle(self) -> int:
        handled = 0
        while now := sum(self._one(function) for function in self._functions):
            handled += now
        return handled

    def _one(self, function: Loaded) -> bool:
        from azure_functions_runtime.native_invocation import run_invocation_sync

        queue = function.queue or ""
        messages = self._broker.receive(queue, 200 if function.many else 1)
        if not messages:
            return False
        data, metadata = (
            trigger_values.batch_data(messages, binary=function.binary)
            if function.many
            else trigger_values.single_data(messages[0], binary=function.binary)
        )
        inputs = [(function.binding["name"], data)]
        handled, succeeded, returned, output, error, _ = run_invocation_sync(
            str(uuid4()), function.id, inputs, metadata
        )
        assert handled, "a function that is no coroutine"
        assert (returned, output) == (None, [])
        if not succeeded:
            self.failures.append(f"{function.name}: {error}")
        for message in messages:
            (self._broker.complete if succeeded else self._broker.abandon)(queue, message.lock_token)
        return True


def in_worker(azure: FaultyEstate, functions: list[Loaded]) -> WorkerHost:
    """From now on the worker calls the functions."""
    host = WorkerHost(functions, azure.broker)
    azure.host = host  # type: ignore[assignment]
    return host


def test_the_worker_finds_every_function(worker: list[Loaded]) -> None:
    assert {item.name: item.queue or f"timer {item.binding['schedule']}" for item in worker} == triggers(
        function_app()
    )
    assert {item.name for item in worker if item.many} == {"track"}
    assert {item.name for item in worker if item.binary} == {"track"}
    assert {item.binding["connection"] for item in worker if item.queue} == {"ServiceBusConnection"}


def test_an_app_that_lacks_a_package_is_not_indexed_and_says_why(
    fresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blueprints, "require", lambda: packages.require(["cronsim", "no_such_package"]))
    with caplog.at_level(logging.CRITICAL, "azure_functions_runtime"):
        answer = initialised()
    assert answer.result.status == "failure"
    said = answer.result.exception.message
    assert said.startswith("MissingPackagesError: the app is not indexed")
    assert "there is no no_such_package. " in said
    assert "its messages stay in their queues" in said


def test_protect_back_up_and_restore_run_in_the_worker(worker: list[Loaded]) -> None:
    with open_faulty(bare_estate("orders", "billing", "payroll")) as azure:
        host = in_worker(azure, worker)
        for request in (
            azure.protect("orders", "billing", "payroll"),
            azure.backup(),
            azure.restore("orders", "orders_copy"),
        ):
            azure.submit(request)
            azure.quiesce()
            assert {outcome["data"]["status"] for outcome in azure.outcomes_of(request)} == {"succeeded"}
        assert host.failures == []
        azure.check()


def test_what_comes_in_wrong_is_answered_in_the_worker(worker: list[Loaded]) -> None:
    with open_faulty(bare_estate("orders")) as azure:
        host = in_worker(azure, worker)
        latin_1 = json.dumps({**azure.backup(), "id": "L\u00e4uft"}, ensure_ascii=False).encode("latin-1")
        for queue, body in (
            ("events", b""),
            ("events", b"\xff"),
            ("backup-requests", latin_1),
            ("backup-requests", latin_1.replace(b"\xe4", b"\xf6")),
            ("track", b""),
            ("track", b"\xff"),
            ("select-items", b"{}"),
            ("dead-letters", b""),
        ):
            azure.broker.send(queue, [IncomingMessage(body=body, message_id=None)])
        azure.quiesce()
        assert host.failures == []
        assert len(azure.parked()) == 8
        # One answer for the same bytes, unless the platform has replaced some of them.
        assert len(azure.outcomes()) == 6


def test_a_dead_letter_is_known_by_its_queue_in_the_worker_though_it_was_put_back(
    worker: list[Loaded],
) -> None:
    with open_faulty(bare_estate("orders"), Plan(refused={"job-outcomes": 2})) as azure:
        host = in_worker(azure, worker)
        message = IncomingMessage(
            body=json.dumps(azure.backup("orders")).encode(),
            message_id="expired",
            time_to_live=timedelta(milliseconds=1),
            application_properties={"DeadLetterSource": "trigger-restore", "deaths": 9},
        )
        azure.broker.send("backup-requests", [message])
        azure.clock.advance(timedelta(seconds=1))
        azure.quiesce()
        assert host.failures == []
        assert [outcome["type"] for outcome in azure.outcomes()] == ["sqlvmbackup.backup.failed.v1"]
        assert [parked["originalQueue"] for parked in azure.parked()] == ["backup-requests"]


def test_the_timer_is_called_in_the_worker(worker: list[Loaded]) -> None:
    from azure.functions.meta import Datum
    from azure_functions_runtime.native_invocation import run_invocation_sync

    (plan,) = [item for item in worker if item.name == "plan_backups"]
    with open_faulty(bare_estate("orders")):
        value = json.dumps({"IsPastDue": False})
        done = run_invocation_sync(str(uuid4()), plan.id, [("timer", Datum(value, "json"))], {})
    assert done[:2] == (True, True), done
