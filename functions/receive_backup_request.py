"""Function `receive_backup_request`: takes backup requests from their queue to the workflow's first step."""

import azure.functions as func

from shared.triggers import take_request

blueprint = func.Blueprint()


@blueprint.function_name("receive_backup_request")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="backup-requests", connection="ServiceBusConnection"
)
def receive_backup_request(message: func.ServiceBusMessage) -> None:
    """Take a backup request, or reject it with every problem named."""
    take_request("backup-requests", message)
