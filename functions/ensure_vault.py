"""Step `ensure_vault`: connect to the vault, or create it where the request says how."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("ensure_vault")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="ensure-vault", connection="ServiceBusConnection"
)
def ensure_vault(message: func.ServiceBusMessage) -> None:
    """Connect to the vault, or create it where the request says how."""
    run_step("ensure_vault", message)
