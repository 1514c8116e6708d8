"""Step `enable_protection`: protect one database by the policy."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("enable_protection")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="enable-protection", connection="ServiceBusConnection"
)
def enable_protection(message: func.ServiceBusMessage) -> None:
    """Protect one database by the policy."""
    run_step("enable_protection", message)
