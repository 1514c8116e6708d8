"""Step `find_vaults`: find the vaults of a coverage request, and send each on."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("find_vaults")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="find-vaults", connection="ServiceBusConnection"
)
def find_vaults(message: func.ServiceBusMessage) -> None:
    """Find the vaults of a coverage request, and send each on."""
    run_step("find_vaults", message)
