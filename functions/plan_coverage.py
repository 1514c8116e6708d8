"""Function `plan_coverage`: plans the scheduled coverage of the next day."""

import azure.functions as func

from shared.triggers import plan_coverage as plan

blueprint = func.Blueprint()


@blueprint.function_name("plan_coverage")
@blueprint.timer_trigger(arg_name="timer", schedule="0 */15 * * * *", run_on_startup=False, use_monitor=True)
def plan_coverage(timer: func.TimerRequest) -> None:
    """Send each occurrence of the next day as a scheduled message; planning twice changes nothing."""
    plan(past_due=timer.past_due)
