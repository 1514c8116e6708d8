"""Which functions an app has: those of every workflow, and those of the workflows it serves."""

import os
from collections.abc import Callable, Mapping
from typing import Final, List  # noqa: UP035 - the platform's worker takes no other annotation for a batch

import azure.functions as func

from functions.packages import require
from shared.bus.topology import SHARED_STEPS
from shared.triggers import plan, report, run_step, run_tracker, take_replay, take_request

#: What adds a function of a name to a blueprint.
Add = Callable[[func.Blueprint, str], None]


def _queue(queue: str, handle: Callable[[func.ServiceBusMessage], None]) -> Add:
    """A function that handles each message of a queue."""

    def add(blueprint: func.Blueprint, name: str) -> None:
        @blueprint.function_name(name)
        @blueprint.service_bus_queue_trigger(
            arg_name="message", queue_name=queue, connection="ServiceBusConnection"
        )
        def receive(message: func.ServiceBusMessage) -> None:
            handle(message)

    return add


def _requests(queue: str) -> Add:
    """A function that takes requests to their workflow's first step, or rejects them with every problem named."""
    return _queue(queue, lambda message: take_request(queue, message))


def _step(blueprint: func.Blueprint, name: str) -> None:
    """A function that does one step; its queue is named after it."""
    _queue(name.replace("_", "-"), lambda message: run_step(name, message))(blueprint, name)


def _timer(blueprint: func.Blueprint, name: str) -> None:
    """A function that plans the next day: each occurrence is a scheduled message; planning twice changes nothing."""

    @blueprint.function_name(name)
    @blueprint.timer_trigger(
        arg_name="timer", schedule="0 */15 * * * *", run_on_startup=False, use_monitor=True
    )
    def fire(timer: func.TimerRequest) -> None:
        plan(name, past_due=timer.past_due)


def _track(blueprint: func.Blueprint, name: str) -> None:
    """A function that polls once for each message of a batch; what has not ended polls again after a delay."""

    @blueprint.function_name(name)
    @blueprint.service_bus_queue_trigger(
        arg_name="messages",
        queue_name="track",
        connection="ServiceBusConnection",
        cardinality=func.Cardinality.MANY,
        # As strings, the platform leaves out what is empty, and the library fails for the whole batch.
        data_type=func.DataType.BINARY,
    )
    def receive(messages: List[func.ServiceBusMessage]) -> None:  # noqa: UP006
        run_tracker(messages)


#: Functions by workflow; `every` is always there.
FUNCTIONS: Final[dict[str, dict[str, Add]]] = {
    "every": {
        "receive_event": _requests("events"),
        "receive_replay": _queue("replays", take_replay),
        "track": _track,
        "report_dead_letter": _queue("dead-letters", report),
    },
    "protect": {
        "receive_protect_request": _requests("protect-requests"),
        "ensure_vault": _step,
        "select_policy": _step,
        "refresh_containers": _step,
        "register_container": _step,
        "inquire_container": _step,
        "select_databases": _step,
        "enable_protection": _step,
    },
    "backup": {
        "receive_backup_request": _requests("backup-requests"),
        "plan_backups": _timer,
        "select_items": _step,
        "trigger_backup": _step,
    },
    "restore": {
        "receive_restore_request": _requests("restore-requests"),
        "select_recovery_point": _step,
        "trigger_restore": _step,
    },
    "coverage": {
        "receive_coverage_request": _requests("coverage-requests"),
        "plan_coverage": _timer,
        "find_vaults": _step,
        "survey_vault": _step,
    },
    "drill": {
        "receive_drill_request": _requests("drill-requests"),
        "plan_drills": _timer,
        "select_drills": _step,
        "check_drill": _step,
        "clean_up_drill": _step,
    },
}


def blueprint(environment: Mapping[str, str] | None = None) -> func.Blueprint:
    """The functions that the setting `WORKFLOWS` asks for; all where it cannot be read.

    A bad setting does not take the app down: it is reported where the settings are used. Raises MissingPackagesError
    where the app's packages are not there.
    """
    require()
    text = (os.environ if environment is None else environment).get("WORKFLOWS", "")
    served = {name.strip().lower() for name in text.split(",") if name.strip()}
    if not served or not served <= FUNCTIONS.keys() - {"every"}:
        served = set(FUNCTIONS)
    added = func.Blueprint()
    for workflow, functions in FUNCTIONS.items():
        for name, add in functions.items():
            if workflow in served | {"every"} or name in {SHARED_STEPS.get(each) for each in served}:
                add(added, name)
    return added
