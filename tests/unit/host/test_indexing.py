"""Indexing: the app's functions as the platform's worker finds them, and clear errors where it would fail."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import List  # noqa: UP035

import azure.functions as func
import pytest

from local.host import IndexingError, index, load

CONNECTION = "ServiceBusConnection"


def an_app() -> func.FunctionApp:
    app = func.FunctionApp()

    @app.service_bus_queue_trigger(arg_name="message", queue_name="%QUEUE%", connection=CONNECTION)
    def step(message: func.ServiceBusMessage) -> None: ...

    @app.service_bus_queue_trigger(
        arg_name="messages", queue_name="track", connection=CONNECTION, cardinality="many"
    )
    def track(messages: List[func.ServiceBusMessage]) -> None: ...  # noqa: UP006 - the worker refuses list

    @app.service_bus_topic_trigger(
        arg_name="message", topic_name="job-outcomes", subscription_name="all", connection=CONNECTION
    )
    def outcome(message: func.ServiceBusMessage) -> None: ...

    @app.timer_trigger(arg_name="timer", schedule="0 */15 * * * *", run_on_startup=True)
    def plan(timer: func.TimerRequest) -> None: ...

    return app


def test_functions_are_found_with_their_triggers(caplog: pytest.LogCaptureFixture) -> None:
    app = an_app()
    for _ in range(2):  # an app can be indexed again
        functions = {function.name: function for function in index(app, {"QUEUE": "ensure-vault"})}
    assert {name: function.entity for name, function in functions.items()} == {
        "step": "ensure-vault",
        "track": "track",
        "outcome": "job-outcomes/subscriptions/all",
        "plan": "",
    }
    assert [name for name, function in functions.items() if function.batch] == ["track"]
    assert functions["plan"].schedule == "0 */15 * * * *"
    assert functions["plan"].run_on_startup
    assert not caplog.records  # the library's advice about HTTP keys is not for this app


def test_indexing_leaves_the_root_logger_as_it_was() -> None:
    before = list(logging.getLogger().handlers), list(logging.getLogger().filters)
    index(an_app(), {"QUEUE": "q"})
    assert (list(logging.getLogger().handlers), list(logging.getLogger().filters)) == before


def test_what_cannot_run_is_named() -> None:
    app = func.FunctionApp()

    @app.service_bus_queue_trigger(arg_name="message", queue_name="%NOT_SET%", connection=CONNECTION)
    def unresolved(message: func.ServiceBusMessage) -> None: ...

    @app.service_bus_queue_trigger(arg_name="message", queue_name="q", connection=CONNECTION)
    def misnamed(msg: func.ServiceBusMessage) -> None: ...

    @app.timer_trigger(arg_name="timer", schedule="0 0 0 * * *")
    def mistyped(timer: func.ServiceBusMessage) -> None: ...

    @app.service_bus_queue_trigger(
        arg_name="batch", queue_name="q", connection=CONNECTION, cardinality="many"
    )
    def builtin(batch: list[func.ServiceBusMessage]) -> None: ...

    with pytest.raises(IndexingError) as caught:
        index(app, {})
    message = str(caught.value)
    assert message.startswith("0 functions found: ")
    assert "setting NOT_SET is named by its trigger and not set" in message
    assert "its trigger fills parameter message, but it takes msg" in message
    assert "function mistyped: parameter timer is annotated" in message
    assert "for a batch it takes typing.List[func.ServiceBusMessage] only" in message


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_like_this", "importing broken_app failed with ModuleNotFoundError"),
        ("1 +", "importing broken_app failed with SyntaxError"),
        ("x = 1", "broken_app holds 0 objects"),
        ("import azure.functions as f\napp = f.FunctionApp()", "the app registers none"),
    ],
)
def test_a_bad_app_is_one_clear_error(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_app.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_app", raising=False)
    with pytest.raises(IndexingError, match=r"^0 functions found: ") as caught:
        load("broken_app", {})
    assert reason in str(caught.value)
    sys.modules.pop("broken_app", None)
