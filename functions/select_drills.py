"""Step `select_drills`: select the databases whose turn it is, and begin with the first."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("select_drills")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="select-drills", connection="ServiceBusConnection"
)
def select_drills(message: func.ServiceBusMessage) -> None:
    """Select the databases whose turn it is, and begin with the first."""
    run_step("select_drills", message)
