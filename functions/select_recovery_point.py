"""Step `select_recovery_point`: check that the restore is allowed, and select its recovery point."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("select_recovery_point")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="select-recovery-point", connection="ServiceBusConnection"
)
def select_recovery_point(message: func.ServiceBusMessage) -> None:
    """Check that the restore is allowed, and select its recovery point."""
    run_step("select_recovery_point", message)
