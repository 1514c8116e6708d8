"""A managed run command, as Resource Manager describes it.

https://learn.microsoft.com/rest/api/compute/virtual-machine-run-commands/get-by-virtual-machine
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from shared.arm.redaction import redact
from shared.clock import ServiceTime, service_time

_LONGEST_TEXT: Final = 1000
#: The start of the line that ConvertTo-Json writes; inside its texts, quotation marks are escaped.
_BEGINNING: Final = '{"attempt":'
_ENDED: Final = frozenset({"succeeded", "failed", "timedout", "canceled"})


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """A run command and what is known of its execution. Output and error are the last 4 KB of each."""

    name: str
    provisioning_state: str = ""
    #: as they were sent; Resource Manager shows them to everybody with read access
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    execution_state: str = ""
    exit_code: int | None = None
    message: str = ""
    output: str = field(default="", repr=False)
    error: str = field(default="", repr=False)
    start_time: ServiceTime | None = None
    end_time: ServiceTime | None = None
    #: whether the answer had an instance view at all
    is_viewed: bool = False

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> RunCommand:
        """The run command in an answer; fields that are missing, or have another form, are absent."""
        properties = _object(body.get("properties"))
        view = _object(properties.get("instanceView"))
        listed = properties.get("parameters")
        parameters = {
            each["name"]: each["value"]
            for each in (listed if isinstance(listed, list) else ())
            if isinstance(each, dict)
            and isinstance(each.get("name"), str)
            and isinstance(each.get("value"), str)
        }
        exit_code = view.get("exitCode")
        return cls(
            name=_text(body.get("name")),
            provisioning_state=_text(properties.get("provisioningState")),
            parameters=parameters,
            execution_state=_text(view.get("executionState")),
            exit_code=exit_code if isinstance(exit_code, int) else None,
            message=_text(view.get("executionMessage")),
            output=_text(view.get("output")),
            error=_text(view.get("error")),
            start_time=_moment(view.get("startTime")),
            end_time=_moment(view.get("endTime")),
            is_viewed=bool(view),
        )

    @property
    def has_started(self) -> bool:
        """Whether its script has begun to run."""
        return self.start_time is not None or self.execution_state.lower() == "running" or self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it: it has an end time, whatever else its state says.

        Recorded: state Running with an end time. A run command that could not be provisioned never begins, unless it
        says that it is running.
        """
        state = self.execution_state.lower()
        if self.end_time is not None or state in _ENDED:
            return True
        has_begun = self.start_time is not None or state == "running"
        return self.provisioning_state.lower() in ("failed", "canceled") and not has_begun

    @property
    def is_being_deleted(self) -> bool:
        """Whether it is being deleted."""
        return self.provisioning_state.lower() == "deleting"

    def line(self, attempt: str) -> Mapping[str, Any] | None:
        """The JSON line in its output that has the attempt's id; nothing else in the output is a result.

        A PowerShell host may break a line at the width of its console, so line breaks are removed: the line is ASCII
        and has none of its own.
        """
        lines = self.output.splitlines()
        joined = "".join(lines)
        for text in (*reversed(lines), joined[max(0, joined.rfind(_BEGINNING)) :]):
            try:
                parsed = json.loads(text.strip())
            except (ValueError, RecursionError):
                continue
            if isinstance(parsed, dict) and parsed.get("attempt") == attempt:
                return parsed
        return None

    @property
    def described(self) -> str:
        """How it ended, in the service's words and those of the script's error stream."""
        said = "; ".join(filter(None, (self.message.strip(), self.error.strip())))
        code = "no exit code" if self.exit_code is None else f"exit code {self.exit_code}"
        state = self.execution_state or self.provisioning_state or "no state"
        return redact(f"{state}, {code}{f': {said}' if said else ''}", limit=_LONGEST_TEXT)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: Any) -> ServiceTime | None:
    try:
        return service_time(datetime.fromisoformat(value)) if isinstance(value, str) else None
    except ValueError:
        return None
