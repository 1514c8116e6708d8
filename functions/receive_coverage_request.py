"""Function `receive_coverage_request`: takes coverage requests from their queue to the workflow's first step."""

import azure.functions as func

from shared.triggers import take_request

blueprint = func.Blueprint()


@blueprint.function_name("receive_coverage_request")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="coverage-requests", connection="ServiceBusConnection"
)
def receive_coverage_request(message: func.ServiceBusMessage) -> None:
    """Take a coverage request, or reject it with every problem named."""
    take_request("coverage-requests", message)
