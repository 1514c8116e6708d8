"""Step `trigger_backup`: trigger the backup of one database."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("trigger_backup")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="trigger-backup", connection="ServiceBusConnection"
)
def trigger_backup(message: func.ServiceBusMessage) -> None:
    """Trigger the backup of one database."""
    run_step("trigger_backup", message)
