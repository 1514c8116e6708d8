"""Function `receive_drill_request`: the way in for drill requests."""

import azure.functions as func

from shared.triggers import take_request

blueprint = func.Blueprint()


@blueprint.function_name("receive_drill_request")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="drill-requests", connection="ServiceBusConnection"
)
def receive_drill_request(message: func.ServiceBusMessage) -> None:
    """Take a drill request, or reject it with every problem named."""
    take_request("drill-requests", message)
