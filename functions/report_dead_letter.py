"""Function `report_dead_letter`: answers and parks what the broker gave up."""

import azure.functions as func

from shared.triggers import report

blueprint = func.Blueprint()


@blueprint.function_name("report_dead_letter")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="dead-letters", connection="ServiceBusConnection"
)
def report_dead_letter(message: func.ServiceBusMessage) -> None:
    """Publish the outcome of a dead letter's request, and park the original."""
    report(message)
