"""Step `refresh_containers`: have the service look for VMs, unless the VM is registered."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("refresh_containers")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="refresh-containers", connection="ServiceBusConnection"
)
def refresh_containers(message: func.ServiceBusMessage) -> None:
    """Have the service look for VMs, unless the VM is registered."""
    run_step("refresh_containers", message)
