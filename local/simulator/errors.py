"""Error answers of the service, in the words of ARM and Azure Backup."""

from __future__ import annotations

from typing import Any


class ServiceError(Exception):
    """An error answer: HTTP `status` and ARM's `{"error": {...}}` body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        plain: bool = False,
        additional: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
        self._plain = plain
        self._additional = additional

    @property
    def cause(self) -> str:
        """Who refused: Resource Manager itself (`gateway`) or the provider behind it (`service`)."""
        return "gateway" if self._plain else "service"

    def body(self) -> dict[str, Any]:
        """The JSON body. ARM's own errors have a code and a message, the provider's three more fields."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if not self._plain:
            error |= {"target": None, "details": None, "innerError": None}
        if self._additional is not None:
            error["additionalInfo"] = self._additional
        return {"error": error}


def arm(status: int, code: str, message: str, **headers: str) -> ServiceError:
    """An error of Azure Resource Manager itself."""
    return ServiceError(status, code, message, headers=headers, plain=True)


def not_authorized(client: str, object_id: str, action: str, scope: str) -> ServiceError:
    """The caller may not do that there."""
    return arm(
        403,
        "AuthorizationFailed",
        f"The client '{client}' with object id '{object_id}' does not have authorization to perform action '{action}' "
        f"over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your "
        "credentials.",
    )


def invalid_input(message: str) -> ServiceError:
    """A body or parameter that the backup service cannot take."""
    return ServiceError(400, "UserErrorInvalidRequestParameter", message)


def item_not_found() -> ServiceError:
    """The protected item named in the URL does not exist."""
    return ServiceError(
        404,
        "BMSUserErrorDataSourceObjectNotFound",
        "Item not found.\r\nSelected item might have been deleted. "
        "Please check if item is registered to the vault.",
    )


def container_not_found(name: str) -> ServiceError:
    """The protection container named in the URL is not registered with the vault."""
    return ServiceError(
        404, "BMSUserErrorContainerObjectNotFound", f"Container {name} is not registered with the vault."
    )


def policy_not_found(name: str) -> ServiceError:
    """The policy named in a body does not exist in the vault."""
    return ServiceError(404, "BMSUserErrorPolicyObjectNotFound", f"Policy {name} was not found in the vault.")


class JobError(Exception):
    """Why a job ended without doing what it was for; `title` is the symbolic code, `number` the service's.

    With `cancelled` the job ends Cancelled, not Failed.
    """

    def __init__(
        self, number: int, title: str, message: str, recommendations: list[str], *, cancelled: bool = False
    ) -> None:
        super().__init__(f"{title}: {message}")
        self.number = number
        self.title = title
        self.message = message
        self.recommendations = recommendations
        self.cancelled = cancelled

    def detail(self) -> dict[str, Any]:
        """The entry in a job's `errorDetails`."""
        return {
            "errorCode": self.number,
            "errorString": self.message,
            "errorTitle": self.title,
            "recommendations": self.recommendations,
        }
