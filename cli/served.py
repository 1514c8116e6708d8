"""Which workflows need a queue."""

from __future__ import annotations

from shared.bus.topology import SHARED_STEPS
from shared.intake.senders import QUEUES
from shared.messages.requests import Operation
from shared.workflows import TABLE


def served_by(queue: str) -> list[str]:
    """The workflows that need a queue."""
    for other, step in SHARED_STEPS.items():
        if queue == TABLE.rows[step].queue:
            return [each.value for each in Operation if each in (other, TABLE.rows[step].workflow)]
    steps = {step.queue: step.workflow for step in TABLE.rows.values() if step.workflow != "every"}
    requests = {name: operation.value for operation, name in QUEUES.items()}
    found = requests.get(queue) or steps.get(queue)
    return [found] if found is not None else [operation.value for operation in Operation]
