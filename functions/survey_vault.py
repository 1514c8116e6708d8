"""Step `survey_vault`: tell how the databases of a vault stand, and repair by rules."""

import azure.functions as func

from shared.triggers import run_step

blueprint = func.Blueprint()


@blueprint.function_name("survey_vault")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="survey-vault", connection="ServiceBusConnection"
)
def survey_vault(message: func.ServiceBusMessage) -> None:
    """Tell how the databases of a vault stand, and repair by rules."""
    run_step("survey_vault", message)
