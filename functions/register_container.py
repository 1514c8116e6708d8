"""Step `register_container`: register the VM to the vault."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("register_container")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="register-container", connection="ServiceBusConnection"
)
def register_container(message: func.ServiceBusMessage) -> None:
    """Register the VM to the vault."""
    run_step("register_container", message)
