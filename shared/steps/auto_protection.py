"""Auto-protection: the service's own intent to protect every database of an instance, including new ones.

Follows https://learn.microsoft.com/azure/backup/backup-sql-server-database-azure-vms#enable-auto-protection and
recorded calls of 2024-04-22: a PUT for the same instance under another name makes a second intent, so existing intents
are listed first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.arm.ids import ContainerId
from shared.engine.message import StepMessage
from shared.engine.result import Call, Collaborators, End, Failure, Result
from shared.messages.error_codes import ErrorCode
from shared.messages.events import OutcomeDetails, Status
from shared.messages.identity import Database
from shared.messages.requests import DatabaseSelector, ProtectData
from shared.names import enumeration, same_name
from shared.steps.candidates import Candidate
from shared.steps.payloads import ProtectTask
from shared.steps.protect_selection import ProtectChoice
from shared.steps.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.azure_backup.models import ProtectableItem, ProtectionIntent

#: The database name in an outcome for all databases of an instance.
EVERY_DATABASE: Final = "*"
_STATE: Final = "AutoProtected"


def add_instances(
    data: ProtectData,
    offered: Sequence[ProtectableItem],
    chosen: Selection[ProtectChoice],
    *,
    policy_name: str,
) -> None:
    """Add the instances that the request wants auto-protected to its selection, each with an outcome of its own."""
    instances = [item for item in offered if item.is_instance]
    added: set[str] = set()
    for pattern in data.auto_protect:
        selector = DatabaseSelector(instance=pattern, database=EVERY_DATABASE)
        meant = [item for item in instances if selector.matches_parent(item.name, False)]
        if not meant:
            there = enumeration(item.name for item in instances)
            text = f"autoProtect: there is no instance {pattern} on {data.vm_id}; there are: {there}."
            chosen.failures.append((_all_of(data, pattern), Failure(ErrorCode.INSTANCE_NOT_FOUND, text)))
        for item in meant:
            if item.id.lower() in added:
                continue
            added.add(item.id.lower())
            database = _all_of(data, item.name)
            trouble = item.prebackup_validation
            if trouble is not None:
                text = (
                    f"autoProtect: the service does not back up the instance {item.name}: {trouble.message}"
                )
                chosen.failures.append((database, Failure(trouble.code, text)))
                continue
            candidate = Candidate(database=database, protectable=item)
            chosen.tasks.append(ProtectChoice(candidate, item.protected_item_id, "autoProtect", policy_name))


def _all_of(data: ProtectData, instance: str) -> Database:
    return Database(vm_id=data.vm_id, instance=instance, name=EVERY_DATABASE)


def auto_protect(message: StepMessage[ProtectTask], collaborators: Collaborators) -> Result:
    """Create the intent, or change its policy, unless it exists already."""
    task = message.payload
    intents = _intents(message, collaborators)
    done = _as_it_is(task, intents)
    if done is not None:
        return done
    existing = next((intent.name for intent in intents), None)
    return Call(
        make=lambda azure, request_id: azure.put_protection_intent(
            message.vault_id,
            # The same name again, so that a repeated call makes no second intent.
            existing or request_id,
            item_id=task.item_id,
            policy_id=task.policy_id,
            client_request_id=request_id,
        ),
        at_once=lambda _made: _done(task.policy_name),
    )


def auto_protected(message: StepMessage[ProtectTask], collaborators: Collaborators) -> End | None:
    """The end where the instance turns out to be auto-protected already; None where it is not."""
    return _as_it_is(message.payload, _intents(message, collaborators))


def _intents(message: StepMessage[ProtectTask], collaborators: Collaborators) -> list[ProtectionIntent]:
    task = message.payload
    container = ContainerId.above(task.item_id)
    return collaborators.azure.list_protection_intents(
        message.vault_id, item_name=task.database.parent, item_type="SQLInstance", container=container
    )


def _as_it_is(task: ProtectTask, intents: Sequence[ProtectionIntent]) -> End | None:
    if not intents:
        return None
    current = intents[0].policy_name or ""
    if same_name(current, task.policy_name) or task.on_existing == "keep":
        return _done(current or task.policy_name)
    if task.on_existing == "changePolicy":
        return None
    return Failure(
        ErrorCode.PROTECTED_BY_ANOTHER_POLICY,
        f"instance {task.database.parent} is auto-protected by policy {current}, not by {task.policy_name}; set"
        " onExisting to changePolicy or keep.",
    ).end


def _done(policy_name: str) -> End:
    return End(Status.SUCCEEDED, details=OutcomeDetails(policy_name=policy_name, protection_state=_STATE))
