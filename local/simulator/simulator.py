"""The simulator without its socket: a request goes in, a response comes out, and everything is recorded."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from local.simulator.authentication import action_of, check_allowed, check_token
from local.simulator.authorization import check_roles
from local.simulator.calls import Answer, Call, to_json
from local.simulator.errors import ServiceError, arm
from local.simulator.estate import Principal, VirtualMachine
from local.simulator.faults import Fault, FaultPlan
from local.simulator.http_messages import Request, Response
from local.simulator.initial_world import build_world
from local.simulator.ledger import Record
from local.simulator.routes import API_VERSIONS, Route, build_routes, refine
from local.simulator.scenario import Scenario
from local.simulator.throttling import Throttle
from local.simulator.timing import SimulatedTime, instant
from shared.clock import Clock, SystemClock

_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-[a-z]+)?")
_NOBODY = "00000000-0000-0000-0000-000000000000"
_SIGNATURE = ("t=", "c=", "s=", "h=")
"""The parameters of a signed URL, which are not written to the access log."""
_HTML = (
    b"<!DOCTYPE html>\r\n<html><head><title>502 Bad Gateway</title></head>\r\n"
    b"<body><center><h1>502 Bad Gateway</h1></center></body></html>\r\n"
)


class Simulator:
    """Azure Backup for SQL Server in Azure VMs, in this process. Safe to call from several threads.

    `clock` drives its time; it may be a `local.stepped_clock.SteppedClock`, since things happen only on requests.
    `time_scale` is real seconds per simulated second; `ledger` and `access_log` are files that receive a JSON line
    per mutation and per request.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        clock: Clock | None = None,
        time_scale: float = 1.0,
        ledger: Path | None = None,
        access_log: Path | None = None,
    ) -> None:
        self.scenario = scenario or Scenario()
        self._time = SimulatedTime(clock or SystemClock(), self.scenario.start_time, time_scale)
        self._lock = threading.Lock()
        self._ledger = Record(ledger)
        self._access = Record(access_log)
        self._world = build_world(self.scenario, self._time)
        self._routes = build_routes()
        self._faults = FaultPlan(self.scenario.faults, self.scenario.seed)
        self._throttle = Throttle(
            self.scenario.throttling,
            self.scenario.subscription_id,
            self._world.now,
            self._world.service,
        )

    # ---- for tests and embedders

    @property
    def subscription_id(self) -> str:
        """The one subscription."""
        return self.scenario.subscription_id

    @property
    def tenant_id(self) -> str:
        """The tenant of the token endpoint."""
        return self.scenario.tenant_id

    @property
    def time_scale(self) -> float:
        """Real seconds per simulated second."""
        return self._time.scale

    def now(self) -> datetime:
        """The simulator's current moment, aware, in UTC."""
        return self._time.now()

    @property
    def ledger_entries(self) -> list[dict[str, Any]]:
        """A copy of the ledger so far."""
        with self._lock:
            return list(self._ledger.entries)

    @property
    def access_entries(self) -> list[dict[str, Any]]:
        """A copy of the access log so far."""
        with self._lock:
            return list(self._access.entries)

    @property
    def machines(self) -> list[VirtualMachine]:
        """The virtual machines themselves, with what is on them now."""
        return list(self._world.machines.values())

    def vault_id(self, name: str | None = None) -> str:
        """The ARM id of the vault of that name, or of the first. Raises KeyError if there is none."""
        with self._lock:
            for vault in self._world.vaults.values():
                if name is None or vault.name.lower() == name.lower():
                    return self._world.canonical_vault_id(vault)
        raise KeyError(f"There is no vault {name!r} in the simulator.")

    def vm_id(self, name: str, resource_group: str | None = None) -> str:
        """The ARM id of the virtual machine. Raises KeyError if there is none."""
        for machine in self.machines:
            if machine.name.name.lower() == name.lower() and (
                resource_group is None or machine.name.resource_group.lower() == resource_group.lower()
            ):
                return machine.name.vm_id(self.subscription_id)
        raise KeyError(f"There is no virtual machine {name!r} in the simulator.")

    def close(self) -> None:
        """Close the ledger and the access log."""
        with self._lock:
            self._ledger.close()
            self._access.close()

    # ---- requests

    def handle(self, request: Request, wait: Callable[[float], object] | None = None) -> Response:
        """Answer a request. Never raises for what a request holds.

        If a fault delays the request, `wait` is called with the delay in real seconds before anything is done, while
        other requests go on. Without `wait` the caller has to wait for the response's `delay`.
        """
        with self._lock:
            self._world.agenda.advance(self._time.now())
            call, route = self._begin(request)
            delay = call.faults.get("delay")
            if delay is None or wait is None:
                return self._finish(call, route, delay.delay if delay is not None else 0.0)
        wait(delay.delay)
        with self._lock:
            self._world.agenda.advance(self._time.now())
            return self._finish(call, route, 0.0)

    def _begin(self, request: Request) -> tuple[Call, Route | ServiceError]:
        """The call with the faults drawn for it, and its route, or the error if it has none."""
        path = unquote(request.path)
        given_id = request.headers.get("x-ms-client-request-id")
        call = Call(request, "", {}, path, _query(request.query), client_request_id=given_id)
        try:
            route = self._route(call)
        except ServiceError as error:
            return call, error
        call.faults = self._faults.choose(route.name, path)
        return call, route

    def _finish(self, call: Call, route: Route | ServiceError, delay: float) -> Response:
        world = self._world
        request, chosen = call.request, call.faults
        headers: dict[str, str] = {}
        try:
            if isinstance(route, ServiceError):
                raise route
            instead = _before_effect(call, chosen)
            answer = instead if instead is not None else self._answer(call, route, headers)
        except ServiceError as error:
            answer = Answer(error.status, error.body(), {**error.headers, "x-ms-failure-cause": error.cause})
        self._record(call, answer)
        response = self._respond(call, answer, headers, chosen)
        response.delay += delay
        self._access.add(
            {
                "time": instant(world.now),
                "route": call.route or None,
                "method": request.method,
                "path": call.path,
                "query": "&".join(part for part in request.query.split("&") if part[:2] not in _SIGNATURE),
                "status": None if response.drop else response.status,
                "clientRequestId": call.client_request_id,
                "retryAfter": next(
                    (value for name, value in response.headers if name == "Retry-After"), None
                ),
            }
        )
        return response

    def _answer(self, call: Call, route: Route, headers: dict[str, str]) -> Answer:
        """Check the call and let its handler answer; adds to the headers. Raises ServiceError."""
        if route.needs_token:
            call.caller = check_token(self._world, call)
            self._check_version(call, route)
            check_allowed(call)
            check_roles(self._world, call)
            action, _ = action_of(call)
            headers |= self._operation_identifier(call.caller)
            headers |= self._throttle.count(call.request.method, route.backup, action, self._world.now)
        answer = route.handler(self._world, call)
        if "twice" in call.faults:
            self._record(call, answer)
            answer = route.handler(self._world, call)
        return answer

    def _operation_identifier(self, principal: Principal | None) -> dict[str, str]:
        """The header that names the caller and the region; the fixed token is nobody's."""
        world = self._world
        if not world.service.new_front_end:
            return {}
        caller = principal.object_id if principal is not None else _NOBODY
        return {
            "x-ms-operation-identifier": f"tenantId={self.tenant_id},objectId={caller}"
            f"/{world.scenario.location}/{world.ids.request_guid()}"
        }

    def _record(self, call: Call, answer: Answer) -> None:
        """Write what took effect into the ledger."""
        if answer.effect is not None:
            self._ledger.add(
                {
                    "time": instant(self._world.now),
                    "route": call.route,
                    "item": answer.effect.item,
                    "clientRequestId": call.client_request_id,
                    "jobId": answer.effect.job_id,
                    "body": call.recorded_body(),
                }
            )

    def _route(self, call: Call) -> Route:
        request = call.request
        # As in IIS, an encoded slash separates segments too.
        segments = call.path.strip("/").split("/")
        found = self._routes.find(segments)
        if found is None:
            raise self._unknown_path(call, segments)
        methods, call.parameters = found
        route = methods.get(request.method)
        if route is None:
            if any(other.needs_token for other in methods.values()):
                check_token(self._world, call)
            raise arm(
                405,
                "MethodNotAllowed",
                f"The requested resource does not support http method '{request.method}'.",
                Allow=", ".join(sorted(methods)),
            )
        route = refine(route, request)
        call.route = route.name
        return route

    def _unknown_path(self, call: Call, segments: list[str]) -> ServiceError:
        try:
            check_token(self._world, call)
        except ServiceError as error:
            return error
        lowered = [segment.lower() for segment in segments]
        if "providers" in lowered and lowered.index("providers") + 2 < len(segments):
            at = lowered.index("providers")
            namespace, kind = segments[at + 1], "/".join(segments[at + 2 :: 2])
            if namespace.lower() not in ("microsoft.recoveryservices", "microsoft.compute"):
                return arm(
                    404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid."
                )
            return arm(
                404,
                "InvalidResourceType",
                f"The resource type '{kind}' could not be found in the namespace '{namespace}' "
                f"for api version '{call.api_version}'.",
            )
        return arm(404, "NotFound", f"The path '{call.path}' is not one this service knows.")

    def _check_version(self, call: Call, route: Route) -> None:
        version = call.api_version
        if not version:
            raise arm(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        known = version in API_VERSIONS if route.provider else _API_VERSION.fullmatch(version) is not None
        if not known:
            supported = ",".join(sorted(API_VERSIONS))
            raise arm(
                400,
                "InvalidApiVersionParameter",
                f"The api-version '{version}' is invalid. The supported versions are '{supported}'.",
            )

    # Long: the headers as recorded, one after the other in the order of the service's.
    def _respond(
        self, call: Call, answer: Answer, headers: dict[str, str], faults: dict[str, Fault]
    ) -> Response:
        world = self._world
        _spoil(call, answer, faults)
        body = b""
        if answer.body is not None:
            body = answer.body if isinstance(answer.body, bytes) else to_json(answer.body)
        content_type = answer.content_type if body else ""
        if content_type == "application/json" and world.service.charset:
            content_type = "application/json; charset=utf-8"
        content_type = answer.headers.pop("Content-Type", content_type)
        lines = [("Cache-Control", "no-cache"), ("Pragma", "no-cache")]
        if answer.status != 204 or world.service.new_front_end:
            lines.append(("Expires", "-1"))
        if body and "malformedBody" in faults:
            body = body[: max(len(body) * 2 // 3, 1)]
        if "htmlBody" in faults:
            body, content_type = _HTML, "text/html"
        if "emptyBody" in faults:
            body = b""
        if content_type:
            lines.append(("Content-Type", content_type))
        if world.service.new_front_end:
            lines.append(("Server", "Kestrel"))
        else:
            lines.append(("X-Powered-By", "ASP.NET"))
            if body:
                lines.append(("Server", "Microsoft-IIS/10.0"))
            if body and answer.status == 200:
                lines.append(("Vary", "Accept-Encoding"))
        lines += list(answer.headers.items())
        lines += list(headers.items())
        request_id = world.ids.request_guid()
        lines += [
            ("x-ms-request-id", request_id),
            ("x-ms-correlation-request-id", request_id),
            ("x-ms-routing-request-id", f"SIMULATED:{world.now.strftime('%Y%m%dT%H%M%SZ')}:{request_id}"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
            ("X-Content-Type-Options", "nosniff"),
            ("Date", format_datetime(world.now.replace(microsecond=0), usegmt=True)),
        ]
        if call.client_request_id:
            lines.append(("x-ms-client-request-id", _one_line(call.client_request_id)))
        late = faults.get("delayAfterEffect")
        return Response(
            answer.status,
            lines,
            body,
            drop="dropBeforeEffect" in faults or "dropAfterEffect" in faults,
            drop_mid_body="dropMidBody" in faults,
            delay=late.delay if late is not None else 0.0,
        )


def _one_line(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:256]


def _query(text: str) -> dict[str, str]:
    """The query's parameters by lower-cased name; of two with one name the first counts.

    A second question mark before `api-version`, encoded or not, counts as `&`: the service itself hands out such URLs.
    """
    found: dict[str, str] = {}
    text = re.sub(r"(?:\?|%3f)api-version(?:=|%3d)", "&api-version=", text, flags=re.IGNORECASE)
    for name, value in parse_qsl(text, keep_blank_values=True):
        found.setdefault(name.lower(), value)
    return found


def _before_effect(call: Call, faults: dict[str, Fault]) -> Answer | None:
    """The answer of a fault in place of what was requested; None: it is done."""
    if (fault := faults.get("throttle")) is not None:
        after = fault.retry_after if fault.says_retry_after else 5
        body = {
            "error": {
                "code": fault.code or "SubscriptionRequestsThrottled",
                "message": fault.message or "Number of requests exceeded. Please try again later.",
            }
        }
        return Answer(429, body, {} if after is None else {"Retry-After": str(after)})
    if (fault := faults.get("status")) is not None:
        return _status_answer(fault, 503)
    if (fault := faults.get("redirect")) is not None:
        return _redirect(call, fault)
    # Nobody gets this one: the connection is closed.
    return Answer(503) if "dropBeforeEffect" in faults else None


def _redirect(call: Call, fault: Fault) -> Answer:
    target = urlsplit(call.request.origin)._replace(netloc=fault.host).geturl()
    return Answer(307, None, {"Location": f"{target}{call.request.path}?{call.request.query}"})


_CODES = {
    400: "BadRequest",
    401: "ExpiredAuthenticationToken",
    403: "AuthorizationFailed",
    404: "ResourceNotFound",
    408: "RequestTimeout",
    409: "Conflict",
    410: "Gone",
    429: "TooManyRequests",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServerTimeout",
    504: "GatewayTimeout",
}


def _status_answer(fault: Fault, default: int) -> Answer:
    status = fault.status or default
    code = fault.code or _CODES.get(status, "InternalServerError")
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    if status in (204, 304):
        return Answer(status, None, headers)
    message = fault.message or f"The simulator was told to answer {status} here."
    return Answer(status, {"error": {"code": code, "message": message}}, headers)


def _spoil(call: Call, answer: Answer, faults: dict[str, Fault]) -> None:
    """Apply the faults that change an answer after its effect."""
    if not faults:
        return
    if isinstance(answer.body, bytes):
        answer.body = json.loads(answer.body)
    if (fault := faults.get("statusAfterEffect")) is not None:
        changed = _status_answer(fault, 500)
        answer.status, answer.body, answer.headers = changed.status, changed.body, changed.headers
    if (fault := faults.get("redirectAfterEffect")) is not None:
        changed = _redirect(call, fault)
        answer.status, answer.body, answer.headers = changed.status, changed.body, changed.headers
    if "wrongTypeBody" in faults and answer.body is not None:
        answer.body = [answer.body]
    if (fault := faults.get("retryAfter")) is not None:
        answer.headers.pop("Retry-After", None)
        if fault.retry_after is not None:
            answer.headers["Retry-After"] = str(fault.retry_after)
    if (fault := faults.get("missingHeaders")) is not None:
        left_out = {name.lower() for name in fault.headers}
        answer.headers = {
            name: value for name, value in answer.headers.items() if name.lower() not in left_out
        }
    if (fault := faults.get("foreignPollUrl")) is not None:
        for name in ("Location", "Azure-AsyncOperation"):
            if name in answer.headers:
                answer.headers[name] = urlsplit(answer.headers[name])._replace(netloc=fault.host).geturl()
    if isinstance(answer.body, dict) and isinstance(answer.body.get("value"), list):
        if (fault := faults.get("foreignNextLink")) is not None:
            link = f"{call.request.origin}{call.request.path}?{call.request.query}"
            answer.body["nextLink"] = urlsplit(link)._replace(netloc=fault.host).geturl()
        if "nextLinkLoop" in faults:
            query = call.request.query
            answer.body["nextLink"] = f"{call.request.origin}{quote(call.path, safe='/;')}?{query}"
