"""Function `receive_event`: routes events of other systems to the queue of their type."""

import azure.functions as func

from shared.triggers import route_event

blueprint = func.Blueprint()


@blueprint.function_name("receive_event")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="events", connection="ServiceBusConnection"
)
def receive_event(message: func.ServiceBusMessage) -> None:
    """Route an event to the request queue of its type."""
    route_event(message)
