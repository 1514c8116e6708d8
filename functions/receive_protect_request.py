"""Function `receive_protect_request`: takes protect requests from their queue to the workflow's first step."""

import azure.functions as func

from shared.triggers import take_request

blueprint = func.Blueprint()


@blueprint.function_name("receive_protect_request")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="protect-requests", connection="ServiceBusConnection"
)
def receive_protect_request(message: func.ServiceBusMessage) -> None:
    """Take a protect request, or reject it with every problem named."""
    take_request("protect-requests", message)
