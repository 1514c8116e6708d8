"""Function `receive_restore_request`: takes restore requests from their queue to the workflow's first step."""

import azure.functions as func

from shared.triggers import take_request

blueprint = func.Blueprint()


@blueprint.function_name("receive_restore_request")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="restore-requests", connection="ServiceBusConnection"
)
def receive_restore_request(message: func.ServiceBusMessage) -> None:
    """Take a restore request, or reject it with every problem named."""
    take_request("restore-requests", message)
