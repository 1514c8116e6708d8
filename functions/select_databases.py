"""Step `select_databases`: select the databases to protect, and fan out."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("select_databases")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="select-databases", connection="ServiceBusConnection"
)
def select_databases(message: func.ServiceBusMessage) -> None:
    """Select the databases to protect, and fan out."""
    run_step("select_databases", message)
