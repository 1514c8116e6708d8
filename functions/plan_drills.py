"""Function `plan_drills`: plans the scheduled drills of the next day."""

import azure.functions as func

from shared.triggers import plan_drills as plan

blueprint = func.Blueprint()


@blueprint.function_name("plan_drills")
@blueprint.timer_trigger(arg_name="timer", schedule="0 */15 * * * *", run_on_startup=False, use_monitor=True)
def plan_drills(timer: func.TimerRequest) -> None:
    """Send each occurrence of the next day as a scheduled message; planning twice changes nothing."""
    plan(past_due=timer.past_due)
