"""CloudEvents 1.0 in structured JSON, as far as this system reads and writes them.

Follows https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, its JSON format, and
https://www.w3.org/TR/trace-context/ for `traceparent`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from shared.json_nesting import MOST_LEVELS, is_nested_too_deeply

CONTENT_TYPE: Final = "application/cloudevents+json"
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_CORRELATION: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]+")
#: Media types compare without regard to case.
_JSON: Final = re.compile(r"application/([\w.-]+\+)?json\b", re.IGNORECASE)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_IDENTITY: Final = 512
#: The most bytes of a message: several times what the broker takes, and quick to parse.
LARGEST_MESSAGE: Final = 1024 * 1024
_EXCERPT: Final = 80
#: What the platform puts in place of bytes that are not UTF-8, before the app sees them.
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_NOT_UTF_8: Final = "expected JSON in UTF-8"
_LEVELS: Final = f"expected JSON nested to at most {MOST_LEVELS} levels"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a message: where, what was given, what is accepted."""

    field: str
    given: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.field}: {self.accepted} (given: {self.given})"


class InvalidMessageError(Exception):
    """A message cannot be understood; `problems` names everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The attributes of an event that this system uses, and its data, not yet understood."""

    type: str
    source: str
    id: str
    data: Any
    traceparent: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class KnownAttributes:
    """What can be read of a message's envelope, whatever else is wrong with it."""

    source: str | None = None
    id: str | None = None
    traceparent: str | None = None
    correlation_id: str | None = None


def excerpt(value: Any) -> str:
    """What was given, short, on one line, safe to print."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _EXCERPT else f"{text[: _EXCERPT - 1]}…"


def is_replaced(body: bytes) -> bool:
    """Whether `body` has lost bytes that were not UTF-8: messages that differed may look alike in it.

    A replacement character that the sender wrote looks the same, and counts as one.
    """
    return _REPLACEMENT.encode() in body


def read_json(
    body: bytes, *, object_of: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> Any:
    """The JSON value in `body`; a byte order mark before it is skipped.

    `object_of` makes an object of its names and values; of one name that stands there twice, the last value is taken
    without it. Raises InvalidMessageError for anything that is not strict UTF-8 JSON.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"it has {constant}")

    if len(body) > LARGEST_MESSAGE:
        given = f"{len(body)} bytes"
        raise InvalidMessageError(
            [Problem("body", given, f"expected a message of at most {LARGEST_MESSAGE} bytes")]
        )
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=object_of)
        if _SURROGATE.search(text):
            # Half of a pair is legal JSON, but no text: nothing that holds it could be published.
            json.dumps(value, ensure_ascii=False).encode()
        if not is_nested_too_deeply(value):
            return value
        problem = Problem("body", "nested too deeply", _LEVELS)
    except UnicodeEncodeError:
        problem = Problem("body", "half of a surrogate pair", "expected whole characters in every string")
    except UnicodeDecodeError as error:
        problem = Problem("body", f"byte {error.start} is not UTF-8", _NOT_UTF_8)
    except RecursionError:
        problem = Problem("body", "nested too deeply", _LEVELS)
    except ValueError as error:
        reason = (
            f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
        )
        given = f"what cannot be read as JSON: {reason}" if body else "an empty message"
        problem = Problem("body", given, "expected a JSON object")
    raise InvalidMessageError([problem])


def known_attributes(event: Any) -> KnownAttributes:
    """The attributes of a message's envelope, as far as they can be read."""
    if not isinstance(event, dict):
        return KnownAttributes()

    def readable(name: str, fits: Callable[[Any], object]) -> Any:
        value = event.get(name)
        return value if fits(value) and _REPLACEMENT not in str(value) else None

    return KnownAttributes(
        source=readable("source", _is_identity),
        id=readable("id", _is_identity),
        # W3C Trace Context: a traceparent that cannot be read is ignored, not refused.
        traceparent=readable(
            "traceparent", lambda value: isinstance(value, str) and _TRACEPARENT.fullmatch(value)
        ),
        correlation_id=readable(
            "correlationid", lambda value: isinstance(value, str) and _CORRELATION.fullmatch(value)
        ),
    )


def _is_identity(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_IDENTITY


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these names. Raises InvalidMessageError where one stands there twice: either value may be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise InvalidMessageError(
            [Problem("body", f"{excerpt(name)} twice", "expected each name of an object once")]
        )
    return found


def read_envelope(body: bytes) -> Envelope:
    """The CloudEvent in `body`. Raises InvalidMessageError with every problem of the envelope."""
    event = read_json(body, object_of=_each_name_once)
    if is_replaced(body):
        # The id may belong to another request, and names to other databases.
        place = body.decode("utf-8-sig").index(_REPLACEMENT)
        given = f"U+FFFD at character {place}, where the bytes that were sent are not UTF-8"
        raise InvalidMessageError([Problem("body", given, f"{_NOT_UTF_8}; write U+FFFD itself as \\ufffd")])
    if not isinstance(event, dict):
        raise InvalidMessageError([Problem("body", excerpt(event), "expected a CloudEvent: a JSON object")])
    # "an attribute value of null is to be treated as unset": the JSON format, section 2.2.
    event = {name: value for name, value in event.items() if value is not None}
    problems: list[Problem] = []
    if event.get("specversion") != "1.0":
        given = excerpt(event["specversion"]) if "specversion" in event else "nothing"
        problems.append(Problem("specversion", given, 'expected "1.0"'))
    for name in ("type", "source", "id"):
        if not _is_identity(event.get(name)):
            given = excerpt(event[name]) if name in event else "nothing"
            problems.append(
                Problem(name, given, f"expected a non-empty string of at most {_LONGEST_IDENTITY} characters")
            )
    content_type = event.get("datacontenttype", "application/json")
    if not isinstance(content_type, str) or not _JSON.match(content_type):
        problems.append(Problem("datacontenttype", excerpt(content_type), 'expected "application/json"'))
    if "data_base64" in event:
        problems.append(Problem("data_base64", "binary data", "expected the request as JSON in `data`"))
    problems += [
        Problem(excerpt(name), "an attribute", "attribute names are lower-case letters and digits")
        for name in event
        if not _ATTRIBUTE.fullmatch(name) and name != "data_base64"
    ]
    known = known_attributes(event)
    correlation_id = event.get("correlationid")
    if correlation_id is not None and known.correlation_id is None:
        problems.append(
            Problem("correlationid", excerpt(correlation_id), "expected 1 to 128 printable ASCII characters")
        )
    if problems:
        raise InvalidMessageError(problems)
    return Envelope(
        type=event["type"],
        source=event["source"],
        id=event["id"],
        data=event.get("data"),
        traceparent=known.traceparent,
        correlation_id=known.correlation_id,
    )
