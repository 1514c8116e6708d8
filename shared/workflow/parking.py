"""A message as it is delivered, and the two ways to set it aside whole: it waits in its own queue, or is parked.

Changes with what a message that was set aside has to carry, so that it can be told, shown and replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from shared.bus import Bus, OutgoingMessage
from shared.bus.topology import PARKED_MESSAGES
from shared.messages.parking import packed
from shared.messages.steps import fingerprint

#: The application property that says how often a message has been replayed.
EPOCH: Final = "epoch"
#: What only an operator can mend (settings, a rollback) is tried again after this long.
_OPERATOR_WAIT: Final = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message as the platform hands it to a function."""

    queue: str
    body: bytes
    message_id: str = ""
    delivery_count: int = 1
    locked_until: datetime | None = None
    #: when this process took it, by the machine's clock
    taken: datetime
    application_properties: Mapping[str, Any] = field(default_factory=dict)
    content_type: str | None = None
    correlation_id: str | None = None

    @property
    def epoch(self) -> int:
        """How often it has been replayed."""
        value = str(self.application_properties.get(EPOCH, 0))
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 0


def park(
    delivery: Delivery, reason: str, description: str, *, queue: str | None = None, epoch: int | None = None
) -> OutgoingMessage:
    """The original of a message that could not be handled, whole, for `parked-messages`."""
    kept = {
        name: value
        for name, value in delivery.application_properties.items()
        if isinstance(value, str | int | bool) and name not in ("reason", "description", "originalQueue")
    }
    epoch = delivery.epoch if epoch is None else epoch
    body, encoding = packed(delivery.body)
    return OutgoingMessage(
        entity=PARKED_MESSAGES,
        body=body,
        message_id=fingerprint(
            "parked", queue or delivery.queue, delivery.message_id, delivery.body.hex(), epoch
        ),
        content_type=delivery.content_type or "application/json",
        correlation_id=delivery.correlation_id,
        application_properties={
            **kept,
            "reason": reason,
            "description": description[:1024],
            "originalQueue": queue or delivery.queue,
            "originalMessageId": delivery.message_id,
            EPOCH: epoch,
            **encoding,
        },
    )


def wait_for_operator(
    delivery: Delivery, bus: Bus, now: datetime, *, wait: timedelta = _OPERATOR_WAIT
) -> None:
    """Send a message to its own queue again, for `wait` later; unchanged, but for how often it waited."""
    seen = delivery.application_properties.get("waited", 0)
    waited = seen + 1 if isinstance(seen, int) else 1
    bus.send(
        [
            OutgoingMessage(
                entity=delivery.queue,
                body=delivery.body,
                message_id=fingerprint("waited", delivery.message_id, delivery.body.hex(), waited),
                content_type=delivery.content_type or "application/json",
                correlation_id=delivery.correlation_id,
                application_properties={**_plain(delivery.application_properties), "waited": waited},
                scheduled_for=now + wait,
            )
        ]
    )


def _plain(properties: Mapping[str, Any]) -> dict[str, str | int | bool]:
    return {name: value for name, value in properties.items() if isinstance(value, str | int | bool)}
