"""Step `clean_up_drill`: drop a restored database, and begin the next drill."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("clean_up_drill")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="clean-up-drill", connection="ServiceBusConnection"
)
def clean_up_drill(message: func.ServiceBusMessage) -> None:
    """Drop a restored database, and begin the next drill."""
    run_step("clean_up_drill", message)
