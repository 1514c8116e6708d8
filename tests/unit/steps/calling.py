"""Steps as the tests of this package call them: what a step is given, and the call that it returns."""

from __future__ import annotations

from typing import Any

from shared.clock import MachineTime, ServiceTime
from shared.engine.message import Payload, StepMessage
from shared.engine.result import Call, Collaborators, Continue, End, Result
from shared.listing_cache import ItemCache
from shared.messages.events import ErrorInfo, OutcomeData
from shared.messages.requests import Operation
from shared.settings import Settings
from tests.fakes.azure_backup import FakeAzureBackup
from tests.unit.examples import NOW, request

#: The client request id that tests make calls with.
REQUEST_ID = "11111111-1111-8111-8111-111111111111"


def collaborators(
    azure: FakeAzureBackup,
    *,
    now: ServiceTime = NOW,
    settings: Settings | None = None,
    reads: bool = True,
    items: ItemCache | None = None,
) -> Collaborators:
    """What a step is given; `reads`: whether more than half of its hourly budget is left."""
    return Collaborators(
        azure=azure,
        settings=settings or Settings(),
        now=lambda: now,
        machine_now=lambda: MachineTime(now),
        items=items or ItemCache(),
        may_read_more=lambda _action: reads,
    )


def message_to(step: str, payload: Payload, operation: Operation, **changes: Any) -> StepMessage[Any]:
    """A message to a step; `request`: changes of its request."""
    fields: dict[str, Any] = {
        "step": step,
        "sender": "request",
        "at": NOW,
        "since": NOW,
        "request": request(operation=operation, **changes.pop("request", {})),
        "payload": payload,
    }
    return StepMessage[Any](**{**fields, **changes})


def made(azure: FakeAzureBackup, result: Result) -> tuple[str, dict[str, Any], Any]:
    """Make the call that a step returned: its name, its arguments, and the answer."""
    assert isinstance(result, Call), result
    before = len(azure.calls)
    answer = result.make(azure, REQUEST_ID)
    (call,) = azure.calls[before:]
    assert call.arguments.pop("client_request_id") == REQUEST_ID
    return call.name, call.arguments, answer


def refused(result: Any) -> tuple[str, str]:
    """The status and the error code that a step ends with."""
    assert isinstance(result, End), result
    assert result.error is not None
    return result.status.value, result.error.code


def text_of(result: Any) -> str:
    """The message of the error that a step ends with."""
    assert isinstance(result, End), result
    assert result.error is not None
    return result.error.message


def following(result: Any) -> tuple[str, Any]:
    """The one step that a step goes on to, and the payload for it."""
    assert isinstance(result, Continue), result
    (to,) = result.to
    return to.step, to.payload


def certain_failures(result: Any) -> dict[str, ErrorInfo]:
    """The errors of the outcomes that come with a selection, by the names of their databases."""
    assert isinstance(result, Continue), result
    outcomes = [event.data for event in result.events if isinstance(event.data, OutcomeData)]
    return {data.database: data.error for data in outcomes if data.database and data.error}
