"""`sqlvmbackup run`: the whole app on the embedded broker and host, for the requests of a file."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cli.awaited_requests import AwaitedRequest, AwaitedRequests
from cli.display import Display, display
from cli.embedded import EmbeddedApp, embedded_app, request_of, require_kept_run, settings_of_a_run
from cli.errors import INTERRUPTED, CommandError
from cli.flags import in_flags
from cli.left_out import all_left_out, note_on_excludes, unprotected
from cli.outcomes_file import OutcomesFile
from cli.output import Format, Output, output_of
from cli.progress import Moving, Stopwatch, in_flight
from cli.request_file import read_file
from cli.request_lines import RequestLine
from cli.results import Reword, print_outcomes
from cli.state import unfinished
from cli.wording import count_of
from local.broker import BrokerStorageError
from local.host.host import DRAIN
from local.host.signals import stop_requested
from shared.bus import MessageTooLargeError
from shared.bus.topology import JOB_OUTCOMES
from shared.messages.events import ErrorInfo, rejected_id, request_rejected

#: Seconds of real time between two looks at the queues.
_REFRESH: Final = 0.25
#: How long to wait for running functions once the state can no longer be written.
_AFTER_FAILURE: Final = timedelta(seconds=2)
#: The loggers that report failed calls to Azure.
_ENGINE: Final = "shared.engine.failures"
#: Seconds of real time without any success after which a person is told, and then told again.
_SILENCE: Final = 5.0
_TOLD_AGAIN: Final = 60.0

JSON_LINES: Final = Output(format=Format.JSONL)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How requests are run."""

    arm_endpoint: str | None = None
    outcomes: Path | None = None
    state: Path | None = None
    in_order: bool = False
    output: Output = JSON_LINES
    #: the request was built of flags, and messages speak of those
    from_flags: bool = False
    #: whether what else the state holds is finished as well
    with_unfinished: bool = False
    #: the sentence where there is no request at all
    nothing: str = ""
    #: called with the outcomes, once all have arrived
    finished: Callable[[Iterable[dict[str, Any]]], None] = lambda _outcomes: None
    #: what to type to go on after an interruption
    again: str = "run the same command again to go on where it was"
    #: what an interruption means where nothing keeps the run
    left: str = (
        "what was started goes on in Azure, and its outcomes are in the vault's jobs. A run with --state DIR goes"
        " on where it was."
    )

    @property
    def reword(self) -> Reword:
        """How what the app says is put to a person."""
        return in_flags if self.from_flags else str


def run_file(options: argparse.Namespace) -> int:
    """Run the requests of a file, and what the state holds; returns the exit status. Raises CommandError."""
    if options.requests is None and options.state is None:
        raise CommandError(
            "there is nothing to run: name a file with --requests FILE, or with --state DIR the state of an earlier"
            " run that is to go on."
        )
    if options.requests is None:
        require_kept_run(options.state)
    output = output_of(options)
    _refuse_to_overwrite(options.requests, options.outcomes)
    lines = read_file(options.requests) if options.requests is not None else []
    return run_requests(
        lines,
        RunOptions(
            arm_endpoint=options.arm_endpoint,
            outcomes=options.outcomes,
            state=options.state,
            in_order=options.in_order,
            output=output,
            with_unfinished=True,
            nothing=f"There is no request in {_named(options.requests)}."
            if options.requests is not None
            else f"Nothing in {options.state} is unfinished.",
        ),
    )


def _named(requests: str) -> str:
    return "standard input" if requests == "-" else requests


def _refuse_to_overwrite(requests: str | None, outcomes: Path | None) -> None:
    if requests in (None, "-") or outcomes is None:
        return
    try:
        same = outcomes.samefile(str(requests))
    except OSError:
        return  # one of them is not there
    if same and outcomes.is_file():
        raise CommandError(f"--outcomes: {outcomes} holds the requests: name another file.")


def run_requests(
    lines: Sequence[RequestLine], options: RunOptions, environment: Mapping[str, str] | None = None
) -> int:
    """Run the requests to their outcomes; returns the exit status.

    Raises:
        CommandError: options, settings or files cannot be used, or not any more.
    """
    settings = settings_of_a_run(os.environ if environment is None else environment, options.arm_endpoint)
    began = time.monotonic()
    with ExitStack() as stack:
        app = stack.enter_context(embedded_app(settings, options.state))
        if app.resumed:
            _refuse_used_ids(lines, app, options)
        lines = [*lines, *_beside(lines, app, options)]
        file = None
        if options.outcomes is not None:
            file = stack.enter_context(OutcomesFile(options.outcomes, resumed=app.resumed))
        if not lines and options.nothing:
            print(options.nothing, file=sys.stderr)
        stop = stack.enter_context(stop_requested())
        shown = display(requests=len(lines), reword=options.reword)
        stack.callback(shown.close)
        awaited = AwaitedRequests(lines)
        watch = Stopwatch(awaited, scale=app.runtime.service_clock.scale, began=began)
        run = Run(app, awaited, file, shown, stop, state=options.state, watch=watch)
        try:
            finished = run.to_the_end(in_order=options.in_order)
        except BrokerStorageError as error:
            raise CommandError(f"the state is not kept any more: {error}; then {options.again}.") from error
        except KeyboardInterrupt:
            # It was asked to stop before, and not to wait for what runs.
            shown.note(_how_to_go_on(options))
            return INTERRUPTED
        shown.close()
        _print_results(
            awaited, app, options, shown, finished=finished, elapsed=watch.elapsed(time.monotonic())
        )
        if finished:
            options.finished(awaited.final_outcomes())
        if not finished:
            shown.note(_how_to_go_on(options))
            return INTERRUPTED
        return 0 if awaited.succeeded else 1


def _print_results(
    awaited: AwaitedRequests,
    app: EmbeddedApp,
    options: RunOptions,
    shown: Display,
    *,
    finished: bool,
    elapsed: timedelta,
) -> None:
    left_out = all_left_out(awaited)
    if finished and options.from_flags:
        (request,) = awaited.requests
        left_out += unprotected(request.line, app)
        note = note_on_excludes(request.line, request.accepted)
        if note is not None:
            shown.note(note)
    print_outcomes(
        awaited,
        options.output,
        left_out=left_out,
        elapsed=elapsed,
        simulated=app.runtime.service_clock.scale != 1,
        reword=options.reword,
    )


def _refuse_used_ids(lines: Sequence[RequestLine], app: EmbeddedApp, options: RunOptions) -> None:
    """Raise CommandError where the state knows another request by an id: its outcomes would be taken for this one's.

    What a request asked for is not kept once it has ended. Its message id is, which is made of its bytes too. One that
    was only refused may be corrected under its id.
    """
    others = AwaitedRequests(line for line in lines if _is_used_otherwise(line, app))
    if not others.requests:
        return
    for _, event in app.events():
        others.observe(event)
    on_their_way = {line.key for line in unfinished(app)}
    for request in others.requests:
        line = request.line
        if line.envelope is not None and (request.known or line.key in on_their_way):
            named, todo = (
                ("--id", "give a new --id")
                if options.from_flags
                # Only the bytes are known: a file that was written anew may ask for the same with another `time`.
                else (
                    f"line {line.number}: the id",
                    "give a new id, or to go on the line as it was, byte for byte",
                )
            )
            raise CommandError(
                f"{named} {line.envelope.id} was already used in {options.state} for another request: {todo}."
            )


def _is_used_otherwise(line: RequestLine, app: EmbeddedApp) -> bool:
    message = line.message()
    if message.message_id == line.key:
        return False  # made of all its bytes
    used = app.broker.remembered_ids(message.entity, message.message_id.rpartition(":")[0])
    return bool(used) and message.message_id not in used


def _beside(lines: Sequence[RequestLine], app: EmbeddedApp, options: RunOptions) -> list[RequestLine]:
    """The requests in the state besides those that were given.

    Raises CommandError where the one request of a command is not to be mixed with it.
    """
    if not app.resumed:
        return []
    given = {line.key for line in lines}
    others = [line for line in unfinished(app) if line.key not in given]
    if not others:
        return []
    names = ", ".join(line.label for line in others[:5])
    more = f" and {len(others) - 5} more" if len(others) > 5 else ""
    if not options.with_unfinished:
        raise CommandError(
            f"the state in {options.state} holds what has not ended: {names}{more}. Finish it with"
            f" `sqlvmbackup run --state {options.state}`, or give this request another directory."
        )
    print(f"Going on with what the state holds: {names}{more}.", file=sys.stderr)
    return others


def _how_to_go_on(options: RunOptions) -> str:
    if options.state is not None:
        return f"Interrupted; {options.again}."
    return f"Interrupted; {options.left}"


class Trouble(logging.Handler):
    """Remembers the last failed call to Azure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        self._since: float | None = None
        self._told: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what was logged of it."""
        error = next((one for one in record.args or () if isinstance(one, Exception)), None)
        if error is not None:
            self.text = str(error)

    def to_tell(self, moving: Moving, at: float) -> str | None:
        """What to tell where no call has succeeded for a while; once per minute."""
        if not self.text or not moving.shown or not all(one.failing for one in moving.shown):
            self._since = None
            return None
        self._since = self._since or at
        lasting = at - self._since
        if lasting < _SILENCE or (self._told is not None and at - self._told < _TOLD_AGAIN):
            return None
        self._told = at
        return f"Calls to Azure keep failing; they are tried again (Ctrl-C stops that). {self.text}"


class Run:
    """Requests on their way through the app."""

    def __init__(
        self,
        app: EmbeddedApp,
        awaited: AwaitedRequests,
        file: OutcomesFile | None,
        shown: Display,
        stop: threading.Event,
        *,
        state: Path | None,
        watch: Stopwatch,
    ) -> None:
        self._state = state
        self._watch = watch
        self._trouble = Trouble()
        self.awaited = awaited
        self._app = app
        self._file = file
        self._shown = shown
        self._stop = stop

    def to_the_end(self, *, in_order: bool) -> bool:
        """Send the requests and wait for all outcomes; False where it was stopped before."""
        self._expect_replays()
        self._take_events(quietly=True)
        self._tell_what_ended_before()
        self._watch.begin()
        self._app.host.start()
        log = logging.getLogger(_ENGINE)
        before = log.level, log.propagate
        if not log.isEnabledFor(logging.WARNING):
            log.setLevel(logging.WARNING)
            log.propagate = False
        log.addHandler(self._trouble)
        try:
            if in_order:
                return all(self._send_and_wait([request]) for request in self.awaited.requests)
            return self._send_and_wait(self.awaited.requests)
        finally:
            log.removeHandler(self._trouble)
            log.level, log.propagate = before
            if self._stop.is_set():
                self._shown.note("Stopping: what runs is finished first, at most 30 seconds.")
            # What cannot be kept is not worth waiting for: it is as if the process had been killed.
            failed = self._app.broker.storage_error is not None
            self._app.host.stop(_AFTER_FAILURE if failed else DRAIN)
            if not failed:
                self._take_events()

    def _tell_what_ended_before(self) -> None:
        requests = self.awaited.requests
        ended = sum(request.complete for request in requests)
        if ended:
            self._shown.note(
                f"Ended before in {self._state}, and not sent again: {ended:,} of"
                f" {count_of(len(requests), 'request')}. To ask again, use a new id."
            )

    def _expect_replays(self) -> None:
        for message, epoch in self._app.pending_epochs():
            found = self.awaited.find(*request_of(message.body))
            if found is None:
                rejected = self.awaited.find_rejection(rejected_id(message.body, epoch))
                found = rejected[0] if rejected is not None else None
            if found is not None:
                self.awaited.expect_epoch(found, epoch)

    def _send_and_wait(self, requests: Sequence[AwaitedRequest]) -> bool:
        for request in requests:
            if not request.known:
                self._send(request.line)
        while not all(request.complete for request in requests):
            if self._stop.is_set():
                return False
            if (failure := self._app.broker.storage_error) is not None:
                raise failure
            version = self._app.broker.version
            news = self._take_events()
            moving, at = in_flight(self._app, self._shown.room), time.monotonic()
            self._shown.refresh(self.awaited, moving, self._watch.progress(at))
            if (trouble := self._trouble.to_tell(moving, at)) is not None:
                self._shown.note(trouble)
            if news:
                continue
            if self._app.idle and not self._take_events():
                for request in requests:
                    if not request.answered:
                        self._shown.note(
                            f"{request.line.label}: the app has nothing more to do for it, and"
                            f" {len(request.final_outcomes())} of {request.outcome_count or 1} outcomes came;"
                            " look for its messages with `sqlvmbackup replay`, and for errors above."
                        )
                return True
            self._app.broker.wait(_REFRESH, version)
        return True

    def _send(self, line: RequestLine) -> None:
        message = line.message()
        try:
            self._app.broker.send(message.entity, [message])
        except MessageTooLargeError as error:
            info = ErrorInfo(
                code="MessageTooLarge",
                message=f"the request is too large to be sent: {error}",
                recommendations=("Send the request in parts.",),
            )
            now = self._app.runtime.service_clock.now()
            event = request_rejected(
                line.given,
                queue=message.entity,
                message_id=message.message_id,
                identity=message.message_id,
                at=now,
                epoch=0,
                error=info,
            )
            self._app.broker.send(JOB_OUTCOMES, [event.to_message()])

    def _take_events(self, *, quietly: bool = False) -> bool:
        """Note what was published; returns whether there was anything."""
        news = [found for event in self._app.new_events() if (found := self.awaited.observe(event))]
        for observed in news:
            if observed.kind == "outcome" and self._file is not None:
                self._file.write(observed.event)
        if not quietly:
            self._shown.observed(news)
        return bool(news)
