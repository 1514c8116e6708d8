"""Function `receive_replay`: lets parked messages go on that operators have sent again."""

import azure.functions as func

from shared.triggers import take_replay

blueprint = func.Blueprint()


@blueprint.function_name("receive_replay")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="replays", connection="ServiceBusConnection"
)
def receive_replay(message: func.ServiceBusMessage) -> None:
    """Let a parked message go on where it was, under its next epoch."""
    take_replay(message)
