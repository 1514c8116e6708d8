"""What pydantic finds wrong with a message, in terms of the JSON that was sent."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.messages.cloud_events import Problem, excerpt
from shared.messages.model import StrictModel

#: What pydantic says in terms of Python, said in terms of JSON.
_ACCEPTED: Final = {
    "tuple_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "string_type": "expected a string",
    "bool_type": "expected true or false",
    "too_short": "expected a list of at least {min_length}",
    "too_long": "expected a list of at most {max_length}",
    "string_too_short": "expected a string that is not empty",
    "string_too_long": "expected at most {max_length} characters",
    "string_pattern_mismatch": "expected a string that matches {pattern}",
    "literal_error": "expected {expected}",
    "enum": "expected {expected}",
    "int_type": "expected a whole number",
    "union_tag_invalid": "expected one of {expected_tags}",
}
_CHOICE_TAGS: Final = frozenset({"original", "alternate", "files"})


def problems_of(error: ValidationError, model: type[StrictModel]) -> list[Problem]:
    """What pydantic found, each problem once, in terms of the JSON that was sent."""
    details = error.errors(include_url=False)
    return [_problem(detail, model) for detail in details if not _follows_from_another(detail, details)]


def _follows_from_another(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether a list is called too short only because its items are wrong themselves."""
    depth = len(detail["loc"])
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == detail["loc"] for other in details
    )


def _problem(detail: ErrorDetails, model: type[StrictModel]) -> Problem:
    location = ["data"]
    for position, part in enumerate(detail["loc"]):
        if (
            isinstance(part, str)
            and part in _CHOICE_TAGS
            and position
            and detail["loc"][position - 1] == "target"
        ):
            continue  # pydantic names the variant of a union; the sender knows no such field
        location.append(str(part))
    kind = detail["type"]
    given: Any = detail["input"]
    if kind == "wrong_file":
        location.append(detail["ctx"]["within"])
        given = detail["ctx"]["given"]
    field = ".".join(location)
    if kind == "union_tag_not_found":
        return Problem(f"{field}.kind", "nothing", "is required")
    if kind == "missing":
        return Problem(field, "nothing", "is required")
    if kind == "extra_forbidden":
        known = ", ".join(sorted(info.alias or name for name, info in model.model_fields.items()))
        accepted = f"is not a field of it; its fields are {known}"
        return Problem(
            field, excerpt(detail["input"]), accepted if len(detail["loc"]) == 1 else "is no field of it"
        )
    if kind == "union_tag_invalid":
        field, given = f"{field}.kind", given["kind"]
    if kind in _ACCEPTED:
        accepted = _ACCEPTED[kind].format_map(detail.get("ctx", {}))
    else:
        accepted = detail["msg"].removeprefix("Value error, ")
    return Problem(field, "an object" if isinstance(given, dict) else excerpt(given), _lower_first(accepted))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
