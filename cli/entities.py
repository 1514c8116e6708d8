"""The queues, the topic and its subscription with their properties, as Azure Resource Manager names them.

Follows https://learn.microsoft.com/azure/templates/microsoft.servicebus/2024-01-01/namespaces/queues.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from shared.bus.topology import Queue, Subscription, Topic
from shared.messages.model import format_duration

Properties = dict[str, Any]


def queue_properties(queue: Queue) -> Properties:
    """The `properties` of a queue."""
    forwards_to = queue.forward_dead_letters_to
    return {
        "requiresDuplicateDetection": True,
        "duplicateDetectionHistoryTimeWindow": iso_duration(queue.duplicate_detection_window),
        "requiresSession": False,
        "lockDuration": iso_duration(queue.lock_duration),
        "maxDeliveryCount": queue.max_delivery_count,
        "deadLetteringOnMessageExpiration": queue.dead_letter_expired,
        **({"forwardDeadLetteredMessagesTo": forwards_to} if forwards_to is not None else {}),
    }


def topic_properties(topic: Topic) -> Properties:
    """The `properties` of a topic."""
    return {
        "requiresDuplicateDetection": True,
        "duplicateDetectionHistoryTimeWindow": iso_duration(topic.duplicate_detection_window),
    }


def subscription_properties(subscription: Subscription) -> Properties:
    """The `properties` of a topic's subscription."""
    return {
        "requiresSession": False,
        "lockDuration": iso_duration(subscription.lock_duration),
        "maxDeliveryCount": subscription.max_delivery_count,
        "defaultMessageTimeToLive": iso_duration(subscription.time_to_live),
    }


def iso_duration(value: timedelta) -> str:
    """A duration in ISO 8601, in hours or minutes where it is a whole number of them."""
    text = format_duration(value)
    seconds = re.fullmatch(r"PT(\d+)S", text)
    count = int(seconds[1]) if seconds is not None else 0
    if count and count % 3600 == 0:
        return f"PT{count // 3600}H"
    return f"PT{count // 60}M" if count and count % 60 == 0 else text
