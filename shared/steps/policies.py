"""The policy that a request names: the one it means, and the names that a new one can have."""

from __future__ import annotations

from collections.abc import Iterable

from shared.arm.ids import InvalidResourceIdError, check_new_policy_name
from shared.arm.redaction import printable
from shared.azure_backup.models import Policy
from shared.engine.result import Failure, refused
from shared.messages.error_codes import ErrorCode
from shared.names import AmbiguousNameError, only_named


def policy_named(name: str, policies: Iterable[Policy]) -> Policy | Failure | None:
    """The policy of that name; None where there is none.

    A Failure where the name is ambiguous, and for a policy that this app cannot use.
    """
    try:
        policy = only_named(name, policies, lambda named: named.name)
    except AmbiguousNameError as error:
        return Failure(ErrorCode.AMBIGUOUS_POLICY, f"{error}. Name one exactly.")
    if policy is not None and policy.cannot_protect is not None:
        return Failure(
            ErrorCode.POLICY_NOT_SUPPORTED,
            f"the policy {printable(policy.name)} {policy.cannot_protect}; name a policy for SQL databases that streams"
            " its backups.",
        )
    return policy


def invalid_new_name(policy_name: str) -> Failure | None:
    """The Failure where no policy of that name can be created."""
    try:
        check_new_policy_name(policy_name)
    except InvalidResourceIdError as error:
        return refused(ErrorCode.INVALID_POLICY_NAME, f"policyName: {error}.")
    return None
