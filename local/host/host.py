"""The local Functions host: calls the function of each message and timer, and settles by the result.

Semantics follow https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus-trigger:
success completes, an exception abandons; a single message's lock is renewed while its function runs, a
batch's locks are not; `host.json` limits what one function handles at the same time, and the worker's threads limit
the total.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from local.broker import BrokerStorageError, ReceivedMessage
from local.host import trigger_values
from local.host.host_json import HostSettings
from local.host.indexing import FunctionDefinition, IndexingError
from local.host.receiver import Receiver
from local.host.timers import Timer
from shared.clock import Clock, SystemClock

logger: Final = logging.getLogger("local.host")

#: How long running functions may go on after the host was told to stop.
DRAIN: Final = timedelta(seconds=30)
#: All queues are looked at this often at least, in case a notification is lost.
_LONGEST_PAUSE: Final = 5.0
#: Seconds until the next pass after a failed one.
_AFTER_FAILURE: Final = 1.0
#: `run_until_idle` gives up after this many messages.
_ENDLESS: Final = 1_000_000


@dataclass(eq=False)
class Invocation:
    """One call of a function."""

    function: FunctionDefinition
    messages: Sequence[ReceivedMessage]
    id: str = field(default_factory=lambda: str(uuid4()))
    #: by the host's monotonic clock, in seconds
    began: float = 0.0
    #: when the lock is renewed next; None: never (again)
    renew_at: float | None = None
    #: it has run longer than `functionTimeout`: whatever it returns counts as a failure
    overdue: bool = False


class Host:
    """Runs the functions of one app. `start` and `stop` for threads, or `run_until_idle` without any.

    Args:
        functions: what `index` found.
        receiver: where messages come from.
        settings: of `host.json`.
        clock: for timers and the renewal of locks.
        timers: whether timers fire.
        threads: functions that run at the same time; the Python worker's default where None
            (`PYTHON_THREADPOOL_THREAD_COUNT`, else the number of processors plus 4).

    Raises:
        IndexingError: a timer's schedule cannot be followed.
    """

    def __init__(
        self,
        functions: Sequence[FunctionDefinition],
        receiver: Receiver,
        *,
        settings: HostSettings | None = None,
        clock: Clock | None = None,
        timers: bool = True,
        threads: int | None = None,
    ) -> None:
        self._functions = [function for function in functions if function.entity]
        self._receiver = receiver
        self._settings = settings or HostSettings()
        self._clock = clock or SystemClock()
        self._threads = threads or _default_threads()
        self._timers: list[tuple[FunctionDefinition, Timer]] = []
        if timers:
            self._timers = [(function, self._timer(function)) for function in functions if function.schedule]
        self._condition = threading.Condition()
        self._changed = False
        self._stopping = False
        self._abandoned = False
        self._running: list[Invocation] = []
        self._gathering: dict[str, tuple[float, list[ReceivedMessage]]] = {}
        self._first = 0  # the index of the function whose turn it is
        self._work: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._dispatcher: threading.Thread | None = None
        self._failures = 0

    def _timer(self, function: FunctionDefinition) -> Timer:
        try:
            return Timer(function.schedule, self._clock.now(), at_once=function.run_on_startup)
        except ValueError as error:
            raise IndexingError(f"function {function.name}: {error}") from error

    # -- state

    @property
    def running(self) -> list[Invocation]:
        """The calls that have not returned yet."""
        with self._condition:
            return list(self._running)

    @property
    def failures(self) -> int:
        """How many calls have raised so far."""
        with self._condition:
            return self._failures

    # -- with threads

    def start(self) -> None:
        """Start to receive, on threads of its own."""
        if self._dispatcher is not None:
            raise RuntimeError("the host was started before")
        # Daemon threads, so that a function that never returns does not keep the process alive.
        for number in range(self._threads):
            threading.Thread(target=self._worker, name=f"function-{number}", daemon=True).start()
        self._dispatcher = threading.Thread(target=self._dispatch, name="host-dispatcher", daemon=True)
        self._dispatcher.start()

    def stop(self, grace: timedelta = DRAIN) -> bool:
        """Stop receiving and let functions that run finish.

        Returns:
            Whether all have finished. The messages of the others are delivered again when their locks end.
        """
        with self._condition:
            self._stopping = True
            self._notify()
        if self._dispatcher is None:
            return True
        self._dispatcher.join(grace.total_seconds())
        drained = not self._dispatcher.is_alive()
        for _ in range(self._threads):
            self._work.put(None)
        if not drained:
            names = sorted({invocation.function.name for invocation in self.running})
            logger.error(
                "functions still running after the time to drain: %s",
                ", ".join(names),
                extra={"action": "drain"},
            )
        return drained

    def abandon(self) -> None:
        """Stop at once. What still runs may fail on what is closed beneath it, which is no failure of a function."""
        with self._condition:
            self._stopping = self._abandoned = True
            self._notify()

    def _dispatch(self) -> None:
        unlisten = self._receiver.add_listener(self._notify)
        try:
            while True:
                with self._condition:
                    self._changed = False
                    if self._stopping:
                        self._give_back_gathered()
                    if self._stopping and not self._running:
                        return
                pause = self._pass()
                with self._condition:
                    self._condition.wait_for(lambda: self._changed, pause)
        finally:
            unlisten()

    def _pass(self) -> float:
        """Start functions for waiting messages, and renew locks; returns the seconds until the next pass."""
        try:
            if not self._stopping:
                self._start_timers()
                self._start_available()
            self._renew_locks()
            return self._pause()
        except Exception as error:
            # Whatever failed, messages must still be received.
            self._log_failure("looking for messages failed", error, action="receive")
            return _AFTER_FAILURE

    def _notify(self) -> None:
        with self._condition:
            self._changed = True
            self._condition.notify_all()

    def _pause(self) -> float:
        """Seconds until the next pass is due without a notification."""
        pauses = [_LONGEST_PAUSE]
        now = self._clock.now()
        due = self._receiver.next_due() if not self._stopping else None
        moments = [timer.due for _, timer in self._timers] if not self._stopping else []
        pauses += [(moment - now).total_seconds() for moment in (*moments, due) if moment is not None]
        elapsed = self._clock.monotonic()
        with self._condition:
            pauses += [i.renew_at - elapsed for i in self._running if i.renew_at is not None]
            pauses += [deadline - elapsed for deadline, _ in self._gathering.values()]
        return max(0.0, min(pauses))

    def _start_available(self) -> None:
        for offset in range(len(self._functions)):
            function = self._functions[(self._first + offset) % len(self._functions)]
            with self._condition:
                free = self._threads - len(self._running)
                own = sum(invocation.function is function for invocation in self._running)
            if free <= 0:
                break
            try:
                if function.batch:
                    # One batch at a time, as in the extension.
                    batch = self._gather(function) if own == 0 else []
                    if batch:
                        self._begin(function, batch)
                    continue
                room = min(free, self._settings.max_concurrent_calls - own)
                if room > 0:
                    for message in self._receiver.receive(function.entity, room):
                        self._begin(function, [message])
            except Exception as error:
                self._log_failure(f"receiving from {function.entity} failed", error, action="receive")
        if self._functions:
            self._first = (self._first + 1) % len(self._functions)

    def _gather(self, function: FunctionDefinition) -> list[ReceivedMessage]:
        """A batch, once it is large enough or has waited long enough."""
        most, least = self._settings.max_message_batch_size, self._settings.min_message_batch_size
        now = self._clock.monotonic()
        deadline, gathered = self._gathering.pop(
            function.name, (now + self._settings.max_batch_wait_time.total_seconds(), [])
        )
        gathered += self._receiver.receive(function.entity, most - len(gathered))
        if len(gathered) >= min(least, most) or (gathered and now >= deadline):
            return gathered
        if gathered:
            self._gathering[function.name] = (deadline, gathered)
        return []

    def _give_back_gathered(self) -> None:
        for function in self._functions:
            _, gathered = self._gathering.pop(function.name, (0.0, []))
            for message in gathered:
                self._settle(function, message, self._receiver.abandon)

    def _start_timers(self) -> None:
        now = self._clock.now()
        for function, timer in self._timers:
            # A timer is a singleton: while its function runs, it does not fire.
            if timer.due <= now and not any(i.function is function for i in self.running):
                self._begin(function, [])

    def _begin(self, function: FunctionDefinition, messages: Sequence[ReceivedMessage]) -> None:
        invocation = Invocation(function, messages, began=self._clock.monotonic())
        if len(messages) == 1 and not function.batch:
            invocation.renew_at = self._half_way(invocation, messages[0].locked_until)
        with self._condition:
            self._running.append(invocation)
        self._work.put(invocation)

    def _worker(self) -> None:
        while (invocation := self._work.get()) is not None:
            try:
                self._invoke(invocation)
            finally:
                with self._condition:
                    self._running.remove(invocation)
                    self._notify()

    # -- locks

    def _half_way(self, invocation: Invocation, locked_until: datetime) -> float | None:
        now = self._clock.monotonic()
        renew_at = now + (locked_until - self._clock.now()).total_seconds() / 2
        last = invocation.began + self._settings.max_auto_lock_renewal_duration.total_seconds()
        return renew_at if renew_at <= last else None

    def _renew_locks(self) -> None:
        now = self._clock.monotonic()
        timeout = self._settings.function_timeout
        for invocation in self.running:
            if (
                timeout is not None
                and not invocation.overdue
                and now - invocation.began > timeout.total_seconds()
            ):
                invocation.overdue, invocation.renew_at = True, None
                logger.error(
                    "function %s has run for longer than functionTimeout: its message will be delivered again",
                    invocation.function.name,
                    extra={"action": "timeout", "invocation": invocation.id},
                )
            if invocation.renew_at is None or now < invocation.renew_at:
                continue
            message = invocation.messages[0]
            try:
                until = self._receiver.renew(invocation.function.entity, message.lock_token)
                invocation.renew_at = self._half_way(invocation, until)
            except Exception as error:
                invocation.renew_at = None
                logger.warning(
                    "the lock of message %s of function %s was not renewed: %s",
                    message.message_id,
                    invocation.function.name,
                    error,
                    extra={"action": "renew", "invocation": invocation.id},
                )

    # -- without threads

    def run_until_idle(self) -> int:
        """Handle every message that is there now and every timer that is due, on this thread.

        The order is the same each time: one message (or batch) of each function in turn. Messages that the functions
        send are handled too, unless they are scheduled for later.

        Returns:
            How many messages were handled.

        Raises:
            RuntimeError: the messages do not end.
        """
        handled = 0
        for function, timer in self._timers:
            if timer.due <= self._clock.now():
                self._invoke(Invocation(function, [], began=self._clock.monotonic()))
        progress = True
        while progress:
            progress = False
            for function in self._functions:
                most = self._settings.max_message_batch_size if function.batch else 1
                messages = self._receiver.receive(function.entity, most)
                if not messages:
                    continue
                self._invoke(Invocation(function, messages, began=self._clock.monotonic()))
                handled += len(messages)
                progress = True
            if handled > _ENDLESS:
                raise RuntimeError("the functions send each other messages without end")
        return handled

    # -- one call

    def _log_failure(self, failed: str, error: Exception, **fields: str) -> None:
        if self._abandoned or isinstance(error, BrokerStorageError):
            # Not a defect: whoever runs the host knows of it, from the broker in the second case.
            logger.warning("%s: %s", failed, error, extra=fields)
            return
        logger.error(failed, exc_info=error, extra=fields)

    def _invoke(self, invocation: Invocation) -> None:
        """Call the function and settle its messages.

        Only an `Exception` is a failure of the function. Anything else ends the process, as on the platform, and the
        messages stay locked.
        """
        function = invocation.function
        try:
            function.invoke(self._value(invocation))
        except Exception as error:
            with self._condition:
                self._failures += 1
            self._log_failure(
                f"function {function.name} failed", error, action="invoke", invocation=invocation.id
            )
            settle = self._receiver.abandon
        else:
            logger.debug(
                "function %s succeeded in %.0f ms",
                function.name,
                (self._clock.monotonic() - invocation.began) * 1000,
                extra={"action": "invoke", "invocation": invocation.id},
            )
            if not self._settings.auto_complete_messages:
                return
            settle = self._receiver.abandon if invocation.overdue else self._receiver.complete
        for message in invocation.messages:
            self._settle(function, message, settle)

    def _value(self, invocation: Invocation) -> object:
        function = invocation.function
        if function.schedule:
            timer = next(timer for known, timer in self._timers if known is function)
            last = timer.last
            past_due = timer.fire(self._clock.now())
            return trigger_values.timer(past_due=past_due, last=last, following=timer.due)
        if function.batch:
            return trigger_values.batch(invocation.messages, binary=function.binary)
        return trigger_values.single(invocation.messages[0], binary=function.binary)

    def _settle(
        self,
        function: FunctionDefinition,
        message: ReceivedMessage,
        settle: Callable[[str, UUID], None],
    ) -> None:
        try:
            settle(function.entity, message.lock_token)
        except Exception as error:
            # The broker delivers it again when the lock has ended: delivery is at least once.
            logger.warning(
                "message %s of function %s was not settled: %s",
                message.message_id,
                function.name,
                error,
                extra={"action": "settle"},
            )


def _default_threads() -> int:
    configured = os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
    return int(configured) if configured.isdigit() and int(configured) else (os.cpu_count() or 1) + 4
