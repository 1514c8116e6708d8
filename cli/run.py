"""`sqlvmbackup run`: the whole app on the embedded broker and host, for the requests of a file."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cli.display import Display, display, json_lines, print_outcomes
from cli.embedded import EmbeddedApp, embedded_app, settings_of_a_run, step_request
from cli.encoding import in_utf_8
from cli.errors import CommandError
from cli.following import FollowedRequest, Following
from cli.outcomes_file import OutcomesFile
from cli.progress import in_flight
from cli.request_lines import RequestLine, read_request_lines
from local.broker import BrokerStorageError
from local.host.host import DRAIN
from local.host.signals import stop_requested
from shared.bus import MessageTooLargeError
from shared.bus.topology import JOB_OUTCOMES
from shared.messages.cloud_events import InvalidMessageError, read_envelope
from shared.messages.events import ErrorInfo, rejected_id, request_rejected
from shared.messages.requests import REQUEST_TYPES

#: Seconds of real time between two looks at the queues.
_REFRESH: Final = 0.25
#: How long functions that run are waited for where the state cannot be written any more.
_AFTER_FAILURE: Final = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How requests are run."""

    arm_endpoint: str | None = None
    outcomes: Path | None = None
    state: Path | None = None
    in_order: bool = False
    as_json: bool | None = None
    #: what to type to go on after an interruption
    again: str = "run the same command again"
    #: what an interruption means where nothing keeps the run
    left: str = (
        "what was started goes on in Azure, and its outcomes are in the vault's jobs. With --state DIR, the same"
        " command goes on where it was."
    )


def read_file(name: str) -> list[RequestLine]:
    """The requests of a file, or of standard input where it is called `-`. Raises CommandError."""
    try:
        data = in_utf_8(sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes())
    except OSError as error:
        raise CommandError(
            f"the requests in {name} cannot be read ({error.strerror}): name a JSONL file with --requests."
        ) from error
    except ValueError as error:
        raise CommandError(
            f"the requests in {name} begin as UTF-16 and are not: save the file as UTF-8."
        ) from error
    if _is_laid_out(data):
        raise CommandError(
            f"the requests in {name} are JSON over several lines, or a list; each line of the file is one request:"
            " write it with `ConvertTo-Json -Compress`, or `jq -c`."
        )
    return read_request_lines(data.split(b"\n"))


def _is_laid_out(data: bytes) -> bool:
    """Whether the file begins with JSON over several lines, or with a list, which no request is."""
    text = data.decode("utf-8-sig", "replace").lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) or (isinstance(value, dict) and "\n" in text[:end])


def run_requests(
    lines: Sequence[RequestLine], options: RunOptions, environment: Mapping[str, str] | None = None
) -> int:
    """Run the requests to their outcomes; returns the exit status.

    Raises:
        CommandError: options, settings or files cannot be used, or not any more.
    """
    settings = settings_of_a_run(os.environ if environment is None else environment, options.arm_endpoint)
    with ExitStack() as stack:
        app = stack.enter_context(embedded_app(settings, options.state))
        file = None
        if options.outcomes is not None:
            file = stack.enter_context(OutcomesFile(options.outcomes, keep=app.resumed))
        stop = stack.enter_context(stop_requested())
        shown = display()
        stack.callback(shown.close)
        run = Run(app, Following(lines), file, shown, stop)
        try:
            finished = run.to_the_end(in_order=options.in_order)
        except BrokerStorageError as error:
            raise CommandError(f"the state is not kept any more: {error}; then {options.again}.") from error
        shown.close()
        print_outcomes(run.following.final_outcomes(), as_json=json_lines(options.as_json))
        if not finished:
            shown.note(_how_to_go_on(options))
        return 0 if finished and run.following.succeeded else 1


def _how_to_go_on(options: RunOptions) -> str:
    if options.state is not None:
        return f"Interrupted; {options.again} to go on where it was."
    return f"Interrupted; {options.left}"


class Run:
    """Requests on their way through the app."""

    def __init__(
        self,
        app: EmbeddedApp,
        following: Following,
        file: OutcomesFile | None,
        shown: Display,
        stop: threading.Event,
    ) -> None:
        self.following = following
        self._app = app
        self._file = file
        self._shown = shown
        self._stop = stop

    def to_the_end(self, *, in_order: bool) -> bool:
        """Send the requests and wait for all outcomes; False where it was asked to stop before."""
        self._expect_replays()
        self._take_events(quietly=True)
        self._app.host.start()
        try:
            if in_order:
                return all(self._send_and_wait([request]) for request in self.following.requests)
            return self._send_and_wait(self.following.requests)
        finally:
            if self._stop.is_set():
                self._shown.note("Stopping: what runs is finished first, at most 30 seconds.")
            # What cannot be kept is not worth waiting for: it is as if the process had been killed.
            failed = self._app.broker.storage_error is not None
            self._app.host.stop(_AFTER_FAILURE if failed else DRAIN)
            if not failed:
                self._take_events()

    def _expect_replays(self) -> None:
        for message, epoch in self._app.pending_epochs():
            known = step_request(message.body)
            if known:
                found = self.following.find(known.get("operation"), known.get("source"), known.get("id"))
            else:
                try:
                    envelope = read_envelope(message.body)
                    operation = (
                        REQUEST_TYPES[envelope.type][0].value if envelope.type in REQUEST_TYPES else None
                    )
                    found = self.following.find(operation, envelope.source, envelope.id)
                except InvalidMessageError:
                    found = None
                if found is None:
                    rejected = self.following.find_rejection(rejected_id(message.body, epoch))
                    found = rejected[0] if rejected is not None else None
            if found is not None:
                self.following.expect_epoch(found, epoch)

    def _send_and_wait(self, requests: Sequence[FollowedRequest]) -> bool:
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
            self._shown.refresh(self.following, list(in_flight(self._app)))
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
        """Take note of what was published; whether there was anything."""
        news = False
        for event in self._app.new_events():
            observed = self.following.observe(event)
            if observed is None:
                continue
            news = True
            if observed.kind == "outcome" and self._file is not None:
                self._file.write(event)
            if not quietly:
                self._shown.observed(observed)
        return news
