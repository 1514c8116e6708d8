"""What can go wrong between a call and its answer.

    ArmError
    ├── ArmNotSentError       the request was never sent: nothing has started
    │   ├── ArmUntrustedError the server has no trusted certificate
    │   └── ArmPacedError     the app held it back, since the service would refuse it
    ├── ArmAnswerLostError    sent, but no whole answer came back: it may have started
    ├── ArmStatusError        the service answered 4xx or 5xx
    ├── ArmProtocolError      the service answered 2xx, but with an unexpected form
    └── ArmUrlRefusedError    a URL leads elsewhere: it was not followed
        └── ArmRedirectError  the answer is a redirect: it was not followed, and the call may have taken effect
    TokenError                no call was made, since there is no token
    ├── AuthenticationError   the configuration is wrong, or a sign-in is missing: permanent
    └── TokenUnavailableError no token just now: worth another try

Only `may_have_started` says whether a mutating call may have taken effect. The text of an error is one sentence and
the ids that Azure's support asks for; it never holds a token or the query of a URL.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

__all__ = [
    "ArmAnswerLostError",
    "ArmEndpointError",
    "ArmError",
    "ArmNotSentError",
    "ArmPacedError",
    "ArmProtocolError",
    "ArmRedirectError",
    "ArmStatusError",
    "ArmUntrustedError",
    "ArmUrlRefusedError",
    "AuthenticationError",
    "TokenError",
    "TokenUnavailableError",
]


#: Statuses with which the service, or a gateway before it, turns a call away before it can take effect.
_TURNED_AWAY: Final = frozenset({401, 403, 409, 425, 429})


#: Codes of a 404 that say that what the resource is in is not there.
PARENT_NOT_FOUND: Final = frozenset({"resourcegroupnotfound", "subscriptionnotfound"})
#: Codes of a 404 that say nothing of any resource: the cloud, or its version of the API, does not have the call.
CALL_NOT_FOUND: Final = frozenset({"resourceprovidernotfound", "resourcetypenotfound", "apiversionnotfound"})


class ArmEndpointError(ValueError):
    """`ARM_ENDPOINT` is no address that the app may send tokens to; `problem` says why."""

    def __init__(self, shown: str, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f'ARM_ENDPOINT "{shown}" {problem}: give https://<host>, such as https://management.azure.com, or '
            "http://127.0.0.1:<port> for a simulator"
        )


class ArmError(Exception):
    """A call to Azure Resource Manager failed."""

    #: whether the effect of a mutating call may have happened
    may_have_started: bool = False

    def __init__(
        self,
        summary: str,
        *,
        operation: str,
        method: str,
        path: str,
        client_request_id: str | None,
        request_id: str | None = None,
    ) -> None:
        self.summary = summary
        self.operation = operation
        self.method = method
        self.path = path
        self.client_request_id = client_request_id
        self.request_id = request_id
        ids = [f"{method} {path}"]
        if client_request_id:
            ids.append(f"client request id {client_request_id}")
        if request_id:
            ids.append(f"request id {request_id}")
        super().__init__(f"{operation}: {summary} ({', '.join(ids)})")

    @property
    def is_mutation(self) -> bool:
        """Whether the call was meant to change something."""
        return self.method != "GET"


class ArmNotSentError(ArmError):
    """The request never reached the service: refused, unknown host, TLS or proxy trouble."""


class ArmUntrustedError(ArmNotSentError):
    """The server at the endpoint has no trusted certificate: nothing was sent, and nothing will be."""


class ArmPacedError(ArmNotSentError):
    """The rate limits leave no room for the call now: it was not sent. Its turn comes after `retry_after`."""

    def __init__(self, *, retry_after: timedelta, operation: str, method: str, path: str) -> None:
        super().__init__(
            f"the rate limits of the subscription leave no room for {retry_after.total_seconds():.1f} s",
            operation=operation,
            method=method,
            path=path,
            client_request_id=None,
        )
        self.retry_after = retry_after


class ArmAnswerLostError(ArmError):
    """The request was sent, and its answer did not arrive whole: time-out, reset, truncation."""

    may_have_started = True


class ArmStatusError(ArmError):
    """The service answered with an error status.

    `code` is the service's symbolic code, `""` where the answer held none (a proxy's page, an empty body).
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        message: str,
        retry_after: timedelta | None,
        recommendations: tuple[str, ...] = (),
        operation: str,
        method: str,
        path: str,
        client_request_id: str | None,
        request_id: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.recommendations = recommendations
        # These turn the request away before any effect; a 5xx may come after one, and an error without a code may be a
        # proxy's, which says nothing about the call's effect.
        refused = status in _TURNED_AWAY or (400 <= status < 500 and status != 408 and bool(code))
        self.may_have_started = not refused
        said = f"Azure answered {status}"
        if code:
            said += f" {code}"
        if message:
            said += f": {message}"
        super().__init__(
            said,
            operation=operation,
            method=method,
            path=path,
            client_request_id=client_request_id,
            request_id=request_id,
        )


class ArmProtocolError(ArmError):
    """A successful status with a body or headers of an unexpected form."""

    may_have_started = True


class ArmUrlRefusedError(ArmError):
    """A URL in an answer, or a redirect, leads to where the app must not send its token."""


class ArmRedirectError(ArmUrlRefusedError):
    """A mutating call was answered by a redirect: it is not followed, and the call may have taken effect."""

    may_have_started = True


class TokenError(Exception):
    """There is no token for Azure Resource Manager."""


class AuthenticationError(TokenError):
    """There is no token until someone changes the configuration or signs in."""


class TokenUnavailableError(TokenError):
    """There is no token just now."""
