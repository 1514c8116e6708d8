"""Every step of the app by its name: those of the workflows, and the tracker that follows what they start."""

from __future__ import annotations

from typing import Final

from shared.messages.steps import Tracking
from shared.workflow.flow import TRACK
from shared.workflow.step import StepDefinition
from shared.workflow.track import track
from shared.workflow.workflows import WORKFLOW_STEPS

STEPS: Final[dict[str, StepDefinition]] = {
    **WORKFLOW_STEPS,
    TRACK: StepDefinition(
        name=TRACK,
        workflow="every",
        run=track,
        payload=Tracking,
        does="follow the operation, then its job, to the end",
    ),
}
