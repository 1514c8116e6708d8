"""Step `inquire_container`: have the service look for databases on the VM."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("inquire_container")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="inquire-container", connection="ServiceBusConnection"
)
def inquire_container(message: func.ServiceBusMessage) -> None:
    """Have the service look for databases on the VM."""
    run_step("inquire_container", message)
