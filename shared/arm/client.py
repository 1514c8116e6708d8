"""The HTTP client for Azure Resource Manager.

One call is one request, with two exceptions that cannot do harm: a GET whose connection broke, or that got a 401, is
repeated once, immediately. After a 401 the token is a new one, with the claims that Azure asks for where it
challenges the old one; a call that changes anything is not repeated here, and its next one has the new token.
The caller decides on everything else, from the class of the error (see `shared.arm.errors`). The whole of a call,
its token included, ends within `http_timeout` (`shared.arm.deadline`).
"""

from __future__ import annotations

import base64
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar
from urllib.parse import quote, urlsplit

from shared.arm import USER_AGENT
from shared.arm.budget import Admission, RequestBudget
from shared.arm.credentials import TokenSource
from shared.arm.deadline import deadline
from shared.arm.endpoint import ArmEndpoint, RefusedUrlError
from shared.arm.errors import (
    ArmAnswerLostError,
    ArmError,
    ArmNotSentError,
    ArmPacedError,
    ArmProtocolError,
    ArmRedirectError,
    ArmStatusError,
    ArmUntrustedError,
    ArmUrlRefusedError,
    TokenUnavailableError,
)
from shared.arm.ids import VaultId
from shared.arm.redaction import printable, redact
from shared.arm.retry_after import parse as parse_retry_after
from shared.arm.retry_after import parse_http_date
from shared.clock import Clock, ServiceClock, ServiceTime
from shared.json_nesting import MOST_LEVELS, is_nested_too_deeply
from shared.telemetry import tracing
from shared.telemetry.log import logger
from shared.telemetry.tracing import Instrument

if TYPE_CHECKING:
    from shared.arm.transport import RawAnswer, Transport, TransportError

__all__ = ["RESOURCE_GRAPH", "ArmClient", "ArmResponse"]

_log = logger(__name__)

_LARGEST_BODY = 32 * 1024 * 1024
_MOST_PAGES = 10_000
#: Ten times the jobs of a month in the largest vault: no list is that long.
_MOST_ITEMS = 500_000
_MOST_BYTES = 256 * 1024 * 1024
#: The caller holds a message meanwhile, whose lock lasts five minutes.
_LONGEST_LISTING = timedelta(seconds=90)
_E = TypeVar("_E", bound=ArmError)
_CLAIMS = re.compile(r'\bclaims="([A-Za-z0-9+/_=-]{1,8192})"')
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
RESOURCE_GRAPH = "/providers/Microsoft.ResourceGraph/resources"
_RESOURCE_GRAPH_VERSION = "2021-03-01"
_REMAINING = "x-ms-ratelimit-remaining-"


@dataclass(frozen=True)
class ArmResponse:
    """A 2xx answer. Its text shows neither URLs nor the body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  #: lower-case names
    body: Any = field(repr=False)  #: the parsed JSON; None where there was none
    date: ServiceTime | None = None  #: the service's time of the answer
    size: int = 0  #: the body's size in bytes

    def retry_after(self, now: ServiceTime) -> timedelta | None:
        """How long the service asks to wait before the next call."""
        return parse_retry_after(self.headers.get("retry-after"), self.date or now)


@dataclass(frozen=True)
class _Call:
    """A call, and its name in errors and logs."""

    operation: str
    method: str
    path: str  #: for errors: never with a query
    url: str = field(repr=False)
    subscription_id: str
    client_request_id: str
    body: bytes | None = field(default=None, repr=False)

    def failed(self, family: type[_E], problem: str, *, request_id: str | None = None) -> _E:
        """An error of the given class that names this call."""
        return family(
            problem,
            operation=self.operation,
            method=self.method,
            path=self.path,
            client_request_id=self.client_request_id,
            request_id=request_id,
        )


class ArmClient:
    """Calls Azure Resource Manager. Safe to share between threads; `close` it at the end.

    Every call raises an `ArmError` where the service or the connection failed, and a `TokenError` where there is no
    token.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        token_source: TokenSource,
        clock: Clock,
        service_clock: ServiceClock,
        http_timeout: timedelta = timedelta(seconds=30),
        transport: Transport | None = None,
    ) -> None:
        """A call ends within `http_timeout`. Raises ArmEndpointError where tokens must not be sent to `endpoint`.

        `transport`: what carries the calls (default: HTTP).
        """
        self._endpoint = ArmEndpoint.parse(endpoint)
        self._token_source = token_source
        self._clock = clock
        self._service_clock = service_clock
        self._http_timeout = http_timeout
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._transport = transport
        #: what is left of the service's rate limits
        self.budget = RequestBudget(clock, service_clock.scale)

    @property
    def endpoint(self) -> str:
        """`scheme://host[:port]` of the Resource Manager."""
        return self._endpoint.url

    @property
    def service_clock(self) -> ServiceClock:
        """The clock of the service, kept right by its answers."""
        return self._service_clock

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def get(self, operation: str, path: str, *, params: Mapping[str, str]) -> ArmResponse:
        """GET `path` (quoted, from an id's `url_path`)."""
        return self._ask(self._call(operation, "GET", path, params))

    def put(
        self,
        operation: str,
        path: str,
        *,
        params: Mapping[str, str],
        json: object | None,
        client_request_id: str,
    ) -> ArmResponse:
        """PUT `json` to `path`; `client_request_id` is what Azure is told to trace the call by."""
        return self._ask(
            self._call(operation, "PUT", path, params, content=json, client_request_id=client_request_id)
        )

    def post(
        self,
        operation: str,
        path: str,
        *,
        params: Mapping[str, str],
        json: object | None,
        client_request_id: str,
    ) -> ArmResponse:
        """POST `json` to `path`; `client_request_id` is what Azure is told to trace the call by."""
        return self._ask(
            self._call(operation, "POST", path, params, content=json, client_request_id=client_request_id)
        )

    def query_resource_graph(self, operation: str, query: Mapping[str, object]) -> ArmResponse:
        """POST a query to Azure Resource Graph, which changes nothing.

        It is the only address outside a subscription that is ever called; the service decides who may read what.
        https://learn.microsoft.com/rest/api/azureresourcegraph/resourcegraph/resources/resources
        """
        return self._ask(
            _Call(
                operation=operation,
                method="POST",
                path=RESOURCE_GRAPH,
                url=f"{self._endpoint.url}{RESOURCE_GRAPH}?api-version={_RESOURCE_GRAPH_VERSION}",
                subscription_id="",
                client_request_id=str(uuid.uuid4()),
                body=_serialised(query),
            )
        )

    def delete(
        self, operation: str, path: str, *, params: Mapping[str, str], client_request_id: str
    ) -> ArmResponse:
        """DELETE `path`; `client_request_id` is what Azure is told to trace the call by."""
        return self._ask(self._call(operation, "DELETE", path, params, client_request_id=client_request_id))

    def get_url(self, operation: str, url: str, *, vault: VaultId) -> ArmResponse:
        """GET a URL from an answer, unchanged.

        Raises:
            ArmUrlRefusedError: it leaves the endpoint or the vault's subscription; nothing was sent.
        """
        return self._ask(self._follow(operation, url, vault.subscription_id))

    def pages(
        self,
        operation: str,
        path: str,
        *,
        params: Mapping[str, str],
        counted: Callable[[int], None] | None = None,
    ) -> Iterator[Any]:
        """The items of all pages of a listing, in the service's order; each should be a JSON object.

        `counted` is called at the end with the number of pages.

        Raises:
            ArmUrlRefusedError: a `nextLink` leaves the endpoint or the subscription.
            ArmProtocolError: a page has an unexpected form, the links form a circle, or the list does not end in time,
            or within 500,000 items or 256 MiB.
        """
        call = self._call(operation, "GET", path, params)
        seen = {call.url}
        items = size = 0
        expected = self.budget.pages(operation)
        ends = self._clock.monotonic() + _LONGEST_LISTING.total_seconds()
        for number in range(_MOST_PAGES):
            if self._clock.monotonic() > ends:
                raise call.failed(
                    ArmProtocolError, f"the list has not ended after {number:,} pages and {_LONGEST_LISTING}"
                )
            response = self._ask(call, cost=expected, begun=number > 0)
            values, link = _page(call, response)
            items += len(values)
            size += response.size
            if items > _MOST_ITEMS or size > _MOST_BYTES:
                raise call.failed(
                    ArmProtocolError,
                    f"the list is longer than {_MOST_ITEMS:,} items or {_MOST_BYTES:,} bytes",
                    request_id=_request_id(response.headers),
                )
            yield from values
            if not link:
                self.budget.listed(operation, number + 1)
                if counted is not None:
                    counted(number + 1)
                return
            call = self._follow(operation, link, call.subscription_id, path=call.path)
            if call.url in seen:
                raise call.failed(
                    ArmProtocolError, "the pages link in a circle", request_id=_request_id(response.headers)
                )
            seen.add(call.url)
        raise call.failed(ArmProtocolError, f"the list has more than {_MOST_PAGES:,} pages")

    def _call(
        self,
        operation: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        content: object | None = None,
        client_request_id: str | None = None,
    ) -> _Call:
        client_request_id = client_request_id or str(uuid.uuid4())
        query = "&".join(
            f"{quote(name, safe='$-')}={quote(value, safe='')}" for name, value in params.items()
        )
        url = f"{self._endpoint.url}{path}?{query}" if query else f"{self._endpoint.url}{path}"
        segments = path.split("/")
        subscription_id = segments[2] if len(segments) > 3 else ""
        call = _Call(
            operation=operation,
            method=method,
            path=printable(path.partition("?")[0]),
            url=url,
            subscription_id=subscription_id,
            client_request_id=client_request_id,
            body=None if content is None else _serialised(content),
        )
        # Paths are made of checked ids; this is for callers that forget.
        self._accept(call, url)
        if "?" in path:
            raise call.failed(ArmUrlRefusedError, "a path holds a question mark")
        return call

    def _follow(self, operation: str, url: str, subscription_id: str, *, path: str | None = None) -> _Call:
        call = _Call(
            operation=operation,
            method="GET",
            path=path or _shown_path(url),
            url=url,
            subscription_id=subscription_id,
            client_request_id=str(uuid.uuid4()),
        )
        return replace(call, url=self._accept(call, url))

    def _accept(self, call: _Call, url: str) -> str:
        try:
            return self._endpoint.accept(url, subscription_id=call.subscription_id)
        except RefusedUrlError as error:
            self._refuse(call, str(error))

    def _refuse(
        self,
        call: _Call,
        problem: str,
        *,
        family: type[ArmUrlRefusedError] = ArmUrlRefusedError,
        request_id: str | None = None,
    ) -> NoReturn:
        _log.warning(
            "refused: %s",
            problem,
            extra={"action": "url_refused", "operation": call.operation, "path": call.path},
        )
        raise call.failed(family, f"not followed, {problem}", request_id=request_id)

    def _ask(self, call: _Call, *, cost: int = 1, begun: bool = False) -> ArmResponse:
        # Neither path nor query: poll URLs are signed.
        attributes = {tracing.REQUEST_METHOD: call.method, tracing.CLIENT_REQUEST_ID: call.client_request_id}
        if tracing.current_context() is None:
            return self._asked(call, cost=cost, begun=begun)
        with tracing.span(call.operation, kind=tracing.Kind.CLIENT, attributes=attributes) as span:
            try:
                response = self._asked(call, cost=cost, begun=begun)
            except ArmStatusError as error:
                span.set(tracing.RESPONSE_STATUS, error.status)
                raise
            span.set(tracing.RESPONSE_STATUS, response.status)
            span.set(tracing.SERVICE_REQUEST_ID, _request_id(response.headers))
            return response

    def _asked(self, call: _Call, *, cost: int, begun: bool) -> ArmResponse:
        used = ""

        def current_token() -> str:
            nonlocal used
            used = self._token_source.token()
            return used

        admission = self.budget.admit(
            call.subscription_id, call.method, urlsplit(call.url).path, cost=cost, begun=begun
        )
        if isinstance(admission, timedelta):
            raise ArmPacedError(
                retry_after=admission, operation=call.operation, method=call.method, path=call.path
            )
        answer: RawAnswer | None = None
        try:
            with deadline(self._http_timeout):
                answer = self._exchange(call, current_token)
                if answer.status == 401:
                    challenged = "insufficient_claims" in answer.headers.get("www-authenticate", "")
                    claims = _claims_in(answer.headers) if challenged else None
                    # A new token without the claims would be challenged for them again.
                    if claims is not None or not challenged:
                        fresh = self._fresh_token(used, claims)
                        # A call that changes something is repeated only by a caller that can check whether it took
                        # effect.
                        if call.method == "GET":
                            answer = self._exchange(call, lambda: fresh)
        finally:
            if answer is None or answer.status != 429:
                self.budget.answered(admission, answer.headers if answer is not None else None)
                if answer is not None and tracing.is_on():
                    _measure_left(answer.headers, call.operation)
        return self._judge(call, answer, admission)

    def authenticate(self) -> None:
        """Get a token, and keep it for the calls to come.

        Raises:
            AuthenticationError: no token until someone changes the configuration or signs in.
            TokenUnavailableError: no token just now.
        """
        self._token_source.token()

    def _fresh_token(self, rejected: str, claims: str | None) -> str:
        """A token other than the one that was rejected: one refresh, however many threads need it."""
        with deadline(self._http_timeout) as limit:
            if not self._refreshing.acquire(timeout=limit.remaining):
                raise TokenUnavailableError("no new token came in time, after Azure rejected the last one")
            try:
                token = self._token_source.token()
                return token if token != rejected else self._token_source.token(refresh=True, claims=claims)
            finally:
                self._refreshing.release()

    def _exchange(self, call: _Call, token: Callable[[], str]) -> RawAnswer:
        """Send the call and read its answer, whatever its status."""
        from shared.arm.transport import ConnectionBrokenError, TransportError

        started = self._clock.monotonic()
        try:
            try:
                answer = self._send(call, token)
            except ConnectionBrokenError:
                # The server may have closed a kept connection. Repeating a GET changes nothing.
                if call.method != "GET":
                    raise
                answer = self._send(call, token)
        except TransportError as error:
            raise self._transport_failure(call, error) from error
        if (date := parse_http_date(answer.headers.get("date"))) is not None:
            # Whatever stands between, such as a proxy, answers without a request id of the service.
            self._service_clock.answered(date, by_service=_request_id(answer.headers) is not None)
        _log.debug(
            "%s %s: %d",
            call.method,
            call.path,
            answer.status,
            extra={
                "action": "arm_call",
                "operation": call.operation,
                "status": answer.status,
                "seconds": round(self._clock.monotonic() - started, 3),
                "client_request_id": call.client_request_id,
                "request_id": answer.headers.get("x-ms-request-id"),
            },
        )
        return answer

    def _send(self, call: _Call, token: Callable[[], str]) -> RawAnswer:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": USER_AGENT,
            "x-ms-client-request-id": call.client_request_id,
            "x-ms-return-client-request-id": "true",
        }
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        return self._open_transport().send(
            call.method, call.url, headers=headers, token=token, body=call.body, max_body=_LARGEST_BODY
        )

    def _open_transport(self) -> Transport:
        with self._lock:
            if self._transport is None:
                from shared.arm.transport import HttpTransport

                self._transport = HttpTransport(self._endpoint, http_timeout=self._http_timeout)
            return self._transport

    def _transport_failure(self, call: _Call, error: TransportError) -> ArmNotSentError | ArmAnswerLostError:
        if error.sent:
            return call.failed(ArmAnswerLostError, f"the answer of {self._endpoint.url} was lost: {error}")
        from shared.arm.transport import UntrustedError

        family = ArmUntrustedError if isinstance(error, UntrustedError) else ArmNotSentError
        return call.failed(family, f"{self._endpoint.url} was not reached: {error}")

    def _judge(self, call: _Call, answer: RawAnswer, admission: Admission) -> ArmResponse:
        """The response, or raise the error that the answer is."""
        request_id = _request_id(answer.headers)
        if 300 <= answer.status < 400:
            problem = f"Azure answered with a redirect ({answer.status})"
            family = ArmUrlRefusedError if call.method == "GET" else ArmRedirectError
            self._refuse(call, problem, family=family, request_id=request_id)
        if answer.status >= 400:
            error = self._status_error(call, answer)
            if answer.status == 429:
                code = error.code.lower()
                # Some 429 speak of the resource alone, not of a rate limit.
                self.budget.answered(
                    admission,
                    answer.headers,
                    refused="throttled" in code or code in ("", "toomanyrequests"),
                    by_subscription=code in ("subscriptionrequeststhrottled", "tenantrequeststhrottled"),
                    retry_after=error.retry_after,
                )
            raise error
        if answer.status < 200:
            raise call.failed(
                ArmProtocolError, f"Azure answered with the status {answer.status}", request_id=request_id
            )
        body: Any = None
        if answer.body.strip():
            try:
                body = _parsed(answer.body)
            except _NestedTooDeeplyError:
                raise call.failed(
                    ArmProtocolError,
                    f"Azure answered {answer.status} with no JSON that can be read: it has over {MOST_LEVELS} levels",
                    request_id=request_id,
                ) from None
            except ValueError:
                kind = printable(answer.headers.get("content-type", "no content type"), limit=60)
                raise call.failed(
                    ArmProtocolError,
                    f"Azure answered {answer.status} with something that is no JSON ({kind}): "
                    f'"{_excerpt(answer)}"',
                    request_id=request_id,
                ) from None
        date = parse_http_date(answer.headers.get("date"))
        return ArmResponse(answer.status, answer.headers, body, date, len(answer.body))

    def _status_error(self, call: _Call, answer: RawAnswer) -> ArmStatusError:
        code, message, recommendations = _error_in(answer)
        now = parse_http_date(answer.headers.get("date")) or self._service_clock.now()
        return ArmStatusError(
            status=answer.status,
            code=code,
            message=message,
            retry_after=parse_retry_after(answer.headers.get("retry-after"), now),
            recommendations=recommendations,
            operation=call.operation,
            method=call.method,
            path=call.path,
            client_request_id=call.client_request_id,
            request_id=_request_id(answer.headers),
        )


def _measure_left(headers: Mapping[str, str], operation: str) -> None:
    """Measure the limits that an answer's headers say are left.

    https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling#remaining-requests"""
    for name, value in headers.items():
        if name.startswith(_REMAINING) and value.strip().isdigit():
            limit = name.removeprefix(_REMAINING)
            tracing.measure(Instrument.READS_LEFT, int(value), limit=limit, operation=operation)


def _serialised(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class _NestedTooDeeplyError(ValueError):
    """JSON is nested too deeply."""


def _parsed(body: bytes) -> Any:
    """The JSON in a body. Raises ValueError for what is no JSON, _NestedTooDeeplyError for what is nested too deeply.

    Half of a surrogate pair is legal in JSON, but no text: neither a message nor a URL could hold it. U+FFFD
    stands in for it, so that it harms nothing but the text that it is in.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, parse_constant=refuse)
        if _ESCAPED_SURROGATE.search(text):
            value = json.loads(
                _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", json.dumps(value, ensure_ascii=False))
            )
    except RecursionError:
        raise _NestedTooDeeplyError from None
    if is_nested_too_deeply(value):
        raise _NestedTooDeeplyError
    return value


def _claims_in(headers: Mapping[str, str]) -> str | None:
    """The claims, in JSON, that a challenge asks the next token for; None where they cannot be read.

    https://learn.microsoft.com/entra/identity-platform/claims-challenge
    """
    found = _CLAIMS.search(headers.get("www-authenticate", ""))
    if found is None:
        return None
    encoded = found[1].rstrip("=")
    try:
        claims = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        return claims if isinstance(json.loads(claims), dict) else None
    except ValueError:
        return None


def _excerpt(answer: RawAnswer) -> str:
    return redact(answer.body[:4096].decode("utf-8", "replace"), limit=200)


def _shown_path(url: str) -> str:
    """The path of a URL, for errors."""
    try:
        return printable(urlsplit(url).path, limit=400)
    except ValueError:
        return ""


def _request_id(headers: Mapping[str, str]) -> str | None:
    found = headers.get("x-ms-request-id") or headers.get("x-ms-correlation-request-id")
    return None if found is None else printable(found, limit=100)


def _page(call: _Call, response: ArmResponse) -> tuple[list[Any], str]:
    """The items of a page, and the link to the next one; empty where it is the last."""
    body = response.body
    if not isinstance(body, dict) or not isinstance(body.get("value"), list):
        raise call.failed(
            ArmProtocolError, "the answer is no list of resources", request_id=_request_id(response.headers)
        )
    link = body.get("nextLink")
    if link is not None and not isinstance(link, str):
        raise call.failed(
            ArmProtocolError, "the link to the next page is no text", request_id=_request_id(response.headers)
        )
    return body["value"], link or ""


def _error_in(answer: RawAnswer) -> tuple[str, str, tuple[str, ...]]:
    """Code, message and recommendations of an error body, in any of the forms Azure uses.

    The forms are `{"error": {code, message, details, additionalInfo}}` (ARM), the same without the outer
    `error`, with capital letters, or under `odata.error`; `additionalInfo` may hold `recommendedAction`.
    """
    try:
        body = _parsed(answer.body) if answer.body.strip() else None
    except ValueError:
        return "", _excerpt(answer), ()
    if not isinstance(body, dict):
        return "", "" if body is None else _excerpt(answer), ()
    lowered = _lower_keys(body)
    error = lowered.get("error", lowered.get("odata.error", lowered))
    if isinstance(error, str):
        described = lowered.get("error_description") or lowered.get("message")
        return error, redact(described) if isinstance(described, str) else "", ()
    if not isinstance(error, dict):
        return "", _excerpt(answer), ()
    error = _lower_keys(error)
    code = printable(error["code"], limit=200) if isinstance(error.get("code"), str | int) else ""
    found = error.get("message")
    if isinstance(found, dict):
        found = found.get("value")
    message = redact(found, limit=2000) if isinstance(found, str) else ""
    if not code and not message:
        message = _excerpt(answer)
    return code, message, _recommendations(error)


def _recommendations(error: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[object] = []
    for holder in (error, *(error.get("additionalinfo") or ()), *(error.get("details") or ())):
        if not isinstance(holder, dict):
            continue
        lowered = _lower_keys(holder)
        info = lowered.get("info")
        for source in (lowered, _lower_keys(info) if isinstance(info, dict) else {}):
            for name in ("recommendations", "recommendedaction"):
                listed = source.get(name)
                found += listed if isinstance(listed, list) else [listed]
    texts = (redact(text, limit=1000) for text in found if isinstance(text, str) and text.strip())
    return tuple(dict.fromkeys(texts))


def _lower_keys(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name).lower(): value for name, value in mapping.items()}
