"""The base of every message model, and the types their fields share."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from shared.arm.ids import VaultId, VirtualMachineId
from shared.clock import MachineTime, ServiceTime

_DURATION: Final = re.compile(r"P(?=\d|T\d)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?", re.ASCII)
_CALENDAR_DURATION: Final = re.compile(
    r"P(?=\d|T\d)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?", re.ASCII
)
_LONGEST: Final = timedelta(days=36500)
_TIMEDELTA: Final = TypeAdapter(timedelta)

T = TypeVar("T")
#: A list of JSON; models that do not change have tuples.
ListOf = Annotated[tuple[T, ...], Strict(False)]


def clip(text: str, *, most: int) -> str:
    """`text`, cut to `most` characters with an ellipsis where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


#: A short text from the service, such as a code, a status or an id, clipped so that it fits into a message.
Word = Annotated[str, AfterValidator(partial(clip, most=200))]
#: One of many texts of a message.
Line = Annotated[str, AfterValidator(partial(clip, most=4096))]
#: The explaining text of a message.
Explanation = Annotated[str, AfterValidator(partial(clip, most=16384))]


class Model(BaseModel):
    """The base of all of them: a value, which does not change."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, arbitrary_types_allowed=True)

    def changed(self, **fields: Any) -> Self:
        """The same with other values in some fields, which are not validated. Raises TypeError for no field of it."""
        if strangers := fields.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(strangers))}")
        return self.model_copy(update=fields)


class StrictModel(Model):
    """Data from outside: unknown fields are an error, null is absent, nothing is coerced, names are camelCase."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        # As of an event's attributes: it is what serializers write for what was not set.
        if isinstance(value, dict):
            return {name: given for name, given in value.items() if given is not None}
        return value


class TolerantModel(Model):
    """Data between steps: fields of a newer version are ignored, so that a rollback can read them."""

    model_config = ConfigDict(extra="ignore", validate_by_name=True, validate_by_alias=True)


def parse_duration(value: Any) -> timedelta:
    """An ISO 8601 duration of weeks, days, hours, minutes and seconds, such as `PT30S` or `P7D`.

    Months and years have no fixed length and are refused. Raises ValueError.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and not _DURATION.fullmatch(value) and _CALENDAR_DURATION.fullmatch(value):
        raise ValueError(
            "expected an ISO 8601 duration of weeks, days, hours, minutes and seconds, since months and years have no"
            " fixed length: P365D for a year, P30D for a month"
        )
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError("expected an ISO 8601 duration such as PT30M, PT12H or P7D")
    try:
        duration = _TIMEDELTA.validate_python(value)
    except ValidationError:
        duration = timedelta.max
    if duration > _LONGEST:
        raise ValueError("expected a duration of at most 100 years")
    return duration


def in_any_case(*values: str) -> BeforeValidator:
    """Accepts these values in any case, as Azure does with its own enumerations."""
    canonical = {value.lower(): value for value in values}

    def read(value: Any) -> Any:
        return canonical.get(value.lower(), value) if isinstance(value, str) else value

    return BeforeValidator(read)


def format_duration(value: timedelta) -> str:
    """The ISO 8601 form of a duration, in days and seconds."""
    days = f"{value.days}D" if value.days else ""
    seconds = value.seconds + value.microseconds / 1_000_000
    time = f"T{seconds:.6f}".rstrip("0").rstrip(".") + "S" if seconds or not days else ""
    return f"P{days}{time}"


def _parse_moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            # RFC 3339, section 5.6: T and Z may be in lower case.
            moment = datetime.fromisoformat(value.upper())
        except ValueError as error:
            raise ValueError(
                "expected an RFC 3339 moment with its offset, such as 2026-01-05T08:00:00Z"
            ) from error
        if moment.tzinfo is None:
            raise ValueError(
                "expected a moment with its offset, such as 2026-01-05T08:00:00Z; this one names no time zone"
            )
        try:
            return moment.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("expected a moment between the years 1 and 9999, in UTC") from error
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise ValueError("expected an RFC 3339 moment with its offset, such as 2026-01-05T08:00:00Z")


def format_moment(value: datetime) -> str:
    """RFC 3339, UTC, with `Z`; fractions only where there are any."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_positive_duration(value: Any) -> timedelta:
    """As `parse_duration`, longer than zero."""
    duration = parse_duration(value)
    if duration <= timedelta():
        raise ValueError("expected a duration longer than zero")
    return duration


PositiveDuration = Annotated[
    timedelta, BeforeValidator(parse_positive_duration), PlainSerializer(format_duration)
]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Moment = Annotated[ServiceTime, BeforeValidator(_parse_moment), PlainSerializer(format_moment)]
#: Of a schedule, which goes by this machine's clock.
MachineMoment = Annotated[MachineTime, BeforeValidator(_parse_moment), PlainSerializer(format_moment)]


class _ArmId:
    """A full ARM id, which is a string in JSON and in JSON Schemas."""

    def __init__(self, kind: type[VaultId | VirtualMachineId], noun: str, provider: str) -> None:
        self._kind, self._noun, self._provider = kind, noun, provider

    def _read(self, value: Any) -> Any:
        if isinstance(value, self._kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"expected the full ARM id of a {self._noun}, as a string")
        return self._kind.parse(value)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        path = core_schema.plain_serializer_function_ser_schema(
            lambda value: value.path, return_schema=core_schema.str_schema()
        )
        return core_schema.no_info_plain_validator_function(self._read, serialization=path)

    def __get_pydantic_json_schema__(self, _core: Any, _handler: Any) -> dict[str, Any]:
        provider = self._provider.replace(".", "\\.")
        pattern = f"^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/{provider}/[^/]+$"
        return {"type": "string", "pattern": pattern}


VaultIdField = Annotated[
    VaultId, _ArmId(VaultId, "Recovery Services vault", "Microsoft.RecoveryServices/vaults")
]
VirtualMachineIdField = Annotated[
    VirtualMachineId,
    _ArmId(VirtualMachineId, "virtual machine", "Microsoft.Compute/virtualMachines"),
]
