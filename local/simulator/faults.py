"""Faults: what goes wrong on which calls, chosen by count or by a seeded probability."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from local.simulator.route_names import ROUTE_NAMES

FAULTS: dict[str, str] = {
    "status": "answer with `status` (default 503), `code`, `message`, `retryAfter`; nothing is done",
    "statusAfterEffect": "do it, then answer with `status` (default 500)",
    "throttle": "answer 429 with `retryAfter` (default 5; null leaves the header out); nothing is done",
    "delay": "wait `seconds` (real ones, default 1) before anything is done",
    "delayAfterEffect": "do it, then wait `seconds` (real ones, default 1) before answering",
    "dropBeforeEffect": "close the connection; nothing is done",
    "dropAfterEffect": "do it, then close the connection without an answer",
    "twice": "do it twice, as a gateway that repeats a call; answer what the second one was answered",
    "dropMidBody": "do it, then close the connection in the middle of the answer's body",
    "malformedBody": "do it, but cut the answer's JSON short",
    "htmlBody": "do it, but answer with a proxy's HTML page",
    "wrongTypeBody": "do it, but answer with a JSON list instead of an object",
    "emptyBody": "do it, but answer with no body",
    "missingHeaders": "do it, but leave out `headers` (default Location, Azure-AsyncOperation and Retry-After)",
    "retryAfter": "do it, but say `retryAfter` (a number or any text) in Retry-After",
    "foreignPollUrl": "do it, but point Location and Azure-AsyncOperation at `host` (default evil.example)",
    "foreignNextLink": "do it, but point nextLink at `host` (default evil.example)",
    "nextLinkLoop": "do it, but let nextLink point at this same page",
    "redirect": "answer 307 to the same path on `host` (default evil.example); nothing is done",
    "redirectAfterEffect": "do it, then answer 307 to the same path on `host` (default evil.example)",
    "operationFailure": "the operation ends Failed with `code` and `message`, without a job",
    "operationNeverEnds": "the operation stays InProgress",
    "jobFailure": "the job ends Failed with `code` (symbolic), `errorCode` (number), `message`, `dynamicErrorMessage`",
    "jobWarning": "the job ends CompletedWithWarnings with `code`, `errorCode` and `message`",
    "jobCancelled": "the job ends Cancelled",
    "jobNeverEnds": "the job stays InProgress",
    "jobListedLate": "the job is in no list until `seconds` (simulated, default 240) have passed; its own URL has it",
    "scriptNeverEnds": "the script of a run command runs until its time is up",
    "scriptFailure": "the script of a run command ends with exit code 127 and prints nothing",
    "scriptMisleads": "the script of a run command has an end time, though its state says Running",
    "deleteFails": "the delete of a run command is accepted, and nothing is deleted",
    "unknownStatus": "the job or operation that is read has a status no document knows",
}


class Fault(BaseModel):
    """One rule. Without `nth` and `probability` it applies to every call of its route."""

    model_config = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        hide_input_in_errors=True,
    )

    route: str
    fault: str
    nth: int | tuple[int, ...] | None = None
    probability: float | None = Field(None, ge=0, le=1)
    times: int | None = Field(None, ge=1)
    path_contains: str | None = None
    status: int | None = Field(None, ge=200, le=599)
    code: str | None = None
    message: str | None = None
    error_code: int | None = None
    dynamic_error_message: str | None = None
    recommendations: tuple[str, ...] = ()
    retry_after: int | float | str | None = None
    seconds: float | None = Field(None, ge=0)
    headers: tuple[str, ...] = ("Location", "Azure-AsyncOperation", "Retry-After")
    host: str = "evil.example"

    @field_validator("fault")
    @classmethod
    def _known_fault(cls, value: str) -> str:
        if value not in FAULTS:
            raise ValueError(f"there is no fault {value!r}; there are {', '.join(FAULTS)}")
        return value

    @field_validator("route")
    @classmethod
    def _known_route(cls, value: str) -> str:
        if value != "*" and value not in ROUTE_NAMES:
            raise ValueError(
                f"there is no route {value!r}; there are {', '.join(ROUTE_NAMES)}, and * for all"
            )
        return value

    @field_validator("nth")
    @classmethod
    def _counted_from_one(cls, value: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or any(number is not None and number < 1 for number in numbers):
            raise ValueError("calls are counted from 1")
        return value

    @model_validator(mode="after")
    def _one_way_of_choosing(self) -> Self:
        if self.nth is not None and self.probability is not None:
            raise ValueError("a fault has nth or probability, not both")
        return self

    @property
    def delay(self) -> float:
        """How long the exchange is delayed, in real seconds."""
        return self.seconds if self.seconds is not None else 1.0

    @property
    def listed_after(self) -> timedelta:
        """How long after its start a job is listed."""
        return timedelta(seconds=self.seconds if self.seconds is not None else 240.0)

    @property
    def says_retry_after(self) -> bool:
        """Whether the rule sets a Retry-After, even to null."""
        return "retry_after" in self.model_fields_set


class FaultPlan:
    """Decides which rules apply to a call. Each rule counts the calls that match its route and path."""

    def __init__(self, faults: tuple[Fault, ...], seed: int) -> None:
        self._faults = faults
        self._chance = random.Random(f"faults {seed}")
        self._seen: Counter[int] = Counter()
        self._applied: Counter[int] = Counter()

    def choose(self, route: str, path: str) -> dict[str, Fault]:
        """The faults of a call by name; of two rules with one name the first applies."""
        chosen: dict[str, Fault] = {}
        for index, fault in enumerate(self._faults):
            if fault.route not in ("*", route):
                continue
            if fault.path_contains is not None and fault.path_contains.lower() not in path.lower():
                continue
            self._seen[index] += 1
            if fault.times is not None and self._applied[index] >= fault.times:
                continue
            if fault.nth is not None:
                wanted = fault.nth if isinstance(fault.nth, tuple) else (fault.nth,)
                if self._seen[index] not in wanted:
                    continue
            elif fault.probability is not None and self._chance.random() >= fault.probability:
                continue
            self._applied[index] += 1
            chosen.setdefault(fault.fault, fault)
        return chosen
