"""Step `trigger_restore`: trigger the restore of one database."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("trigger_restore")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="trigger-restore", connection="ServiceBusConnection"
)
def trigger_restore(message: func.ServiceBusMessage) -> None:
    """Trigger the restore of one database."""
    run_step("trigger_restore", message)
