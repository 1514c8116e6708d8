"""Managed run commands of the simulator, as recordings and documentation have them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from local.simulator import Scenario, Simulator
from local.simulator.http_messages import Request
from shared.clock import SteppedClock
from tests.e2e.drills import DRILL_VM, drill_estate, drill_machine

ORIGIN = "http://127.0.0.1:9"


class Machine:
    """The drill VM of an estate, asked as any client would."""

    def __init__(self, **details: Any) -> None:
        faults = details.pop("faults", [])
        scenario = Scenario.model_validate(drill_estate(drills=drill_machine(**details), faults=faults))
        self.clock = SteppedClock(scenario.start_time)
        self.simulator = Simulator(scenario, clock=self.clock)

    def ask(self, method: str, path: str, body: Any = None, *, query: str = "api-version=2024-07-01") -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        path = path if path.startswith("/subscriptions") else f"{DRILL_VM}/runCommands{path}"
        headers = {"authorization": "Bearer local-simulator"}
        response = self.simulator.handle(Request(method, path, query, headers, content, ORIGIN))
        answer = json.loads(response.body) if response.body else None
        return response.status, {name.lower(): value for name, value in response.headers}, answer

    def put(self, name: str = "/c", script: str = "exit 0", **properties: Any) -> Any:
        body = {"location": "westeurope", "properties": {"source": {"script": script}, **properties}}
        return self.ask("PUT", name, body)

    def view(self, name: str = "/c") -> Any:
        _, _, body = self.ask("GET", name, query="$expand=instanceView&api-version=2024-07-01")
        return body["properties"]["instanceView"]

    def wait(self, **duration: float) -> None:
        self.clock.advance(timedelta(**duration))


def test_a_put_is_answered_before_the_script_has_run_and_read_with_its_instance_view() -> None:
    machine = Machine()
    status, headers, body = machine.put(asyncExecution=True)
    assert (status, body["properties"]["provisioningState"]) == (201, "Creating")
    assert "location" not in headers
    assert headers["azure-asyncnotification"] == "Enabled"
    url = headers["azure-asyncoperation"].removeprefix(ORIGIN)
    path, _, query = url.partition("?")
    assert machine.ask("GET", path, query=query)[2]["status"] == "InProgress"
    assert machine.view()["executionState"] == "Pending"
    machine.wait(minutes=1)
    assert machine.ask("GET", path, query=query)[2]["status"] == "Succeeded"
    assert machine.view()["executionState"] == "Succeeded"
    assert machine.view()["endTime"].endswith("+00:00")
    assert "instanceView" not in machine.ask("GET", "/c")[2]["properties"]
    _, _, listed = machine.ask("GET", "", query="$expand=instanceView&api-version=2024-07-01")
    assert [each["name"] for each in listed["value"]] == ["c"]


def test_the_same_script_again_runs_nothing_and_shows_what_ran_before() -> None:
    machine = Machine()
    machine.put(asyncExecution=True)
    machine.wait(minutes=1)
    before = machine.view()
    status, _, body = machine.put(asyncExecution=True, parameters=[{"name": "attempt", "value": "2"}])
    assert (status, body["properties"]["provisioningState"]) == (200, "Updating")
    machine.wait(minutes=1)
    assert machine.view() == before
    machine.put(script="exit 1", asyncExecution=True)
    machine.wait(minutes=1)
    assert machine.view()["startTime"] != before["startTime"]


def test_a_machine_has_twenty_five_and_a_bucket_of_twelve_updates() -> None:
    machine = Machine(runCommands=[f"c{number}" for number in range(24)])
    assert machine.put("/last")[0] == 201
    status, _, body = machine.put("/one-more")
    assert status == 400
    assert "max=25, current=25" in body["error"]["message"]
    assert [machine.ask("DELETE", f"/c{number}")[0] for number in range(11)] == [202] * 10 + [429]
    machine.wait(minutes=1)
    assert machine.ask("DELETE", "/c10")[0] == 202


def test_a_delete_takes_a_while_and_ends_what_runs() -> None:
    machine = Machine(faults=[{"route": "PutRunCommand", "fault": "scriptNeverEnds"}])
    machine.put(asyncExecution=True, timeoutInSeconds=3600)
    machine.wait(minutes=2)
    assert machine.view()["executionState"] == "Running"
    status, headers, _ = machine.ask("DELETE", "/c")
    assert status == 202
    assert headers["location"].endswith("&monitor=true")
    assert machine.ask("GET", "/c")[2]["properties"]["provisioningState"] == "Deleting"
    machine.wait(minutes=1)
    assert machine.ask("GET", "/c")[0] == 404
    assert machine.ask("DELETE", "/c")[0] == 204


def test_a_script_that_hangs_is_ended_by_its_time() -> None:
    machine = Machine(faults=[{"route": "PutRunCommand", "fault": "scriptNeverEnds"}])
    machine.put(asyncExecution=True, timeoutInSeconds=600)
    machine.wait(minutes=9)
    assert machine.view()["executionState"] == "Running"
    machine.wait(minutes=3)
    assert machine.view()["executionState"] == "TimedOut"


def test_a_machine_that_is_stopped_or_whose_agent_is_not_ready_runs_nothing() -> None:
    assert Machine(running=False).put()[0] == 409
    machine = Machine(agentReady=False)
    assert machine.put(asyncExecution=True)[0] == 201
    machine.wait(hours=5)
    assert machine.view()["executionState"] == "Pending"
    assert "startTime" not in machine.view()
