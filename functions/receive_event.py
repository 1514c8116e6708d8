"""Function `receive_event`: takes requests from the events of other systems to their workflow's first step."""

import azure.functions as func

from shared.triggers import take_request

blueprint = func.Blueprint()


@blueprint.function_name("receive_event")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="events", connection="ServiceBusConnection"
)
def receive_event(message: func.ServiceBusMessage) -> None:
    """Take a request of any type that may come by this queue, or reject it with every problem named."""
    take_request("events", message)
