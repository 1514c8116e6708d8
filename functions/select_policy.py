"""Step `select_policy`: select the policy by its name, or create it where the request says how."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("select_policy")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="select-policy", connection="ServiceBusConnection"
)
def select_policy(message: func.ServiceBusMessage) -> None:
    """Select the policy by its name, or create it where the request says how."""
    run_step("select_policy", message)
