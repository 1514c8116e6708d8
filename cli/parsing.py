"""Parses options as people type them; errors say what to type."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cli.errors import UNUSABLE
from shared.messages.model import format_duration, format_moment, parse_positive_duration
from shared.time_zones import WINDOWS_ZONES, windows_zone

_UNITS: Final = {"W": "weeks", "D": "days", "H": "hours", "M": "minutes", "S": "seconds"}
_SHORT_DURATION: Final = re.compile(r"(\d+[wdhms])+", re.IGNORECASE | re.ASCII)
_PART: Final = re.compile(r"(\d+)([wdhms])", re.IGNORECASE | re.ASCII)
_MOMENT: Final = "expected a moment such as 2026-01-05T07:30:00Z or 2026-01-05T08:30+01:00"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence that names the flag, with a suggestion for unknown flags and commands."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As `ArgumentParser` does it, but what is not recognised is told by the command that it was given to."""
        found, left = self.parse_known_args(args, namespace)
        if left:
            command = self._command(getattr(found, "command", None))
            command = command._command(getattr(found, "action", None))
            command.error(command.unknown(left))
        return found

    def error(self, message: str) -> NoReturn:
        """Exit with one sentence and status 2."""
        print(f"{self.prog}: {self._plainly(message)} (For help: {self.prog} --help)", file=sys.stderr)
        raise SystemExit(UNUSABLE)

    def _command(self, name: str | None) -> Parser:
        found = self._commands().get(name or "")
        return found if isinstance(found, Parser) else self

    def _commands(self) -> dict[str, argparse.ArgumentParser]:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}

    def unknown(self, words: Sequence[str]) -> str:
        """The error for words that the command does not know."""
        word = words[0].partition("=")[0]
        if not word.startswith("-"):
            return f"{' '.join(words)} is not expected here."
        meant = get_close_matches(word, self._option_string_actions, n=1, cutoff=0.7)
        return f"there is no option {word}.{did_you_mean(meant)}"

    def _plainly(self, message: str) -> str:
        text = message.removeprefix("argument ")
        if found := re.match(r"(\S+): invalid choice: (.+?) \(", text):
            return self._wrong_choice(found[1], found[2].strip("'\""))
        if found := re.match(r"(.+): expected (one|at least one) argument", text):
            flag = found[1].rpartition("/")[2]
            return f"{flag}: expected a value; one that begins with a dash is given as {flag}=-VALUE."
        if found := re.match(r"the following arguments are required: (.+)", text):
            if found[1] == "action":
                return f"expected {_or(list(self._commands()))}."
            return f"{found[1]}: required, and not given."
        if found := re.match(r"one of the arguments (.+) is required", text):
            return f"{_or(found[1].split())}: one of them is required."
        return f"{text[:1]}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"

    def _wrong_choice(self, flag: str, given: str) -> str:
        name = flag.rpartition("/")[2]
        commands = self._commands()
        if flag in ("COMMAND", "command"):
            meant = get_close_matches(given.lower(), commands, n=1)
            return f"there is no command {given}.{did_you_mean(meant)} There are: {', '.join(commands)}."
        action = next((one for one in self._actions if name in (*one.option_strings, one.dest)), None)
        choices = [str(choice) for choice in (action.choices or ())] if action is not None else []
        lower = {choice.lower(): choice for choice in choices}
        meant = [lower[one] for one in get_close_matches(given.lower(), lower, n=1)]
        return f"{name}: expected {_or(choices)}, not {given!r}.{did_you_mean(meant)}"


def did_you_mean(meant: Sequence[str]) -> str:
    """A question about the first of these names; empty where there is none."""
    return f" Did you mean {meant[0]}?" if meant else ""


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def any_case(values: Iterable[str]) -> Callable[[str], str]:
    """One of these values, typed in any case; other text is returned unchanged."""
    canonical = {value.lower(): value for value in values}
    return lambda text: canonical.get(text.lower(), text)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """The number in an option. The parser shows the error that it raises."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return parse


def read_duration(text: str) -> str:
    """A duration as people write it, `14d`, `36h`, `1d12h` or ISO 8601 in any case, in ISO 8601. Raises ValueError."""
    iso = _in_iso(text) if _SHORT_DURATION.fullmatch(text) else text.upper()
    try:
        parse_positive_duration(iso)
    except ValueError as error:
        reason = str(error)
        if "longer than" in reason or "at most" in reason:
            raise ValueError(f"{reason}, not {text!r}") from None
        more = f", since {reason.partition('since ')[2]}" if "since" in reason else ""
        raise ValueError(f"expected a duration such as 14d, 36h or P14D, not {text!r}{more}") from None
    return iso


def _in_iso(text: str) -> str:
    parts = _PART.findall(text.upper())
    if len(parts) == 1:
        number, unit = parts[0]
        return f"P{'' if unit in 'WD' else 'T'}{number}{unit}"
    try:
        return format_duration(
            sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
        )
    except OverflowError:
        raise ValueError(f"expected a duration of at most 100 years, not {text!r}") from None


def read_time_zone(text: str) -> ZoneInfo:
    """A time zone by its IANA name, or as Windows calls it. Raises ValueError."""
    name = text
    if (windows := windows_zone(text)) is not None and WINDOWS_ZONES[windows]:
        name = WINDOWS_ZONES[windows].split()[0]
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = {zone.lower(): zone for zone in available_timezones()}
        if name.lower() in known:
            return ZoneInfo(known[name.lower()])
        meant = get_close_matches(name.lower(), known, n=1)
        raise ValueError(
            f"expected a time zone such as Europe/Berlin, not {text!r}."
            f"{did_you_mean([known[one] for one in meant])}"
        ) from None


def read_moment(text: str, zone: ZoneInfo | None) -> str:
    """A moment in RFC 3339; one that names no offset is a time of `zone`. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        raise ValueError(f"{_MOMENT}, not {text!r}") from None
    try:
        return format_moment(moment if moment.tzinfo is not None else _in_zone(moment, text, zone))
    except OverflowError:
        raise ValueError(f"{_MOMENT}, not {text!r}") from None


def _in_zone(moment: datetime, text: str, zone: ZoneInfo | None) -> datetime:
    if zone is None:
        raise ValueError(
            f"{text} names no time zone: write {moment.isoformat()}Z if it is UTC, or add --time-zone, such as"
            " --time-zone Europe/Berlin"
        )
    readings = {moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    real = [one for one in sorted(readings) if one.astimezone(zone).replace(tzinfo=None) == moment]
    if not real:
        raise ValueError(
            f"{text} does not exist in {zone.key}, where clocks went forward then: choose another"
        )
    if len(real) > 1:
        either = _or([one.astimezone(zone).isoformat() for one in real])
        raise ValueError(f"{text} was there twice in {zone.key}, where clocks went back then: write {either}")
    return real[0]
