"""Sentences about the state of a database: what is the matter, and what to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from shared.azure_backup.models import ErrorDetail
from shared.engine.advice import advised
from shared.messages.events import ErrorInfo

START_VM: Final = "Start the VM and see that its backup extension answers."
START_OR_REGISTER_VM: Final = "Start the VM, or register it again where its backup extension does not answer."
#: What to do about an entry that this app cannot use, by its code.
ADVICE_ON_UNUSABLE: Final = {
    "NotAddressable": "Look at it in the portal; no path of the service's REST API can carry its name.",
    "NotReadable": "Look at it in the portal; the service's answer about it has not the expected form.",
    "ProtectedAsInstance": "Look at the instance's backups in the portal.",
    "ProtectedBySnapshots": "Look at its backups in the portal.",
    "KindNotSupported": "Look at it in the portal.",
}


def explained(error: ErrorDetail | None, code: str, message: str) -> tuple[str, str, str]:
    """The service's code, message and advice; `code` and `message` where it gives none."""
    info = ErrorInfo(
        code=(error.code if error is not None else "") or str(code),
        message=(error.message if error is not None else "") or message,
        recommendations=error.recommendations if error is not None else (),
    )
    known = advised(info) or info
    # There is no request that could be sent again.
    advice = " ".join(known.recommendations).replace(", then send the request again", "")
    return known.code, known.message, advice or "Look at it in the vault."


def in_words(span: timedelta) -> str:
    """A length of time in words: `3 days 2 hours`, `45 minutes`."""
    minutes = max(0, round(span.total_seconds() / 60))
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "day"), (hours, "hour"), (minutes, "minute")]
    shown = [f"{count} {unit}{'s' if count != 1 else ''}" for count, unit in parts if count][:2]
    return " ".join(shown) or "under a minute"
