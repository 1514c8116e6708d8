"""Function `track`: follows operations and jobs to their end."""

from typing import List  # noqa: UP035 - the platform's worker takes no other annotation for a batch

import azure.functions as func

from shared.triggers import run_tracker


def track(blueprint: func.Blueprint, name: str) -> None:
    """A function that polls once for each message of a batch; what has not ended is put back with a delay."""

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
