"""The queues, the topic and their properties, as data.

The embedded broker is built from it, and a test compares the app's triggers with it.
Durations and limits follow https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas and
https://learn.microsoft.com/azure/service-bus-messaging/duplicate-detection.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

LOCK_DURATION: Final = timedelta(minutes=5)
#: While the bus takes nothing, a delivery is held for minutes before it is given back, so an outage of hours uses up
#: few deliveries. A message that kills its process is parked long before, by a count of its own.
MAX_DELIVERY_COUNT: Final = 200
SUBSCRIPTION_DELIVERY_COUNT: Final = 10
#: A replay looks through the parked messages, and each look is a delivery; 2,000 is what Service Bus allows.
PARKED_DELIVERY_COUNT: Final = 2000
REQUEST_WINDOW: Final = timedelta(days=7)
#: A duplicate poll costs only a GET, so ids need not be remembered for long.
TRACK_WINDOW: Final = timedelta(hours=1)
OUTCOME_TIME_TO_LIVE: Final = timedelta(days=14)

PROTECT_REQUESTS: Final = "protect-requests"
BACKUP_REQUESTS: Final = "backup-requests"
RESTORE_REQUESTS: Final = "restore-requests"
COVERAGE_REQUESTS: Final = "coverage-requests"
DRILL_REQUESTS: Final = "drill-requests"
EVENTS: Final = "events"
#: The queue for operators' replays; nobody else may send to it.
REPLAYS: Final = "replays"
TRACK: Final = "track"
DEAD_LETTERS: Final = "dead-letters"
PARKED_MESSAGES: Final = "parked-messages"
JOB_OUTCOMES: Final = "job-outcomes"
ALL_OUTCOMES: Final = "all"

STEP_QUEUES: Final = (
    "ensure-vault",
    "select-policy",
    "refresh-containers",
    "register-container",
    "inquire-container",
    "select-databases",
    "enable-protection",
    "select-items",
    "trigger-backup",
    "select-recovery-point",
    "trigger-restore",
    "find-vaults",
    "survey-vault",
    "select-drills",
    "check-drill",
    "clean-up-drill",
)

#: Steps of one workflow that another goes through as well: a protect request may ask for a first backup, and a drill
#: is a restore at first.
SHARED_STEPS: Final = {"protect": "trigger_backup", "drill": "trigger_restore"}

#: The queues that requesters send to.
REQUEST_QUEUES: Final = frozenset(
    {PROTECT_REQUESTS, BACKUP_REQUESTS, RESTORE_REQUESTS, COVERAGE_REQUESTS, DRILL_REQUESTS, EVENTS}
)
#: The queues that only the app sends to: those between its steps, including the tracker's.
INTERNAL_QUEUES: Final = frozenset({*STEP_QUEUES, TRACK})


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A Service Bus queue."""

    name: str
    duplicate_detection_window: timedelta = REQUEST_WINDOW
    lock_duration: timedelta = LOCK_DURATION
    max_delivery_count: int = MAX_DELIVERY_COUNT
    #: None: dead letters stay in the queue's own sub-queue
    forward_dead_letters_to: str | None = DEAD_LETTERS
    #: whether an expired message becomes a dead letter, instead of vanishing unanswered
    dead_letter_expired: bool = True


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """A subscription to a topic, without filters."""

    name: str
    time_to_live: timedelta
    lock_duration: timedelta = LOCK_DURATION
    max_delivery_count: int = SUBSCRIPTION_DELIVERY_COUNT


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A Service Bus topic with its subscriptions."""

    name: str
    subscriptions: tuple[Subscription, ...]
    duplicate_detection_window: timedelta = REQUEST_WINDOW


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Everything a namespace holds."""

    queues: tuple[Queue, ...]
    topics: tuple[Topic, ...]


TOPOLOGY: Final = Topology(
    queues=(
        *(
            Queue(name=name)
            for name in (
                PROTECT_REQUESTS,
                BACKUP_REQUESTS,
                RESTORE_REQUESTS,
                COVERAGE_REQUESTS,
                DRILL_REQUESTS,
                EVENTS,
            )
        ),
        Queue(name=REPLAYS),
        *(Queue(name=name) for name in STEP_QUEUES),
        Queue(name=TRACK, duplicate_detection_window=TRACK_WINDOW),
        Queue(name=DEAD_LETTERS, forward_dead_letters_to=None),
        Queue(name=PARKED_MESSAGES, forward_dead_letters_to=None, max_delivery_count=PARKED_DELIVERY_COUNT),
    ),
    topics=(
        Topic(
            name=JOB_OUTCOMES,
            subscriptions=(Subscription(name=ALL_OUTCOMES, time_to_live=OUTCOME_TIME_TO_LIVE),),
        ),
    ),
)
