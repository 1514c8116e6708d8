"""Step `select_items`: select the protected databases to back up, and fan out."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("select_items")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="select-items", connection="ServiceBusConnection"
)
def select_items(message: func.ServiceBusMessage) -> None:
    """Select the protected databases to back up, and fan out."""
    run_step("select_items", message)
