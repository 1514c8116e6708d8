"""Step `check_drill`: check a restored database on its VM."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("check_drill")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="check-drill", connection="ServiceBusConnection"
)
def check_drill(message: func.ServiceBusMessage) -> None:
    """Check a restored database on its VM."""
    run_step("check_drill", message)
